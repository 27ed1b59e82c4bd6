"""One picture within each text, as its family has it: places in a row of ids. In mmtx they are three names.

::

    ids            a b I I I I c d          I: the id in whose place a token of the picture stands
    before         a b
    image              0 1 2 3
    text                       c d
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import UserError
from mmtx.interop.family import text_batch
from mmtx.interop.pictures import picture_batch
from mmtx.learner import Learner
from mmtx.tokens import HiddenStates


@dataclass(frozen=True)
class SplitTexts:
    """A batch whose texts are apart, and where each token was.

    Attributes:
        batch: with ``before`` and ``text``, and ``image`` where there are pictures.
        place: of each id of a row, in the row.
        start: where the picture begins.
        stop: where it ends; of a text without one both are 0.
    """

    batch: Batch
    place: Int[Tensor, " n"]
    start: Int[Tensor, "B 1"]
    stop: Int[Tensor, "B 1"]


def split_batch(
    learner: Learner,
    picture: int,
    *,
    input_ids: Int[Tensor, "B n"],
    attention_mask: Int[Tensor, "B n"] | None = None,
    pixel_values: Tensor | None = None,
    pixel_attention_mask: Tensor | None = None,
) -> SplitTexts:
    """Takes each row of ids apart at its picture.

    Args:
        learner: whose set is ``[before, image, text]``.
        picture: the id in whose place its tokens stand.
        input_ids: padded at the end.
        attention_mask: of ids.
        pixel_values: normalised, ``(B, C, height, width)`` or ``(B, 1, C, height, width)``.
        pixel_attention_mask: of pixels.

    Raises:
        UserError: a text has several pictures, part of one is masked, or texts are padded in front.
    """
    whole = text_batch("text", input_ids, attention_mask)
    is_picture, place = input_ids == picture, torch.arange(input_ids.shape[1], device=input_ids.device)
    count = is_picture.sum(1, keepdim=True)
    start = is_picture.int().argmax(1, keepdim=True)
    stop = start + count
    after = torch.minimum(place + stop, place.new_full((), input_ids.shape[1] - 1))
    batch = whole.with_name("before", {"ids": input_ids}, start[:, 0])
    batch = batch.with_name("text", {"ids": input_ids.gather(1, after)}, whole.lengths["text"] - stop[:, 0])
    if pixel_values is not None:
        pictures = picture_batch(learner, _one_each(pixel_values))
        batch = batch.with_name("image", pictures["image"], (count[:, 0] > 0).long())
    if not torch.compiler.is_exporting():
        _check(learner, is_picture, (place >= start) & (place < stop), count, pixel_values, pixel_attention_mask)
    return SplitTexts(batch, place, start, stop)


def in_their_order(states: HiddenStates, split: SplitTexts) -> Float[Tensor, "B n D"]:
    """Hidden states of each id, in its row; those of padding mean nothing."""
    names = [name for name in ("before", "image", "text") if name in states.spans]
    hidden = torch.cat([states.tokens(name) for name in names], dim=1)
    begins = {"before": 0, "image": len(split.place)}
    begins["text"] = hidden.shape[1] - len(split.place)
    shifted = torch.where(split.place < split.stop, begins["image"] - split.start, begins["text"] - split.stop)
    place = split.place + torch.where(split.place < split.start, 0, shifted)
    return hidden.gather(1, place[..., None].expand(-1, -1, hidden.shape[2]))


def _one_each(pixels: Tensor) -> Float[Tensor, "B C height width"]:
    if pixels.dim() == 5 and pixels.shape[1] != 1:
        raise UserError(f"pixel_values has {pixels.shape[1]} pictures for a text; mmtx takes one, not split into parts")
    return pixels[:, 0] if pixels.dim() == 5 else pixels


def _check(
    learner: Learner,
    is_picture: Bool[Tensor, "B n"],
    in_first: Bool[Tensor, "B n"],
    count: Int[Tensor, "B 1"],
    pixels: Tensor | None,
    mask: Tensor | None,
) -> None:
    if mask is not None and not mask.all():
        raise UserError("pixel_attention_mask: pictures of this model fill their square, do_image_splitting=false")
    needed = learner.model.tokenizer("image").max_tokens
    found = sorted({*count[:, 0].tolist()} - {0})
    if found and pixels is None:
        raise UserError("input_ids has places of a picture, and there are no pixel_values")
    if found not in ([], [needed]) or not torch.equal(is_picture, in_first):
        raise UserError(f"input_ids has {found} places of pictures; a picture takes {needed}, one after the other")
