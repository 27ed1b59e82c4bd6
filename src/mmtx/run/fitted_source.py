"""The dataset for a model that exists: it takes over what the model's run learned from its own data."""

import sys
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmtx.batch import Spec
from mmtx.config.schema import Config
from mmtx.data.base import Source
from mmtx.data.fitted import FittedState
from mmtx.data.spec_difference import spec_difference
from mmtx.errors import UserError
from mmtx.experiment import construct_source, data_module
from mmtx.interop.importing import check_public
from mmtx.run.checkpoint_content import Checkpoint, read_checkpoint, specs_of
from mmtx.run.directory import is_run, newest_checkpoint, path_of
from mmtx.run.init_parts import check_parts, rest_of


def source_for(checkpoint: dict[str, Any], config: Config, needed: Collection[str] | None = None) -> Source:
    """The dataset of a config, encoded as a checkpoint's model learned it.

    Args:
        checkpoint: as read.
        config: of its run, perhaps with other data.
        needed: names that these have to have; None: all.

    Raises:
        UserError: the data do not fit what the model learned, all names together.
    """
    model = specs_of(checkpoint, config["plugins"])
    source = construct_source(config, FittedState.from_run(model, checkpoint["mmtx"]["fitted"], needed))
    problems = [*_differences(model, source.specs), *_relearnt(checkpoint, config, source, list(model))]
    if problems:
        lines = [f"  - {problem}" for problem in problems]
        raise UserError(
            "\n".join(["the data do not fit what the model learned:", *lines]) if lines[1:] else problems[0]
        )
    return source


def fitted_state_for(config: Config, checkpoint: Checkpoint | None = None) -> FittedState | None:
    """What the sources of a run take over: from its own checkpoint, or from the run whose weights it begins with. None
    where it begins with nothing, or with public weights, whose vocabulary is a key of the config.

    Raises:
        UserError: it is to begin with what is neither a run nor a public model.
    """
    if checkpoint is not None:
        held = checkpoint.content
        return FittedState.from_run(specs_of(held, config["plugins"]), held["mmtx"]["fitted"])
    begin = config["init_from"]
    if isinstance(begin, Mapping):
        check_parts(begin, config)
        begin = rest_of(begin, config)
    if not isinstance(begin, str) or not begin:
        return None
    try:
        if not is_run(begin):
            check_public(path_of(begin))
            return None
        file = newest_checkpoint(begin)
    except UserError as error:
        raise UserError(f"init_from={begin}: {error}") from None
    held = _held(file, file.stat().st_mtime_ns)
    return FittedState.from_weights(specs_of(held, config["plugins"]), held["mmtx"]["fitted"])


@lru_cache(maxsize=1)
def _held(file: Path, changed: int) -> dict[str, Any]:
    """A checkpoint without its weights, read once for all jobs of a sweep that begin with it."""
    return {"mmtx": read_checkpoint(file)["mmtx"]}


def _differences(model: Mapping[str, Spec], data: Mapping[str, Spec]) -> Iterator[str]:
    for name, spec in model.items():
        differing = spec_difference(spec, data[name]) if name in data else None
        if differing:
            yield f"{name}: what the model learned and this data differ in {differing}"


def _relearnt(checkpoint: Mapping[str, Any], config: Config, source: Source, names: list[str]) -> Iterator[str]:
    """Statistics that an older checkpoint does not hold, unless the data are those that the run learned them from. A
    model that was imported comes without any: they are those of the data, and a line on stderr names them."""
    missing, fingerprint = source.fitted.missing, checkpoint["mmtx"]["fingerprint"]
    if missing and not fingerprint:
        print(f"mmtx: the imported model came without {'; '.join(missing)}: taken from this data", file=sys.stderr)
    elif missing and data_module(config, source, names).fingerprint() != fingerprint:
        problem = "the checkpoint does not hold it, and it can only be learned again from the run's own data"
        yield from (f"{statistic}: {problem}" for statistic in missing)
