"""The transformer: a stack of blocks that sees tokens, their positions and which attend to which, and nothing else."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.attention.kernels import Bias, InParts
from mmtx.attention.memory_rule import Memory
from mmtx.attention.rule import Connectivity
from mmtx.conditions import Conditions
from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.adaptive_norm import AdaptiveNorm, check_adaptive, normalised
from mmtx.nn.attention import Attention
from mmtx.nn.block import Block, NormPlace
from mmtx.nn.cache import Cache
from mmtx.nn.compilation import compiled, in_one_graph_or_by_block
from mmtx.nn.feed_forward import FeedForward
from mmtx.nn.init import initialise
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_contexts import ContextMaker, position_biases, with_known
from mmtx.nn.layer_kind import (
    LayerKind,
    check_drop_path,
    check_mixer,
    letters_of,
    made_cross_attention,
    made_feed_forward,
    made_mixer,
    windows_of,
)
from mmtx.nn.layer_statistics import Output, Statistics, add_statistics, with_statistics
from mmtx.nn.layer_sum import LayerSum
from mmtx.nn.memory_tokens import MemoryTokens
from mmtx.nn.mixer import Mixer
from mmtx.nn.positions import Positions
from mmtx.nn.recomputation import Recomputation, recomputed
from mmtx.nn.recorded_passes import Pass, RecordedPasses, can_record
from mmtx.nn.width import width_ratio


class Backbone(nn.Module):
    """A stack of transformer blocks.

    Args:
        cross_attention: every block also attends to a memory, between self-attention and feed-forward.
        dim: width D.
        num_layers: blocks; an encoder may have none, so that what is attended to is what another has encoded before.
        num_heads: attention heads; divides `dim`.
        attention: ``attention(dim, num_heads)`` makes a block's mixer, and its cross-attention.
        mlp: ``mlp(dim)`` makes a block's feed-forward half; `NoFeedForward`: it has none.
        norm: ``norm(dim)`` makes a normalisation.
        positions: the position scheme.
        input_norm: normalise the input (BERT, the decision transformer).
        norm_place: where each half is normalised: ``before`` it (GPT-2), ``after`` its residual sum (BERT), on its
            ``branch``, before it is added (OLMo 2), or ``both`` before it and on its branch (Gemma 2).
        final_norm: normalise the output of the last block.
        skip_first_norm: the first mixer reads what comes in without a norm of its own, as it is normalised already
            (ModernBERT, with `input_norm`).
        layer_sum: the output is a learned mean over the depth, see `LayerSum`.
        dropout: of the embedding and of the output of each half.
        drop_path: chance of skipping a half of a block for a whole sample (Huang et al. 2016, arXiv 1603.09382),
            rising linearly from 0 in the first block to this value in the last; a stack of one block has none.
        layer_scale: initial value of a learned scale on each half's output (Touvron et al. 2021, arXiv 2103.17239).
        layers: one letter a layer, its kind, repeated over the depth: ``LLLG``.
        kinds: of layers, by letter; what they leave open is as above.
        window: reach of attention in layers of such a kind as L, in positions.
        init_std: standard deviation of initial weights; those that write to the residual have less, by depth.
        activation_checkpointing: what blocks compute again in the backward pass to save memory: ``none`` of it,
            ``selective`` (all but matrix products and attention), or whole ``blocks``.
        compile: compile it, see `mmtx.nn.compilation`; not with a cache whose sizes change with every call,
            nor where attention is computed in parts, in a loop (`PerSegment` and `Blocked`, on a CPU).
        flex: render connectivity by FlexAttention (long packed rows on a GPU).
        base_width: the `dim` at which rates were tuned, see `mmtx.nn.width`; None: at this one.
        memory_tokens: ``memory_tokens(dim)`` makes what is carried from segment to segment of a sample; None: samples
            are not cut.
    """

    draws_weights = True

    def __init__(
        self,
        *,
        cross_attention: bool,
        dim: int,
        num_layers: int,
        num_heads: int,
        attention: Callable[[int, int], Mixer],
        mlp: Callable[[int], nn.Module],
        norm: Callable[[int], nn.Module],
        positions: Positions,
        input_norm: bool,
        norm_place: NormPlace,
        final_norm: bool,
        dropout: float,
        drop_path: float,
        layer_scale: float | None,
        layers: str,
        kinds: Mapping[str, LayerKind],
        window: int | None,
        init_std: float,
        activation_checkpointing: Recomputation,
        compile: bool,
        flex: bool,
        base_width: int | None = None,  # this and those behind it are absent in stored configs of earlier versions
        skip_first_norm: bool = False,
        layer_sum: bool = False,
        memory_tokens: Callable[[int], MemoryTokens] | None = None,
    ) -> None:
        super().__init__()
        for key, value, least in (("dim", dim, 1), ("num_layers", num_layers, 0), ("num_heads", num_heads, 1)):
            check_at_least(key, value, least)
        check_fraction("dropout", dropout)
        if skip_first_norm and norm_place != "before":
            raise InvalidValue("skip_first_norm", True, f"is for norms before a half; norm_place={norm_place}", "false")
        self.dim, self.cross_attention, self.positions, self.init_std = dim, cross_attention, positions, init_std
        self.base_width, self.width_ratio = base_width, width_ratio(dim, base_width)
        self.activation_checkpointing, self.flex, self.is_compiled = activation_checkpointing, flex, compile
        self.input_norm, self.embed_dropout = norm(dim) if input_norm else nn.Identity(), nn.Dropout(dropout)
        self.position_bias = positions.bias(num_heads) if positions.bias else None
        letters = letters_of(layers, num_layers, kinds)
        check_drop_path(drop_path, letters, kinds)
        self.windows = windows_of(letters, window, kinds)
        if positions.random_range is not None and any(self.windows):
            problem = "spreads positions, by which windows are measured"
            raise InvalidValue("positions.random_range", positions.random_range, problem, "null, or layers=G")
        self.mixer_keys = [f"kinds.{letter}.mixer" if kinds[letter].mixer else "attention" for letter in letters]
        self.blocks = nn.ModuleList(
            Block(
                dim,
                mixer=made_mixer(kinds[letter].mixer or attention, dim, num_heads, key),
                cross_attention=made_cross_attention(attention, dim, num_heads) if cross_attention else None,
                mlp=made_feed_forward(
                    kinds[letter].mlp or mlp, dim, f"kinds.{letter}.mlp" if kinds[letter].mlp else "mlp"
                ),
                norm=norm,
                norm_place=norm_place,
                dropout=dropout,
                drop_path=drop_path * layer / max(num_layers - 1, 1),
                layer_scale=layer_scale,
                mixer_norm=layer > 0 or not skip_first_norm,
                residual=kinds[letter].residual,
            )
            for layer, (letter, key) in enumerate(zip(letters, self.mixer_keys, strict=True))
        )
        for layer, window, key in zip(self._layers, self.windows, self.mixer_keys, strict=True):
            check_mixer(layer.mixes, window, key)
        self._rotaries = [kinds[letter].rotary or positions.rotary for letter in letters]
        self._check_rotaries()
        self.final_norm = norm(dim) if final_norm else nn.Identity()
        self.is_adaptive = any(isinstance(module, AdaptiveNorm) for module in self.modules())
        if self.is_adaptive:
            check_adaptive(input_norm, norm_place, skip_first_norm, memory_tokens is not None)
        self.layer_sum = LayerSum(num_layers + 1) if layer_sum else None
        if base_width is not None:
            self._scale_scores(base_width)
        self.memory_tokens = memory_tokens(dim) if memory_tokens is not None else None
        if self.memory_tokens is not None and cross_attention:
            problem = "cuts texts that attend to what is encoded, which stays whole"
            raise InvalidValue("memory_tokens.segment", self.memory_tokens.segment, problem, "encode=[]")
        initialise(self, std=init_std, residual_outputs=sum(len(layer.halves) for layer in self._layers))
        self._recorded = RecordedPasses()
        self._modules_within: list[nn.Module] | None = None
        self._ragged_modes: set[bool] = set()  # whether in training: an evaluation leaves its graphs alone

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        connectivity: Connectivity,
        cache: Cache | None = None,
        memory: Memory | None = None,
        statistics: Statistics | None = None,
        conditions: Conditions | None = None,
        pairs: Float[Tensor, "B N N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Args:
        x: content plus place of the query tokens (all, or the last `num_queries`).
        connectivity: of all tokens.
        cache: what earlier calls left of the tokens before those in `x`; extended by this one. Its length is left to
            the caller where `connectivity` has a column.
        memory: the keys of cross-attention.
        statistics: those of layers are put here, as ``name/layer``, where they have any.
        conditions: of the tokens, which adaptive norms read.
        pairs: of the tokens, which some mixers read.
        """
        if (memory is not None) != self.cross_attention:
            raise ValueError(f"a stack with cross_attention={self.cross_attention} got memory={memory is not None}")
        if self.memory_tokens is not None:
            return self.memory_tokens(partial(self._forward, statistics=statistics), x, connectivity)
        return self._forward(x, connectivity, cache, memory, statistics, conditions, pairs)

    def _forward(
        self,
        x: Float[Tensor, "B N D"],
        connectivity: Connectivity,
        cache: Cache | None = None,
        memory: Memory | None = None,
        statistics: Statistics | None = None,
        conditions: Conditions | None = None,
        pairs: Float[Tensor, "B N N"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        column = connectivity.column
        past = column if column is not None else cache.length if cache is not None else 0
        contexts = self._contexts(connectivity, memory, past, turns_keys=cache is not None and cache.by_place)
        biases = position_biases(self.position_bias, connectivity, contexts)
        hidden = memory.hidden if memory is not None else None
        vectors = conditions.vectors if conditions is not None else None
        if conditions is not None:
            contexts = with_known(contexts, condition_of=conditions.of_token)
        if pairs is not None and self.needs_pairs:
            contexts = with_known(contexts, pairs=pairs)
        if connectivity.padded or connectivity.packing is not None:
            self._ragged_modes.add(self.training)
        run, call = _run, _call
        if self.is_compiled and cache is None and not any(isinstance(each.rendering, InParts) for each in contexts):
            run, call = in_one_graph_or_by_block(run, call, self.training in self._ragged_modes)
            x = x.contiguous()  # that of a convolution has strides that change with its sizes
        elif self.is_compiled and column is not None:
            run = compiled(run, tuned=True)
        x, found = self._pass(partial(run, self, call, cache=cache), (x, contexts, biases, hidden, vectors))
        if statistics is not None:
            add_statistics(statistics, found)
        if cache is not None and column is None:
            cache.length += x.shape[1]
        return x

    def _pass(self, run: Pass, arguments: tuple[Any, ...]) -> tuple[Tensor, Mapping[str, Tensor]]:
        learns = self.training and torch.is_grad_enabled()
        if self.is_compiled and learns and can_record(arguments[0].device) and not self._waits(arguments[0].device):
            self._modules_within = self._modules_within or [*self.modules()]  # a search takes as long as a pass
            return self._recorded(run, arguments, self._modules_within)
        return run(*arguments)

    def train(self, mode: bool = True) -> Any:
        """As torch has it. Modules may have been replaced before."""
        self._modules_within = None
        return super().train(mode)

    @property
    def mixers(self) -> dict[str, Mixer]:
        """A mixer of each kind of layer, by the key that made it."""
        return {key: block.mixes for key, block in zip(self.mixer_keys, self._layers, strict=True)}

    @property
    def feed_forwards(self) -> list[nn.Module]:
        """The feed-forward half of each layer."""
        return [layer.mlp for layer in self._layers]

    @property
    def needs_time_order(self) -> bool:
        """A mixer needs its tokens in the order of time, or segments of it are computed."""
        return self.memory_tokens is not None or any(layer.mixes.needs_time_order for layer in self._layers)

    @property
    def needs_pairs(self) -> bool:
        """A mixer reads pairs of tokens."""
        return any(layer.mixes.needs_pairs for layer in self._layers)

    @property
    def needs_index(self) -> bool:
        """Positions read the index of a token."""
        return "index" in self.rotary_axes

    @property
    def rotary_axes(self) -> set[str]:
        """What rotary positions of any layer read."""
        return {axis for rotary in self._rotaries if rotary is not None for axis in rotary.axes}

    def new_cache(self, capacity: int, *, by_place: bool = False) -> Cache | None:
        """An empty cache for at most `capacity` tokens; None where a mixer cannot go on token by token, and where
        samples are cut into segments.

        Args:
            by_place: tokens may be dropped, see `Cache`.
        """
        if self.memory_tokens is not None:
            return None
        caches = [layer.mixes.new_cache(capacity) for layer in self._layers]
        own = [cache for cache in caches if cache is not None]
        return Cache(own, by_place=by_place) if len(own) == len(caches) else None

    def check_packing(self, device_type: str) -> None:
        """Raises InvalidValue where a mixer cannot keep the samples of a packed row apart, or where their scores are
        changed in ways that the kernels of a GPU do not know."""
        for key, mixer in self.mixers.items():
            if not mixer.packs:
                problem = "cannot keep the samples of a packed row apart; set loader.packing=false"
                raise InvalidValue(key, type(mixer).__name__, problem)
        if device_type == "cpu" or not self._changes_scores:
            return
        problem = "cannot be computed for packed rows on a GPU"
        if self.position_bias is not None:
            name = type(self.position_bias).__name__
            raise InvalidValue(
                "positions.bias", name, f"{problem}; set loader.packing=false, or take positions without a bias"
            )
        key, dropout = next(iter(self._dropouts.items()))
        raise InvalidValue(f"{key}.dropout", dropout, f"{problem}; set it to 0, or loader.packing=false")

    def check_time_order(self, shared: str | None, several: str | None) -> None:
        """Raises InvalidValue where a mixer reads tokens one after the other, and cannot in their order.

        Args:
            shared: which of them may share an order, see `shared_order`.
            several: which of them may differ in it, see `several_orders`.
        """
        if self.memory_tokens is not None and shared is not None:
            segment = self.memory_tokens.segment
            raise InvalidValue("memory_tokens.segment", segment, f"cuts the order of time, and {shared}")
        for key, mixer in self.mixers.items():
            problem, way = (several, "from both ends") if mixer.reads_ahead else (shared, "one after the other")
            if mixer.needs_time_order and problem is not None:
                raise InvalidValue(key, type(mixer).__name__, f"reads tokens {way}, and {problem}")

    @property
    def _layers(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _check_rotaries(self) -> None:
        for rotary, layer in zip(self._rotaries, self._layers, strict=True):
            if rotary is not None:
                rotary.check_head_dims(self.dim, [layer.mixes.head_dim])

    def _scale_scores(self, base_width: int) -> None:
        for layer in self._layers:
            layer.scale_scores(base_width)

    def _contexts(
        self, connectivity: Connectivity, memory: Memory | None, past: int | Int[Tensor, " 1"], *, turns_keys: bool
    ) -> list[LayerContext]:
        if connectivity.packing is not None:
            self.check_packing(connectivity.order.device.type)
        render = partial(
            connectivity.render,
            flex=self.flex,
            dtype=self._dtype(connectivity.order.device),
            changes_scores=self._changes_scores,
            sinks=any(isinstance(mixer, Attention) and mixer.sinks is not None for mixer in self.mixers.values()),
        )
        mixers = [layer.mixes for layer in self._layers]
        made = ContextMaker(connectivity, render, memory, past, turns_keys)
        return made.of_layers(mixers, self.windows, self._rotaries)

    @property
    def _changes_scores(self) -> bool:
        """Attention has a bias of positions, or dropout, which is for training."""
        return self.position_bias is not None or (self.training and bool(self._dropouts))

    @property
    def _dropouts(self) -> dict[str, float]:
        """The dropout of attention, by the key that made it, where there is any."""
        attends = dict(self.mixers)
        if self.cross_attention:
            attends.setdefault("attention", self._layers[0].cross_attention)
        return {key: m.dropout for key, m in attends.items() if isinstance(m, Attention) and m.dropout}

    def _waits(self, device: torch.device) -> bool:
        dtype = self._dtype(device)
        return any(isinstance(half, FeedForward) and half.waits(device, dtype) for half in self.feed_forwards)

    def _dtype(self, device: torch.device) -> torch.dtype:
        """Of queries, keys and values."""
        mixed = torch.is_autocast_enabled(device.type)
        return torch.get_autocast_dtype(device.type) if mixed else next(self.parameters()).dtype


def _run(
    stack: Backbone,
    call: Callable[..., Output],
    x: Float[Tensor, "B N D"],
    contexts: list[LayerContext],
    biases: list[Bias],
    memory: Float[Tensor, "B S D"] | None,
    conditions: Float[Tensor, "C D"] | None,
    cache: Cache | None,
) -> tuple[Float[Tensor, "B N D"], Statistics]:
    """The output of a stack whose blocks are called by `call`, and the statistics of its layers."""
    statistics: Statistics = {}
    if stack.training:
        is_compiled = torch.compiler.is_compiling() or call is not _call
        call = recomputed(call, stack.activation_checkpointing, is_compiled)
    x = stack.embed_dropout(stack.input_norm(x.to(next(stack.parameters()).dtype)))  # positions come in float32
    read: list[Tensor] = []
    for layer, block in enumerate(stack.blocks):
        own = cache.layers[layer] if cache is not None else None
        read.append(x)
        given = {"bias": biases[layer], "memory": memory, "cache": own, "conditions": conditions}
        x, found = with_statistics(call(block, x, contexts[layer], **given))
        statistics |= {f"{name}/{layer}": value for name, value in found.items()}
    of_token = contexts[-1].condition_of if contexts else None
    final = None if conditions is None or of_token is None else Conditions(conditions, of_token)
    x = normalised(stack.final_norm, x, final)
    return (x if stack.layer_sum is None else stack.layer_sum([*read, x])), statistics


def _call(block: Block, *args: Any, **kwargs: Any) -> Output:
    return block(*args, **kwargs)
