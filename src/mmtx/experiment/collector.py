"""All errors of a config together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmtx.config.check import Finding, findings
from mmtx.config.schema import Config
from mmtx.errors import ConfigErrors, InvalidValue


class Collector:
    """Goes on after an error, so that all are reported together."""

    def __init__(self, found: Sequence[Finding]) -> None:
        self.paths = [finding.path for finding in found if not finding.unknown]
        self.messages = [finding.message for finding in found]

    @classmethod
    def of(cls, config: Config) -> tuple[Collector, Config]:
        """Begins with what the check finds in a config. Gives also the config without its unknown keys.

        Raises:
            ConfigErrors: a top-level key is missing, and without it nothing can be tried.
        """
        found = findings(config)
        collector = cls(found)
        if any("." not in finding.path and finding.path not in config for finding in found):
            raise ConfigErrors(collector.messages)
        return collector, _without(config, [finding.path.split(".") for finding in found if finding.unknown])

    def attempt(self, path: str, make: Callable[[], Any]) -> Any:
        """The object, or None if it cannot be made or its config is already known to be wrong."""
        if any(p == path or p.startswith(f"{path}.") for p in self.paths):
            return None
        try:
            return make()
        except InvalidValue as error:
            complete = error.key == path or error.key.startswith((f"{path}.", "encoder."))
            self.messages.append(str(error if complete else error.under(path)))
        except (ValueError, TypeError) as error:
            self.messages.append(f"{path}: {error}")
        self.paths.append(path)
        return None


def _without(config: Config, paths: Sequence[Sequence[str]]) -> Config:
    """A copy without the keys at some paths."""
    kept = {}
    for key, value in config.items():
        inner = [path[1:] for path in paths if path[0] == key]
        if [] not in inner:
            kept[key] = _without(value, inner) if inner and isinstance(value, dict) else value
    return kept
