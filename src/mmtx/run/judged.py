"""``mmtx evaluate RUN judge=OTHER``: what a classifier of another run makes of the pictures that a run draws."""

from pathlib import Path
from typing import Any

import torch

from mmtx.config.options import options_for
from mmtx.config.schema import Config
from mmtx.errors import InvalidValue
from mmtx.experiment import data_module
from mmtx.judging.drawings import Pencil, judge_drawings
from mmtx.judging.reader import Reader
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import load, read_checkpoint
from mmtx.run.fitted_source import source_for
from mmtx.run.measured_data import not_augmented

SEED = 0
"""Of what is drawn: the same every time."""


def judged(learner: Learner, file: Path, config: Config, judge: Any, drawing: Any, split: str) -> dict[str, float]:
    """The metrics of `judge_drawings`, by their whole names.

    Args:
        learner: that draws, on the device to compute on.
        file: its checkpoint.
        config: of its run, with the data.
        judge: place of the run that judges.
        drawing: ``{option: value}`` of how pictures are drawn, as ``mmtx generate`` takes them; None: by default.
        split: of the data.

    Raises:
        UserError: the judge cannot be read, or does not fit the data; nothing draws.
    """
    if not isinstance(judge, str):
        raise InvalidValue("judge", judge, "is no place of a run")
    options = options_for(Pencil.of(learner).method, drawing, "drawing")
    device = next(learner.parameters()).device
    reader = Reader(load(judge).to(device), judge)
    config = {**config, "data": not_augmented(config["data"])}  # drawings are compared with what was learnt from
    source = source_for(read_checkpoint(file), config)
    reader.check(source.specs)
    names = list(dict.fromkeys([*learner.specs, reader.image, reader.label]))
    generator = torch.Generator(device).manual_seed(SEED)
    found = judge_drawings(
        learner, reader, data_module(config, source, names), split, generator=generator, options=options
    )
    return {f"{split}/{name}": value for name, value in found.items()}
