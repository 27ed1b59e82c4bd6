"""``mmtx evaluate RUN judge=OTHER``: what another run makes of the pictures or sounds that a run makes."""

from pathlib import Path
from typing import Any

import torch

from mmtx.config.options import options_for
from mmtx.config.schema import Config
from mmtx.errors import InvalidValue
from mmtx.experiment import data_module
from mmtx.judging.drawings import Pencil, judge_drawings
from mmtx.judging.reader import Reader
from mmtx.judging.sounds import Recogniser, judge_sounds, sound_maker
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import load, read_checkpoint
from mmtx.run.fitted_source import source_for
from mmtx.run.learnt_without import check_learnt_without
from mmtx.run.measured_data import not_augmented

SEED = 0
"""Of what is drawn: the same every time."""


def judged(learner: Learner, file: Path, config: Config, judge: Any, drawing: Any, split: str) -> dict[str, float]:
    """The metrics of `judge_drawings` or `judge_sounds`, by their whole names.

    Args:
        learner: that makes pictures or sounds, on the device to compute on.
        file: its checkpoint.
        config: of its run, with the data.
        judge: place of the run that judges.
        drawing: ``{option: value}`` of how they are made, as ``mmtx generate`` takes them; None: by default.
        split: of the data.

    Raises:
        UserError: the judge cannot be read, or does not fit the data; nothing is made.
    """
    if not isinstance(judge, str):
        raise InvalidValue("judge", judge, "is no place of a run")
    sounds = sound_maker(learner)
    pencil = Pencil.of(learner) if sounds is None else None
    maker: Any = sounds if pencil is None else pencil.objective
    options = options_for(maker.make if pencil is None else pencil.method, drawing, "drawing")
    try:
        check_learnt_without(config, learner, maker, options.get("guidance", {}))
    except InvalidValue as error:
        raise error.under("drawing") from None
    device = next(learner.parameters()).device
    other = load(judge).to(device)
    reader: Reader | Recogniser = Reader(other, judge) if sounds is None else Recogniser(other, judge)
    config = {**config, "data": not_augmented(config["data"])}  # drawings are compared with what was learnt from
    source = source_for(read_checkpoint(file), config)
    reader.check(source.specs)
    data = data_module(config, source, list(dict.fromkeys([*learner.specs, *reader.reads])))
    how: dict[str, Any] = {"generator": torch.Generator(device).manual_seed(SEED), "options": options}
    if isinstance(reader, Recogniser):
        found = judge_sounds(learner, reader, data, split, **how)
    else:
        found = judge_drawings(learner, reader, data, split, **how)
    return {f"{split}/{name}": value for name, value in found.items()}
