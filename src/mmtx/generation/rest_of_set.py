"""What is generated from or about: a picture file, or a sample of the run's data."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mmtx.batch import Sample
from mmtx.config.construct import construct_as
from mmtx.data.image.decode_image import Fit, decode_image
from mmtx.data.image.image_folder import MOST_PIXELS
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.modalities.capabilities import Ids

INPUTS = {"prompt": "ids", "image": "pixels", "audio": "waveform", "label": "class"}
"""Options that bring an input, and the field of the data that it fills."""


def inputs_of(learner: Learner, written: str | None) -> list[str]:
    """The names of the set, without that which is written."""
    return [name for name in learner.model.names if name != written]


def with_field(learner: Learner, names: Sequence[str], option: str) -> list[str]:
    """Those names that an option of `INPUTS` can bring."""
    return [name for name in names if INPUTS[option] in learner.specs[name].fields]


def rest_of_set(trained: Trained, names: Sequence[str], image: str | None, index: int | None) -> Sample:
    """A sample's part under these names: from a picture file, or from a sample of the run's data."""
    if not names:
        return {}
    if image is not None:
        if index is not None:
            raise InvalidValue("index", index, "is a sample of the data; give it, or image=FILE")
        needed = [name for name in names if not _begins_what_is_written(trained.learner, name, names)]
        if len(needed) > 1:
            raise UserError(f"image={image} gives a picture; this set needs {', '.join(needed)}: use index=N")
        return {needed[0]: {"pixels": read_picture(trained.learner, needed[0], image)}}
    source, number = trained.source(), index or 0
    split = source.test() or source.val() or source.train()
    if not 0 <= number < len(split):
        raise InvalidValue("index", number, f"is none of the {len(split)} samples, which are counted from 0")
    return {name: fields for name, fields in split[number].items() if name in names}


def _begins_what_is_written(learner: Learner, name: str, names: Sequence[str]) -> bool:
    """Whether a name is the part before a picture of the text that is written, with whose embedding it is read; a text
    may have none."""
    model = learner.model
    own, written = model.tokenizer(name), [model.tokenizer(other) for other in model.names if other not in names]
    shares = any(
        isinstance(own, Ids) and isinstance(each, Ids) and each.id_vectors is own.id_vectors for each in written
    )
    return shares and isinstance(own, Ids) and own.causal


def read_picture(learner: Learner, name: str, file: str) -> Tensor:
    """A picture file as the name of the set has pictures, ``(C, height, width)``, fitted as those of the data."""
    if not Path(file).is_file():
        raise InvalidValue("image", file, "is not a file")
    pixels = learner.specs[name].fields["pixels"]
    channels, height, width = (size or 1 for size in pixels.shape)
    node = ((learner.config or {}).get("data") or {}).get("fit")
    fit = construct_as(Fit, node) if node else Fit(floats=pixels.dtype.is_floating_point)
    return decode_image(Path(file), size=(height, width), channels=channels, max_pixels=MOST_PIXELS, fit=fit)
