"""Codes of a picture: one token per id."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.pictured import Pictured
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.text import Text
from mmtx.tokens import Tokens


class Codes(Text):
    """Ids of a vocabulary of pictures, an embedding each, so that a picture is predicted as a text is; what is drawn of
    them is the picture.

    Reads the field ``ids``: the mark that begins a picture, then its codes, row by row.

    Args:
        causal: every token attends to those before it, and a picture is written code by code; else all attend to all.
    """

    panel = Panel()
    column_kind = None

    def __init__(self, *, spec: Spec, dim: int, clock: str | None, causal: bool) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock, causal=causal, context=None, share=None, num_segments=0)
        if not isinstance(spec.vocabulary, Pictured):
            raise ValueError("a tokenizer 'codes' reads codes of pictures, as data=coded_pictures has them")
        self._vocabulary: Pictured = spec.vocabulary

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The ids whose embeddings are the nearest, and the pictures that are decoded from them."""
        ids = torch.cdist(tokens.content.float(), self.id_vectors.float()).argmin(-1)
        return {"ids": ids, "pixels": self._pixels(ids)}

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """The picture; none where it is not whole."""
        if length == self._vocabulary.num_tokens:
            (picture,) = self._pixels(fields["ids"][None])
            axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
        axes.set(xticks=[], yticks=[])

    def _pixels(self, ids: Int[Tensor, "B n"]) -> Tensor:
        """A mark among the codes, which an untrained model may have put there, counts as the first code."""
        codes, begin = ids[:, 1:], self._vocabulary.begin
        return self._vocabulary.pixels(codes if begin is None else codes.masked_fill(codes == begin, 0))
