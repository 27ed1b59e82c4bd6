"""One config from yaml files and overrides."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mmtx.config import check
from mmtx.config.groups import unknown_choices
from mmtx.config.hydra_session import HydraSession, compose_files
from mmtx.config.schema import Config
from mmtx.config.values import of_one_config, with_values
from mmtx.errors import ConfigErrors

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

DEFAULT = "experiment=quickstart"
"""What runs where neither an experiment nor data are chosen."""


def compose(overrides: Sequence[str]) -> Config:
    """One config from ``train.yaml``, the chosen files and the overrides.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    with Composer() as composer:
        return composer.compose(overrides)


class Composer:
    """Composes the configs of many jobs. Files are read once for each set of choices; values are then put in as Hydra
    does it."""

    def __enter__(self) -> Composer:
        self._session = HydraSession()
        self._loader = self._session.__enter__()
        self._known: dict[tuple[str, ...], Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._session.__exit__()

    def compose(self, overrides: Sequence[str]) -> Config:
        """Raises ConfigErrors with every override that is wrong."""
        choices: list[str] = []
        values: list[Override] = []
        chosen = {text.partition("=")[0].lstrip("+~") for text in overrides}
        if not chosen & {"experiment", "data"}:
            choices.append(DEFAULT)
        known, found = of_one_config(overrides)
        for override in known:
            key = override.key_or_group
            options = self._once(("group", key), partial(self._options, key))
            bad = [] if options is None else list(unknown_choices(key, override.value(), options))
            found += bad
            if options is None:
                values.append(override)
            elif not bad:
                nothing = override.value() is None and not override.is_delete()
                choices.append(f"{override.get_key_element()}=[]" if nothing else str(override.input_line))
        config: Config = {}
        try:
            # a pickle is a copy that takes a fifth of the time
            composed = pickle.loads(self._once(("config", *choices), lambda: pickle.dumps(compose_files(choices))))
            config = with_values(composed, values)
        except ConfigErrors as error:
            found += error.findings
        except Exception as error:  # Hydra and OmegaConf raise many kinds; all mean that the config is wrong
            found.append(" ".join(str(error).split()))
        if config and found:
            found += [finding.message for finding in check.findings(config)]
        if found:
            raise ConfigErrors(found)
        return config

    def _options(self, key: str) -> list[str] | None:
        """What there is to choose from where a key is a group; None where it is a value."""
        from hydra.core.object_type import ObjectType

        files = self._loader.repository  # the loader itself would set up its sources anew for each key
        options: list[str] = files.get_group_options(key)
        return options if options or files.get_group_options(key, ObjectType.GROUP) else None

    def _once(self, what: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if what not in self._known:
            self._known[what] = make()
        return self._known[what]
