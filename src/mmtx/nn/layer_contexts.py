"""The contexts of all layers of a stack, and the biases of their positions: what is equal is made once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from mmtx.attention.kernels import Bias, InParts, Rendering
from mmtx.attention.memory_rule import Memory, MemoryRule
from mmtx.attention.rule import Connectivity
from mmtx.nn.attention import Attention
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.mixer import Mixer
from mmtx.nn.rotary import Rotary, RotaryTable

Turn = tuple[Rotary | None, int | None]
"""The rotary positions of a layer, and the width of its heads."""


@dataclass(frozen=True)
class ContextMaker:
    """Makes the context of each layer in one forward pass; layers of equal windows and heads share one.

    Args:
        connectivity: of all tokens.
        render: `Connectivity.render`, with what is the same for all layers.
        memory: the keys of cross-attention.
        past: tokens of each sample before these, see `LayerContext`.
        turns_keys: a cache keeps keys unturned.
    """

    connectivity: Connectivity
    render: Callable[..., Rendering]
    memory: Memory | None
    past: int | Int[Tensor, " 1"]
    turns_keys: bool

    def of_layers(
        self, mixers: Sequence[Mixer], windows: Sequence[int | None], rotaries: Sequence[Rotary | None]
    ) -> list[LayerContext]:
        """One for each layer."""
        caps = [mixer.softcap if isinstance(mixer, Attention) else None for mixer in mixers]
        turns = list(zip(rotaries, (mixer.head_dim for mixer in mixers), strict=True))
        kernels = list(zip(windows, caps, strict=True))
        renderings = {(window, cap): self.render(window, softcap=cap) for window, cap in dict.fromkeys(kernels)}
        rule = self.connectivity
        tables = _tables(turns, rule.query_position, rule.query_index)
        of_keys = _tables(turns, rule.position, rule.index) if self.turns_keys else {}
        known = partial(
            LayerContext,
            valid=rule.query_valid,
            segment=rule.query_segment,
            memory_rendering=None if self.memory is None else MemoryRule(rule, self.memory.connectivity).render(),
            packing=rule.packing,
            past=self.past,
            position=rule.query_position if any(mixer.needs_window for mixer in mixers) else None,
        )
        needs = list(zip(kernels, turns, strict=True))
        made = {
            (kernel, turn): known(
                rendering=renderings[kernel],
                rotary=tables[turn],
                key_rotary=of_keys.get(turn),
                window=kernel[0],
            )
            for kernel, turn in set(needs)
        }
        return [made[need] for need in needs]


def position_biases(bias: nn.Module | None, rule: Connectivity, contexts: Sequence[LayerContext]) -> list[Bias]:
    """The bias of positions of each layer; all that compute whole rows share one."""
    if bias is None:
        return [None] * len(contexts)
    made: dict[int, Bias] = {}
    biases = []
    for rendering in (context.rendering for context in contexts):
        key = id(rendering) if isinstance(rendering, InParts) else 0
        if key not in made:
            made[key] = rule.bias(rendering, bias)
        biases.append(made[key])
    return biases


def with_known(contexts: Sequence[LayerContext], **known: Any) -> list[LayerContext]:
    """The contexts with what else is known of the tokens; layers that shared one still do."""
    made = {id(each): replace(each, **known) for each in contexts}
    return [made[id(each)] for each in contexts]


def _tables(
    turns: Sequence[Turn], position: Int[Tensor, "#B N 3"], index: Int[Tensor, "#B N"] | None
) -> dict[Turn, RotaryTable | None]:
    """The angles of tokens for all kinds of rotary positions, and widths of heads, that layers have."""
    return {
        (rotary, width): rotary.table(position, width, index) if rotary and width else None
        for rotary, width in dict.fromkeys(turns)
    }
