"""A name whose ids are masked and predicted."""

from collections.abc import Mapping
from itertools import takewhile

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import required_name
from mmtx.objectives.id_head import IdHead
from mmtx.objectives.text_head import PREDICTED
from mmtx.tokens import TokenSet

FIELDS = ("ids", "class")
"""Those that hold a sequence of ids: a text's, or a series' of classes, such as actions."""


class DiffusedName(IdHead):
    """The ids of a name, some of which are masked in the set, and their scores.

    A mask is a vector that stands in the place of an id's, so that no vocabulary needs it and it is never predicted; or
    an id, where the vocabulary has one.

    Args:
        specs: what the data declares.
        model: whose set has the name.
        name: of a text, or of a series of classes.
        tied: score ids by the name's own embedding instead of a linear map of its own.
        mask: id of the mask; None: a vector of its own.

    Raises:
        ValueError: the set has no such name.
        InvalidValue: it holds no sequence of ids, or is encoded; it has no embedding of ids to be tied to; there is no
            such id.
    """

    roles = {"projection.weight": "head", "mask_vector": "embedding"}
    byte_lengths: Tensor

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        name: str,
        tied: bool,
        mask: int | None,
    ) -> None:
        required_name(name, model.names, "modality of the set", "names")
        if name in model.encoded:
            raise InvalidValue("names", name, "is sent through the encoder; what is masked is decoded", "encode=[]")
        field = next((key for key in FIELDS if key in specs[name].fields and specs[name].fields[key].ragged), None)
        tokenizer = model.tokenizer(name)
        if field is None or tokenizer.num_tokens(torch.tensor([1, 2])).tolist() != [1, 2]:
            raise InvalidValue("names", name, "must name a text, or a series of classes, with a token for each id")
        if tied and not isinstance(tokenizer, Ids):
            raise InvalidValue("tied", tied, f"needs an embedding of ids; '{name}' is no text", "false")
        num_ids = specs[name].fields[field].num_classes or 0
        if mask is not None and not (field == "ids" and 0 <= mask < num_ids):
            raise InvalidValue("mask", mask, f"must be an id of 0..{num_ids - 1}", "null")
        super().__init__(specs=specs, model=model, name=name, num_ids=num_ids, tied=tied, logit_scale=1.0, never=mask)
        self.field, self.mask, self.max_length = field, mask, specs[name].max_length
        self.class_names = specs[name].class_names
        lengths = self.vocabulary.byte_lengths() if self.vocabulary else [0] * num_ids
        self.has_bytes = any(lengths)
        self.register_buffer("byte_lengths", torch.tensor(lengths), persistent=False)
        self.mask_vector = None if mask is not None else nn.Parameter(torch.empty(model.backbone.dim))
        if self.mask_vector is not None:
            nn.init.normal_(self.mask_vector, std=model.backbone.init_std)

    @property
    def is_text(self) -> bool:
        """Whether it has the field ``ids``, rather than classes of steps, whose times are their sample's."""
        return self.field == "ids"

    @property
    def texts_end(self) -> bool:
        """Whether texts have an end id, rather than being windows of a stream."""
        return self.vocabulary is not None and self.vocabulary.end is not None

    def ids(self, batch: Batch) -> Int[Tensor, "B n"]:
        return batch[self.name][self.field]

    def may_be_masked(self, batch: Batch) -> Bool[Tensor, "B n"]:
        """Which ids are predicted: real ones, but for the mark that begins a text; of a conversation, those of its
        field ``predicted``."""
        ids, lengths = self.ids(batch), batch.lengths[self.name]
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        if self.vocabulary is not None and self.vocabulary.begin is not None:
            real = real & (ids != self.vocabulary.begin)
        chosen = batch[self.name].get(PREDICTED)
        return real if chosen is None else real & chosen

    def num_bytes(self, batch: Batch) -> Int[Tensor, ""]:
        """UTF-8 bytes of what may be masked."""
        return (self.byte_lengths[self.ids(batch)] * self.may_be_masked(batch)).sum()

    def hidden_ids(self, batch: Batch, masked: Bool[Tensor, "B n"]) -> dict[str, Tensor]:
        """The field of ids, in which nothing is left of those that are masked."""
        return {self.field: self.ids(batch).masked_fill(masked, 0 if self.mask is None else self.mask)}

    def with_masks(self, token_set: TokenSet, key: str, masked: Bool[Tensor, "B n"]) -> TokenSet:
        """The set with the mask's vector at the masked tokens of what it has under a key."""
        if self.mask_vector is None:
            return token_set
        content, start = token_set.content, token_set.spans[key].content_start
        where = F.pad(masked, (start, content.shape[1] - start - masked.shape[1]))[..., None]
        return token_set.with_content(torch.where(where, self.mask_vector.to(content.dtype), content))

    def decode(self, ids: list[int]) -> str:
        """Ids as text, or as the names of their classes; as numbers where they have none."""
        return " ".join(self.class_names[i] for i in ids) if self.class_names else super().decode(ids)

    def texts(self, ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> list[str]:
        """Ids as texts, each up to the first that ends it."""
        ends = self.vocabulary.ends if self.vocabulary else ()
        rows = zip(ids.tolist(), lengths.tolist(), strict=True)
        return [self.decode([*takewhile(lambda number: number not in ends, row[:length])]) for row, length in rows]
