"""Text: one token per id of the vocabulary."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.base import Tokenizer, given_times, required_field
from mmtx.tokens import Tokens

MASKED_SHARE = 0.15 * 0.8
"""Of the ids that are masks in ESM-2's training (Rives et al. 2021; Lin et al. 2023, section A.1)."""


class Text(Tokenizer):
    """Ids of a vocabulary (characters, bytes, BPE: the data's choice), one embedding each.

    Reads the ragged integer field ``ids``, and where samples have them, ``segments``, and ``times`` on the clock, which
    leave room for what stands among the ids, as pictures do in a document.

    Args:
        causal: every token is an item of its own, so that it attends to its past only; else the text is one item.
        context: the longest text in tokens; None: as long as the data's longest.
        share: name of another text whose embedding this one shares (T5's two texts); None: its own.
        num_segments: token types in the field ``segments`` (BERT: first and second sentence), an embedding each;
            without the field, all tokens are of the first type. 0: none.
        fill: id that fills every text up to the context and is attended to like the others (SigLIP); None: none.
        mask_dropout: id of a mask that counts as dropped out: it embeds to zero, and the text's other ids are scaled by
            (1 - 0.12) / (1 - the mask's share of the text), in training and later (ESM-2); None: none.
        embedding_scale: multiplies the embedding of ids (Gemma: ``sqrt(dim)``), rounded to the type of that, as
            `transformers` rounds it: in bfloat16, the root of 3072 is 55.5. None: 1.
    """

    coded = ("embedding.weight",)

    column_kind: str | None = "text"

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        causal: bool,
        context: int | None,
        share: str | None,
        num_segments: int,
        fill: int | None = None,  # this and the next two are absent in stored configs of earlier versions
        mask_dropout: int | None = None,
        embedding_scale: float | None = None,
    ) -> None:
        super().__init__(spec=_within(spec, context), dim=dim, clock=clock)
        required_field(spec, "ids", "text")
        ids = spec.fields["ids"]
        if ids.num_classes is None or ids.max_length is None:
            raise ValueError("the data's text field 'ids' must declare num_classes and max_length")
        check_at_least("context", context, 1)
        check_at_least("num_segments", num_segments, 0)
        for key, own in (("fill", fill), ("mask_dropout", mask_dropout)):
            if own is not None and (causal or not 0 <= own < ids.num_classes):
                problem = "is for texts that are read as a whole" if causal else f"is none of {ids.num_classes} ids"
                raise InvalidValue(key, own, problem, "causal=false" if causal else None)
        if not causal and "times" in spec.fields:
            raise InvalidValue(
                "causal", causal, "lays a text out as one item, and samples have times of its ids", "true"
            )
        self.share, self.fill, self.mask_dropout, self.embedding_scale = share, fill, mask_dropout, embedding_scale
        self.causal, self.context, self.vocab_size = causal, context or ids.max_length, ids.num_classes
        self.embedding = nn.Embedding(ids.num_classes, dim)
        self.segment_embedding = nn.Embedding(num_segments, dim) if num_segments else None

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.context,)

    @property
    def max_tokens(self) -> int:
        return self.context

    @property
    def id_vectors(self) -> Float[Tensor, "V D"]:
        return self.embedding.weight

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths if self.fill is None else lengths.clamp(max=1) * self.context

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        """Raises InvalidValue if a text is longer than the context."""
        ids = fields["ids"]
        length = ids.shape[1]
        if length > self.context:
            raise InvalidValue("context", self.context, f"is shorter than a text of {length} tokens")
        if self.fill is not None:
            ids, length = _filled(ids, lengths, self.context, self.fill), self.context
        index, content = torch.arange(length, device=ids.device), self.embed(ids, fields.get("segments"))
        if self.mask_dropout is not None:
            content = _without_masks(content, ids == self.mask_dropout, self.num_tokens(lengths))
        return Tokens(
            content=content,
            coordinates=index[:, None],
            time=given_times(fields, length, ids.device) if self.causal else torch.zeros_like(index)[None],
            lengths=self.num_tokens(lengths),
            num_items=length if self.causal else 1,
            full=full,
            consecutive="times" not in fields,
        )

    def embed(self, ids: Int[Tensor, "B n"], segments: Int[Tensor, "B n"] | None = None) -> Float[Tensor, "B n D"]:
        """The content of ids, whatever their positions."""
        embedded = self.embedding(ids)
        if self.embedding_scale is not None:
            embedded = embedded * embedded.new_full((), self.embedding_scale)
        if self.segment_embedding is None:
            return embedded
        return embedded + self.segment_embedding(torch.zeros_like(ids) if segments is None else segments)

    def share_within(self, name: str, tokenizers: Mapping[str, Tokenizer]) -> None:
        """Uses the embedding of the text that `share` names; raises InvalidValue if there is no such text of the same
        vocabulary."""
        if self.share is None:
            return
        other = tokenizers.get(self.share)
        if not isinstance(other, Text) or other is self or other.share is not None:
            problem = "must name another text of the set, with an embedding of its own"
            raise InvalidValue(f"modality.{name}.share", self.share, problem)
        if other.vocab_size != self.vocab_size:
            problem = f"has {other.vocab_size} ids, this text {self.vocab_size}"
            raise InvalidValue("share", self.share, problem)
        self.embedding = other.embedding


def _within(spec: Spec, context: int | None) -> Spec:
    """What the data declares, with texts no longer than are read: windows have an id more, and streams many."""
    if context is None or context < 1:
        return spec
    fields = {
        key: replace(field, max_length=min(context, field.max_length)) if field.max_length else field
        for key, field in spec.fields.items()
    }
    return replace(spec, fields=fields)


def _without_masks(
    content: Float[Tensor, "B n D"], masked: Bool[Tensor, "B n"], lengths: Int[Tensor, " B"]
) -> Float[Tensor, "B n D"]:
    """Content that is zero where it is masked, and elsewhere of the size that it had on average in ESM-2's training."""
    kept = (lengths - masked.sum(1)).clamp(min=1)
    scale = (1 - MASKED_SHARE) * lengths / kept
    return content.masked_fill(masked[..., None], 0) * scale[:, None, None].to(content.dtype)


def _filled(ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"], context: int, fill: int) -> Int[Tensor, "B N"]:
    """Texts of `context` ids."""
    places = torch.arange(context, device=ids.device)
    return torch.where(places < lengths[:, None], F.pad(ids, (0, context - ids.shape[1])), fill)
