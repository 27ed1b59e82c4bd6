"""Text that goes on, given whatever else is in the set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch, Sample
from mmtx.data.collate import collate
from mmtx.data.image.decode_image import decode_image
from mmtx.data.image.image_folder import MOST_PIXELS
from mmtx.decoding.generate import generate
from mmtx.decoding.sampling import Sampling
from mmtx.errors import InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.modalities.image import Image
from mmtx.objectives.next_token import NextToken
from mmtx.run.directory import newest_checkpoint
from mmtx.run.loading import read_checkpoint
from mmtx.run.source import source_for

DEFAULT_NEW_TOKENS = 200


def continue_text(place: str, learner: Learner, objective: NextToken, options: Mapping[str, Any]) -> str:
    """The prompt and what the model of a run writes after it.

    Raises:
        UserError: something it needs is not given.
    """
    for key in ("beam_size", "length_penalty"):
        if options[key] is not None:
            raise InvalidValue(key, options[key], "is for models that read one text and write another (seq2seq)")
    sampling = Sampling(float(options["temperature"]), options["top_k"], options["top_p"])
    vocabulary = objective.head.vocabulary
    assert vocabulary is not None
    start = [vocabulary.begin] if vocabulary.begin is not None else []
    ids = start + vocabulary.encode(options["prompt"] or "")
    if not ids:
        raise UserError('this model continues text and needs something to begin with: prompt="..."')
    others = [name for name in learner.model.names if name != objective.text]
    sample: Sample = {objective.text: {"ids": torch.tensor(ids)}}
    sample |= rest_of_set(learner, place, others, options)
    batch = _batch(sample, learner, objective.text)
    (new,) = generate(
        learner.model,
        lambda hidden: objective.head.logits(learner.model, hidden),
        batch,
        objective.text,
        max_new_tokens=options["max_new_tokens"] or DEFAULT_NEW_TOKENS,
        sampling=sampling,
        generator=torch.Generator().manual_seed(int(options["seed"])),
        end=vocabulary.end,
        cache=bool(options["cache"]),
    )
    return vocabulary.decode(ids + new)


def rest_of_set(learner: Learner, place: str, names: list[str], options: Mapping[str, Any]) -> Sample:
    """What the set holds besides the text: from a picture file, or from a sample of the run's data."""
    for key in ("image", "index") if not names else ():
        if options[key] is not None:
            raise InvalidValue(key, options[key], "is for sets that hold more than the text; this one does not")
    if not names:
        return {}
    image = options["image"]
    if image is not None:
        if options["index"] is not None:
            raise InvalidValue("index", options["index"], "is a sample of the data; give it, or image=FILE")
        name = next((n for n in names if isinstance(learner.model.tokenizers[n], Image)), None)
        if name is None or len(names) > 1:
            raise UserError(f"image=FILE gives a picture; this set needs {', '.join(names)}: use index=N")
        return {name: {"pixels": read_picture(image, learner.specs[name].fields["pixels"].shape)}}
    checkpoint = read_checkpoint(newest_checkpoint(place))
    source = source_for(checkpoint, {**checkpoint["mmtx"]["config"], "plugins": options["plugins"]})
    split = source.test() or source.val() or source.train()
    number = options["index"] or 0
    if number >= len(split):
        raise InvalidValue("index", number, f"is beyond the {len(split)} samples there are")
    return {name: fields for name, fields in split[number].items() if name in names}


def read_picture(file: str, shape: tuple[int | None, ...]) -> Tensor:
    """A picture file as uint8 ``(C, height, width)`` of the given shape, its middle cut out and resized."""
    if not Path(file).is_file():
        raise InvalidValue("image", file, "is not a file")
    channels, height, width = (size or 1 for size in shape)
    return decode_image(Path(file), size=(height, width), channels=channels, max_pixels=MOST_PIXELS)


def _batch(sample: Sample, learner: Learner, text: str) -> Batch:
    """A batch of one; the prompt may be longer than the context, since it is cropped."""
    specs = {name: spec for name, spec in learner.specs.items() if name in sample and name != text}
    ids = sample[text]["ids"]
    rest = collate([{name: sample[name] for name in specs}], specs)
    return Batch(
        {**rest.fields, text: {"ids": ids[None]}},
        {**rest.lengths, text: torch.tensor([len(ids)])},
        {**rest.full, text: True},
        torch.zeros(1, dtype=torch.long),
    )
