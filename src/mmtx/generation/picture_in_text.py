"""A conversation with a picture in it: what stands before the picture is a name of the set, what follows goes on."""

from collections.abc import Sequence

import torch

from mmtx.batch import Batch
from mmtx.data.collate import collate
from mmtx.data.text.picture_marks import PictureMarks
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.rest_of_set import inputs_of, rest_of_set, with_field
from mmtx.generation.trained import Trained


def with_picture(
    trained: Trained, written: str, marks: PictureMarks, ids: Sequence[int], image: str | None
) -> tuple[Batch, list[int]]:
    """A batch of one sample with what is before the text that goes on, on the model's device; and the ids of that text.

    Args:
        trained: the model, whose set is a text before a picture, the picture, and the text.
        written: the name that goes on.
        marks: of its vocabulary.
        ids: of the conversation.
        image: file of the picture.

    Raises:
        UserError: one of picture and its place in the conversation is there without the other, or there are several.
    """
    before, after = marks.around(ids)
    has_picture = len(after) < len(ids)
    if not has_picture:
        if image is not None:
            raise InvalidValue("image", image, 'has no place in these messages: {"type": "image"} in a content')
        return trained.sent(Batch({}, {})), after
    if image is None:
        raise UserError('these messages have a picture, {"type": "image"}; give it, image=FILE')
    names = inputs_of(trained.learner, written)
    pictures, texts = (with_field(trained.learner, names, option) for option in ("image", "prompt"))
    sample = rest_of_set(trained, pictures, image, None)
    sample |= {texts[0]: {"ids": torch.tensor(before)}} if before else {}
    return trained.sent(collate([sample], {name: trained.learner.specs[name] for name in sample})), after
