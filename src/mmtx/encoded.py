"""A name whose tokens come out of an encoder of its own: what a composition of models is made of.

A picture of four patches, its encoder three times as wide as the decoder that reads it, and a question::

    pixels  --tokenizer-->  four vectors of 192     a token each, and positions
            --encoder---->  four vectors of 192     which attend to each other, as in a set of their own
            --projector-->  four vectors of 64      in the set, before the question:  I0 I1 I2 I3 Q0 Q1 Q2

For the model it is a tokenizer like any other, so that packing, cached decoding and absent names are as ever.

They are of one item, whose tokens attend to each other; where the projector is `causal`, each is an item of its own::

    token           I0  I1  I2  I3  Q0  Q1  Q2
    time             0   0   0   0   1   2   3
    time, causal     0   1   2   3   4   5   6
"""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mmtx.embeddings import place_of
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.nn.backbone import Backbone
from mmtx.nn.projector import Projector
from mmtx.token_order import join, several_orders, shared_order
from mmtx.tokens import HiddenStates, Tokens, TokenSet, split

OFFERED = ("augmented", "draw", "film", "panel")
"""Of `mmtx.modalities.capabilities`, what is of the data, whatever the tokens become."""


class Encoded(Tokenizer):
    """A tokenizer, the encoder that its tokens go through, and the projector of what that gives.

    The encoder attends over the tokens of one sample's name alone; positions are those of its scheme. What it says of
    prefix tokens (CLS, registers) goes no further.

    Args:
        name: of the set.
        tokenizer: as wide as the encoder.
        encoder: without cross-attention.
        projector: to the width of the set.
        type_embedding: a learned vector is added to its tokens, as in a set of several names.
    """

    roles = {"type_embedding": "embedding"}

    def __init__(
        self, *, name: str, tokenizer: Tokenizer, encoder: Backbone, projector: Projector, type_embedding: bool
    ) -> None:
        super().__init__(spec=tokenizer.spec, dim=projector.dim, clock=tokenizer.clock)
        self.name, self.tokenizer, self.encoder, self.projector = name, tokenizer, encoder, projector
        if encoder.positions.random_range is not None:
            problem = "is of sets, not of the encoder of one name"
            raise InvalidValue("encoder.positions.random_range", encoder.positions.random_range, problem, "null")
        absolute = encoder.positions.absolute
        self.positions = absolute(tokenizer.extent, encoder.dim) if absolute and tokenizer.extent else None
        self.type_embedding = nn.Parameter(torch.zeros(encoder.dim)) if type_embedding else None
        self.num_prefix = tokenizer.num_summaries + tokenizer.num_registers
        self.coded = tuple(f"tokenizer.{key}" for key in tokenizer.coded)
        as_one = projector.causal or not projector.keeps_tokens
        if as_one and tokenizer.max_tokens - self.num_prefix != math.prod(tokenizer.extent):
            problem = f"takes a sample of '{name}' as one, and it has a moment of its own for each of several"
            raise InvalidValue(f"modality.{name}.projector", type(projector).__name__, problem)
        for offered in OFFERED:
            if hasattr(tokenizer, offered):
                setattr(self, offered, getattr(tokenizer, offered))

    @property
    def extent(self) -> tuple[int, ...]:
        return self.projector.extent

    @property
    def max_tokens(self) -> int:
        return int(self.projector.num_tokens(torch.tensor([self.tokenizer.max_tokens - self.num_prefix])))

    @property
    def num_times(self) -> int:
        return self.max_tokens if self.projector.causal else self.tokenizer.num_times

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        own = self.tokenizer.num_tokens(lengths)
        return self.projector.num_tokens(own - self.num_prefix * (own > 0))

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        """Raises InvalidValue where a mixer of the encoder needs an order that the tokens do not have."""
        tokens = self.tokenizer(fields, lengths, full)
        states = self._encoded(self._set_of(tokens))
        own = states.lengths(self.name)
        return replace(
            tokens,
            content=self.projector(states.tokens(self.name), own),
            lengths=self.projector.num_tokens(own),
            num_summaries=0,
            num_registers=0,
            **self._places(tokens),
        )

    def _set_of(self, tokens: Tokens) -> TokenSet:
        groups, clock_of, encoder = {self.name: tokens}, {self.name: self.name}, self.encoder
        if encoder.needs_time_order:
            try:
                encoder.check_time_order(shared_order(groups, clock_of, {}), several_orders(groups, clock_of, {}))
            except InvalidValue as error:
                raise error.under(f"modality.{self.name}.encoder") from None
        place = place_of(
            self.name, tokens, encoder.dim, type_embedding=self.type_embedding, positions=self.positions, times=None
        )
        return join(groups, {self.name: place}, clock_of, indexed=encoder.needs_index)

    def _encoded(self, token_set: TokenSet) -> HiddenStates:
        hidden = self.encoder(token_set.content + token_set.place, token_set.connectivity)
        return split(hidden, token_set.connectivity, token_set.spans)

    def _places(self, tokens: Tokens) -> dict[str, Any]:
        places = self._same_places(tokens) if self.projector.keeps_tokens else self._new_places(tokens)
        if not self.projector.causal:
            return places
        count = len(places["coordinates"])
        time = torch.arange(count, device=tokens.content.device)[None]
        return {**places, "time": time, "num_items": count, "consecutive": True}

    def _same_places(self, tokens: Tokens) -> dict[str, Any]:
        num_prefix = self.num_prefix
        return {"coordinates": tokens.coordinates[num_prefix:], "time": tokens.time[:, num_prefix:]}

    def _new_places(self, tokens: Tokens) -> dict[str, Any]:
        """Of one item, at the cells of the projector's extent."""
        axes = [torch.arange(size, device=tokens.content.device) for size in self.extent]
        coordinates = torch.cartesian_prod(*axes).view(-1, len(axes))
        time = coordinates.new_zeros(1, len(coordinates))
        return {"coordinates": coordinates, "time": time, "num_items": 1, "consecutive": False}
