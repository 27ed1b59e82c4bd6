"""The multimodal transformer: tokenizers, a type embedding per name, positions, a backbone, optionally an encoder."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.attention.memory_rule import Memory
from mmtx.batch import Batch, Spec
from mmtx.copies import Copy, in_place
from mmtx.embeddings import (
    make_clock_embeddings,
    make_position_embeddings,
    make_type_embeddings,
    place_of,
    random_places,
)
from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Pairs, Shares
from mmtx.nn.backbone import Backbone
from mmtx.nn.init import initialise
from mmtx.nn.layer_statistics import Statistics, add_statistics
from mmtx.token_order import join, several_orders, shared_order
from mmtx.tokens import Clock, HiddenStates, Tokens, TokenSet, pack, split


class MultimodalTransformer(nn.Module):
    """Tokens of all modalities as one set, which one backbone attends over.

    Args:
        tokenizers: ``{name: Tokenizer}`` in the order of the set.
        backbone: the transformer.
        encoder: a second stack, for the names in `encode`; None if there are none.
        encode: names that are the encoder's set; the others attend to its output by cross-attention.
        type_embeddings: a learned vector for each name. Keyed by name, so that a checkpoint survives a change of the
            set.
        towers: nothing attends to the encoder's names: two stacks side by side, of any widths.
        clocks: how ties on a clock are resolved, and the embedding of its time.
    """

    roles = {"type_embeddings.*": "embedding"}

    def __init__(
        self,
        *,
        tokenizers: Mapping[str, Tokenizer],
        backbone: Backbone,
        encoder: Backbone | None,
        encode: list[str],
        type_embeddings: bool,
        clocks: Mapping[str, Clock],
        towers: bool = False,
    ) -> None:
        super().__init__()
        if (encoder is not None) != bool(encode):
            raise ValueError(f"encode={encode}: names to encode need an encoder, and an encoder needs names")
        if towers and encoder is None:
            raise InvalidValue("towers", towers, "is of two stacks, and no name has the other one", "encode=[NAME]")
        check_at_least("num_layers", len(backbone.blocks), 1)
        if encoder is not None and encoder.dim != backbone.dim and not towers:
            raise InvalidValue("encoder.dim", encoder.dim, f"must equal backbone.dim={backbone.dim}")
        if encoder is not None and encoder.base_width != backbone.base_width:
            problem = f"must equal backbone.base_width={backbone.base_width}"
            raise InvalidValue("encoder.base_width", encoder.base_width, problem)
        self.encoded = check_encode(encode, tokenizers)
        for key, stack in (("backbone", backbone), ("encoder", encoder)):
            if stack is not None and stack.needs_pairs:
                _check_pairs(
                    key, stack, [each for name, each in tokenizers.items() if (name in encode) == (stack is encoder)]
                )
        self.tokenizers = nn.ModuleDict(tokenizers)
        dims = {name: (encoder if encoder and name in self.encoded else backbone).dim for name in tokenizers}
        # before the stacks: the norm of all gradients is summed in the order of parameters, and runs resume to the bit
        self.type_embeddings = make_type_embeddings(tokenizers if type_embeddings else (), dims, backbone.init_std)
        self.backbone, self.encoder, self.clocks, self.towers = backbone, encoder, dict(clocks), towers
        positions = {name: self.stack_of(name).positions for name in tokenizers}
        self.position_embeddings = make_position_embeddings(tokenizers, positions, dims)
        self.clock_embeddings = make_clock_embeddings(tokenizers, self.clock_of, self.clocks, dims)
        self._shared: dict[Any, Any] | None = None
        self._statistics: Statistics = {}
        for name, tokenizer in tokenizers.items():
            if isinstance(tokenizer, Shares):
                tokenizer.share_within(name, tokenizers)
        for part in (self.tokenizers, self.position_embeddings, self.clock_embeddings):
            initialise(part, std=backbone.init_std)

    @property
    def names(self) -> list[str]:
        """All names of the set, in order."""
        return list(self.tokenizers)

    @property
    def decoded(self) -> list[str]:
        """The names of the backbone's own set; the rest is encoded."""
        return [name for name in self.tokenizers if name not in self.encoded]

    @property
    def clock_of(self) -> dict[str, str]:
        """The clock of each name."""
        return {name: self.tokenizer(name).clock or name for name in self.names}

    def stack_of(self, name: str) -> Backbone:
        """The stack whose set has a name: encoder or backbone."""
        return self.encoder if self.encoder is not None and name in self.encoded else self.backbone

    @property
    def stacks(self) -> dict[str, Backbone]:
        """All stacks by their keys in a config: ``backbone``, ``encoder``, and those that names have to themselves,
        ``modality.image.encoder``."""
        found = {key: module for key, module in self.named_modules() if isinstance(module, Backbone)}
        return {key.replace("tokenizers.", "modality.", 1): stack for key, stack in found.items()}

    @property
    def read_specs(self) -> dict[str, Spec]:
        """What tokenizers read: of the data, texts within their context."""
        return {name: self.tokenizer(name).spec for name in self.names}

    def tokenizer(self, name: str) -> Tokenizer:
        """The tokenizer of a name of the set."""
        tokenizer = self.tokenizers[name]
        assert isinstance(tokenizer, Tokenizer)
        return tokenizer

    def tokenize(
        self, batch: Batch, names: list[str] | None = None, copies: Mapping[str, Copy] | None = None
    ) -> TokenSet:
        """The token set of a batch, of only some names where they are given.

        Args:
            batch: samples.
            names: of the backbone's set; None: all.
            copies: ``{key: Copy}``, in the place of their names; hidden states of each are read by its key.

        Raises:
            ValueError: a copy is of no name of the backbone's set, or its times are not one for each token.
            InvalidValue: a name on a mutual clock has several copies; tokens share an order, where a mixer reads them
                one after the other.
        """
        needs_memory = self.encoder is not None and not (self.towers and names is not None)
        memory = self.tokenize_memory(batch) if needs_memory else None
        placed = in_place(self.decoded if names is None else names, copies or {})
        self._check_clocks(copies or {})
        return self._join(batch, placed, memory, self.backbone)

    def tokenize_memory(self, batch: Batch) -> TokenSet:
        """The encoder's token set."""
        assert self.encoder is not None
        stack = self.encoder
        key = ("set", *_identity(batch, self.encoded))
        return self._once(key, lambda: self._join(batch, in_place(self.encoded, {}), None, stack), keep=batch)

    def run(self, token_set: TokenSet) -> HiddenStates:
        """The backbone's output for a set, and the encoder's for its memory."""
        memory = states = None
        if token_set.memory is not None:
            memory = self.run_encoder(token_set.memory)
            states = split(memory.hidden, memory.connectivity, token_set.memory.spans)
        packed = pack(token_set)
        hidden = self._pass(self.backbone, packed, None if self.towers else memory)
        return split(hidden, packed.connectivity, token_set.spans, states)

    def run_encoder(self, token_set: TokenSet) -> Memory:
        """The encoder's output for its set."""
        assert self.encoder is not None
        stack = self.encoder

        def compute() -> Memory:
            packed = pack(token_set)
            return Memory(self._pass(stack, packed, None), packed.connectivity)

        return self._once(("memory", id(token_set)), compute, keep=token_set)

    def forward(self, batch: Batch) -> HiddenStates:
        key = ("states", *_identity(batch, self.names))
        return self._once(key, lambda: self.run(self.tokenize(batch)), keep=batch)

    def encode(self, batch: Batch, name: str) -> HiddenStates:
        """Hidden states with those of one name among them, by the encoder alone where that name is encoded."""
        if name not in self.encoded:
            return self(batch)
        token_set = self.tokenize_memory(batch)
        memory = self.run_encoder(token_set)
        return split(memory.hidden, memory.connectivity, token_set.spans)

    def count_tokens(self, batch: Batch) -> Int[Tensor, "names 2"]:
        """Of each name of the set, the real tokens of the batch, and all tokens with padding."""
        lengths = batch.lengths if batch.host_lengths is None else batch.host_lengths
        counts = {name: self.tokenizer(name).num_tokens(lengths[name]) for name in self.names if name in batch}
        nothing = next(iter(lengths.values())).new_zeros(1)
        of_each = [counts.get(name, nothing) for name in self.names]
        return torch.stack([torch.stack([count.sum(), len(batch) * count.max()]) for count in of_each])

    def own_parameters(self, name: str) -> list[nn.Parameter]:
        """Parameters of only this name of the set: its tokenizer, its type and its position embeddings."""
        own = [*self.tokenizer(name).parameters()]
        own += [self.type_embeddings[name]] if name in self.type_embeddings else []
        return own + [*self.position_embeddings[name].parameters()] if name in self.position_embeddings else own

    @property
    def statistics(self) -> Mapping[str, Tensor]:
        """What layers have counted within `sharing` until now, over all passes: ``name/3`` of the backbone's layer 3,
        ``name/encoder.3`` of the encoder's, ``name/image`` of a tokenizer's. With gradients. Empty where nothing
        counts, and outside `sharing`."""
        return self._statistics

    @property
    def feed_forwards(self) -> dict[str, nn.Module]:
        """The feed-forward half of each layer, by the layer as `statistics` name it: ``3``, ``encoder.3``."""
        encoded = (
            {} if self.encoder is None else {f"encoder.{i}": mlp for i, mlp in enumerate(self.encoder.feed_forwards)}
        )
        return {str(i): mlp for i, mlp in enumerate(self.backbone.feed_forwards)} | encoded

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Within, the hidden states of a batch are computed once, however many objectives use them; sets of only some
        of its names are not shared. At its end all states are dropped that were computed within, and so are
        `statistics`; one within another uses the states of the outer one and adds none to it."""
        before, counted = self._shared, self._statistics
        self._shared, self._statistics = dict(before or {}), dict(counted)
        try:
            yield
        finally:
            self._shared, self._statistics = before, counted

    def _pass(self, stack: Backbone, packed: TokenSet, memory: Memory | None) -> Float[Tensor, "R N D"]:
        """The output of a stack, whose statistics are added to those of the batch."""
        found: Statistics = {}
        own = {"memory": memory, "statistics": found, "conditions": packed.conditions, "pairs": packed.pairs}
        hidden = stack(packed.content + packed.place, packed.connectivity, **own)
        if found and self._shared is not None:
            before_layer = "/encoder." if stack is self.encoder else "/"
            named = {before_layer.join(key.rsplit("/", 1)): value for key, value in found.items()}
            add_statistics(self._statistics, named)
        return hidden

    def add_statistics(self, name: str, found: Statistics) -> None:
        """Adds what the tokenizer of a name counted to `statistics`, as ``key/name``; outside `sharing`, nothing."""
        if self._shared is not None:
            add_statistics(self._statistics, {f"{key}/{name}": value for key, value in found.items()})

    def _once(self, key: Any, compute: Any, keep: Any) -> Any:
        """Computes, or returns what `sharing` holds; `keep` lives as long, so that its id is not used again."""
        if self._shared is None:
            return compute()
        if key not in self._shared:
            self._shared[key] = compute(), keep
        return self._shared[key][0]

    def _check_clocks(self, copies: Mapping[str, Copy]) -> None:
        for name, count in Counter(copy.name for copy in copies.values()).items():
            clock = self.clock_of[name]
            if count > 1 and self.clocks.get(clock, Clock()).mutual:
                problem = f"lets copies of '{name}' attend to each other at one moment"
                raise InvalidValue(f"clocks.{clock}.mutual", True, problem, "false")

    def _join(self, batch: Batch, placed: Mapping[str, Copy], memory: TokenSet | None, stack: Backbone) -> TokenSet:
        placed = {key: copy for key, copy in placed.items() if copy.name in batch}
        groups = {}
        for key, copy in placed.items():
            name, fields = copy.name, {**batch[copy.name], **copy.values}
            tokens = self.tokenizer(name)(fields, batch.lengths[name], batch.full.get(name, False))
            groups[key] = copy.of(tokens)
        random_range = stack.positions.random_range if self.training else None
        spread = None if random_range is None else random_places(groups.values(), random_range)
        place = {key: self._place(placed[key].name, tokens, spread) for key, tokens in groups.items()}
        clock_of = {key: self.clock_of[copy.name] for key, copy in placed.items()}
        lengths = self._host_lengths(batch, placed, groups) if batch.is_packed else None
        if stack.needs_time_order:
            self._check_time_order(stack, groups, clock_of)
        needs = {"by_time": stack.needs_time_order, "indexed": stack.needs_index}
        joined = join(groups, place, clock_of, self.clocks, memory, lengths, **needs)
        return joined if spread is None else replace(joined, connectivity=joined.connectivity.spread(spread))

    def _check_time_order(self, stack: Backbone, groups: Mapping[str, Tokens], clock_of: Mapping[str, str]) -> None:
        orders = groups, clock_of, self.clocks
        try:
            stack.check_time_order(shared_order(*orders), several_orders(*orders))
        except InvalidValue as error:
            raise error.under("encoder" if stack is self.encoder else "backbone") from None

    def _host_lengths(self, batch: Batch, placed: Mapping[str, Copy], groups: Mapping[str, Tokens]) -> tuple[int, ...]:
        """Real tokens of each sample, without waiting for the device where they are foreseen."""
        assert batch.host_lengths is not None
        counts = []
        for key, tokens in groups.items():
            name, exact = placed[key].name, tokens.lengths.device.type == "cpu" or not tokens.foreseen
            foreseen = placed[key].num_tokens(self.tokenizer(name).num_tokens(batch.host_lengths[name]))
            counts.append(tokens.lengths.cpu() if exact else foreseen)
        return tuple(torch.stack(counts).sum(0).tolist())

    def _place(self, name: str, tokens: Tokens, spread: Int[Tensor, " N"] | None) -> Float[Tensor, "#B n D"]:
        types, positions, times = (
            dict(found) for found in (self.type_embeddings, self.position_embeddings, self.clock_embeddings)
        )
        return place_of(
            name,
            tokens,
            self.stack_of(name).dim,
            type_embedding=types.get(name),
            positions=positions.get(name),
            times=times.get(self.clock_of[name]),
            spread=spread,
        )


def _identity(batch: Batch, names: Iterable[str]) -> tuple[Any, ...]:
    """Which tensors a batch has under these names, by their ids: comparing values would wait for the device."""
    return batch.is_packed, *((id(batch[name]), id(batch.lengths[name])) for name in names if name in batch)


def _check_pairs(key: str, stack: Backbone, tokenizers: Iterable[Tokenizer]) -> None:
    """Raises InvalidValue where a mixer of a stack reads pairs of tokens, and no name of its set has any."""
    if not any(isinstance(tokenizer, Pairs) and tokenizer.has_pairs for tokenizer in tokenizers):
        which, mixer = next((which, mixer) for which, mixer in stack.mixers.items() if mixer.needs_pairs)
        problem = "reads pairs of tokens, as contacts are, and no name of the set has any"
        raise InvalidValue(f"{key}.{which}", type(mixer).__name__, problem, "mmtx.nn.Attention")


def check_encode(encode: list[str], names: Iterable[str]) -> list[str]:
    """The names that are encoded, in the order of the set; raises InvalidValue if an encoder cannot have them."""
    names = list(names)
    unknown = [name for name in encode if name not in names]
    if unknown:
        raise InvalidValue("encode", encode, f"names {unknown[0]}, which is not in the set", f"one of {names}")
    if encode and not set(names) - set(encode):
        problem = "leaves nothing for the backbone; alone in the set they need no encoder"
        raise InvalidValue("encode", encode, problem, "encode=[]")
    return [name for name in names if name in encode]
