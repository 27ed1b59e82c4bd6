"""The multimodal transformer: tokenizers, a type embedding per name, positions, one backbone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch
from mmtx.modalities.base import Tokenizer
from mmtx.nn.backbone import Backbone
from mmtx.nn.init import initialise
from mmtx.tokens import Clock, Encoded, TokenSet, join, split


class MultimodalTransformer(nn.Module):
    """Chop everything up and throw it into the set.

    Args:
        tokenizers: ``{name: Tokenizer}`` in the order of the set.
        backbone: the transformer.
        type_embeddings: tell names apart by a learned vector each. Keyed by name, so that a checkpoint survives a
            change of the set.
        clocks: how ties on a clock are resolved.
    """

    def __init__(
        self,
        *,
        tokenizers: Mapping[str, Tokenizer],
        backbone: Backbone,
        type_embeddings: bool,
        clocks: Mapping[str, Clock],
    ) -> None:
        super().__init__()
        dim, absolute = backbone.dim, backbone.positions.absolute
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.type_embeddings = nn.ParameterDict(
            {name: torch.empty(dim).normal_(std=backbone.init_std) for name in tokenizers} if type_embeddings else {}
        )
        self.position_embeddings = nn.ModuleDict(
            {name: absolute(t.extent, dim) for name, t in tokenizers.items() if t.extent} if absolute else {}
        )
        self.backbone = backbone
        self.clocks = dict(clocks)
        for part in (self.tokenizers, self.position_embeddings):
            initialise(part, std=backbone.init_std)

    @property
    def names(self) -> list[str]:
        """The set, in order."""
        return list(self.tokenizers)

    @property
    def clock_of(self) -> dict[str, str]:
        """The clock of each name."""
        return {name: self.tokenizer(name).clock or name for name in self.names}

    def tokenizer(self, name: str) -> Tokenizer:
        """The tokenizer of a name of the set."""
        tokenizer = self.tokenizers[name]
        assert isinstance(tokenizer, Tokenizer)
        return tokenizer

    def tokenize(self, batch: Batch) -> TokenSet:
        """Each tokenizer on its own part of the batch; then all tokens side by side."""
        groups, place = {}, {}
        for name, tokenizer in self.tokenizers.items():
            groups[name] = tokenizer(batch[name], batch.lengths[name], batch.full.get(name, False))
            place[name] = self._place(name, groups[name].coordinates, groups[name].num_readouts)
        return join(groups, place, self.clock_of, self.clocks)

    def encode(self, token_set: TokenSet) -> Encoded:
        """Lets the tokens listen to each other."""
        hidden = self.backbone(token_set.content + token_set.place, token_set.connectivity)
        return split(hidden, token_set)

    def forward(self, batch: Batch) -> Encoded:
        return self.encode(self.tokenize(batch))

    def _place(self, name: str, coordinates: Int[Tensor, "n A"], num_readouts: int) -> Float[Tensor, "1 n D"]:
        """Kind and position. Read-outs have no coordinates: what they start as is learned whole."""
        place = torch.zeros(1, coordinates.shape[0], self.backbone.dim, device=coordinates.device)
        if name in self.position_embeddings:
            embedded = self.position_embeddings[name](coordinates[num_readouts:])
            place = torch.cat([place[:, :num_readouts], embedded[None]], dim=1)
        if name in self.type_embeddings:
            place = place + self.type_embeddings[name]
        return place
