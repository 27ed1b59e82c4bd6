"""Codes of a picture, a film or a sound: one token per id."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.decodes import Decodes
from mmtx.codes.sounds import Sounds
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.drawing import draw_spectrogram, draw_strip
from mmtx.modalities.text import Text
from mmtx.tokens import Tokens

PANELS = {"Pictures": Panel(), "Films": Panel(width=4.2, height=1.3), "Sounds": Panel(width=4.2, most=4)}
"""By what is coded."""


class Codes(Text):
    """Ids of a vocabulary of codes, an embedding each, so that a picture, a film or a sound is predicted as a text is;
    what is drawn of them is decoded.

    Reads the ragged field ``ids``: the mark that begins a sample, then its codes, row by row.

    Args:
        causal: every token attends to those before it, and a sample is written code by code; else all attend to all.
    """

    column_kind = None

    def __init__(self, *, spec: Spec, dim: int, clock: str | None, causal: bool) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock, causal=causal, context=None, share=None, num_segments=0)
        if not isinstance(spec.vocabulary, Decodes):
            data = "data=coded_pictures, coded_films and coded_sounds"
            raise ValueError(f"a tokenizer 'codes' reads codes of a trained codec, as {data} have them")
        self._vocabulary: Decodes = spec.vocabulary
        self.panel = PANELS[type(self._vocabulary.content).__name__]

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The ids whose embeddings are the nearest, and what is decoded from them; whole rows of codes."""
        ids = torch.cdist(tokens.content.float(), self.id_vectors.float()).argmin(-1)
        return {"ids": ids, self._vocabulary.content.field: self._decoded(ids, tokens.lengths)}

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """What is decoded of whole rows; nothing where there are none, or a picture is not whole."""
        content, count = self._vocabulary.content, self._vocabulary.whole(max(length - 1, 0))
        if not count:
            axes.set(xticks=[], yticks=[])
            return
        (made,) = self._decoded(fields["ids"][None, : 1 + count], None)
        if isinstance(content, Sounds):
            draw_spectrogram(axes, made, content.seconds(len(made)))
        elif content.is_ragged:
            draw_strip(axes, made.float() / (255 if made.dtype == torch.uint8 else 1))
        else:
            axes.imshow(made.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
            axes.set(xticks=[], yticks=[])

    def _decoded(self, ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"] | None) -> Shaped[Tensor, "B ..."]:
        """A mark among the codes, which an untrained model may have put there, counts as the first code."""
        codes, begin = ids[:, 1 : 1 + self._vocabulary.whole(ids.shape[1] - 1)], self._vocabulary.begin
        codes = codes if begin is None else codes.masked_fill(codes == begin, 0)
        counts = None if lengths is None else (lengths - 1).clamp(min=0)
        return self._vocabulary.decoded(codes, counts)
