"""Which experts the tokens of a batch take: of each name of the set, or of the samples of each class."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int, Num
from torch import Tensor, nn

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.experts import Experts
from mmtx.nn.routers import Routing
from mmtx.tokens import HiddenStates, TokenSet, pack

LEGIBLE = 16
"""Experts up to which the numbers of a picture are written out."""

Loads = Mapping[str, Int[Tensor, "groups E"]]
"""Assignments of each group's tokens to each expert, by the layer as `MultimodalTransformer.statistics` name it."""


@torch.no_grad()
def expert_loads(
    model: MultimodalTransformer, batch: Batch, by: str | None = None, classes: Sequence[str] = ()
) -> tuple[list[str], Loads]:
    """The groups, and their loads.

    Args:
        model: in eval mode.
        batch: on the device of the model, not packed.
        by: a name of the batch with a class for each sample; None: groups are the names of the set.
        classes: of that name.
    """
    with _chosen(model) as chosen:
        token_set = model.tokenize(batch)
        states = model.run(token_set)
    groups, loads = list(classes) if by else model.names, {}
    for layer, flat in chosen.items():
        in_encoder = layer.startswith("encoder.")
        own, its = (token_set.memory, states.memory) if in_encoder else (token_set, states)
        assert own is not None and its is not None
        experts, of_layer = _as_joined(own, flat.unflatten(0, (len(batch), -1))), model.feed_forwards[layer]
        assert isinstance(of_layer, Experts)
        assigned = F.one_hot(experts, of_layer.num_experts).sum(2)
        members = _members_by_class(batch, by, len(groups), its) if by else _members_by_name(groups, its)
        members = members & its.valid[..., None]
        loads[layer] = torch.einsum("bng,bne->ge", members.double(), assigned.double()).long().cpu()
    return groups, loads


def purity(load: Num[Tensor, "groups E"]) -> float:
    """How far experts are of one group each: 1 if all are; one over the number of groups if groups make no difference.
    Groups count alike, whatever their numbers of tokens."""
    present = load[load.sum(1) > 0].double()
    return float((present / present.sum(1, keepdim=True)).amax(0).sum() / max(len(present), 1))


def draw_expert_loads(groups: Sequence[str], loads: Loads, path: Path) -> None:
    """A matrix for each layer, from the row's group to the column's expert, with its purity."""
    from matplotlib.figure import Figure

    num_experts = max(load.shape[1] for load in loads.values())
    size = 1.6 + 0.42 * min(num_experts, 2 * LEGIBLE), (0.7 + 0.26 * len(groups)) * len(loads) + 0.5
    figure = Figure(figsize=size, layout="constrained")
    for place, (layer, load) in enumerate(loads.items()):
        axes = figure.add_subplot(len(loads), 1, place + 1)
        shares = load.double() / load.sum(1, keepdim=True).clamp(min=1)
        axes.imshow(shares.numpy(), vmin=0, vmax=float(shares.max()), cmap="viridis", aspect="auto")
        axes.set_yticks(range(len(groups)), groups, fontsize=8)
        axes.set_xticks(range(load.shape[1]) if load.shape[1] <= LEGIBLE else [])
        pure = f", purity {purity(load):.2f}" if len(groups) > 1 else ""
        axes.set_title(f"layer {layer}{pure}", fontsize=9)
        if load.shape[1] <= LEGIBLE:
            _write(axes, shares)
    figure.supxlabel("expert: % of what a group's tokens take", fontsize=9)
    figure.savefig(path, dpi=110)


def _write(axes: Any, shares: Num[Tensor, "groups E"]) -> None:
    for row, of_group in enumerate(shares.tolist()):
        for column, share in enumerate(of_group):
            colour = "white" if share < 0.6 * float(shares.max()) else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)


@contextmanager
def _chosen(model: MultimodalTransformer) -> Iterator[dict[str, Int[Tensor, "T k"]]]:
    """The choices of every router, in a forward pass within this context."""
    found: dict[str, Tensor] = {}

    def keep(layer: str, router: nn.Module, args: Any, routing: Routing) -> None:
        found[layer] = routing.chosen

    stacks = [stack for stack in (model.backbone, model.encoder) if stack is not None]
    # compiled code would not run the hooks
    eager = torch.compiler.set_stance("force_eager") if any(stack.is_compiled for stack in stacks) else nullcontext()
    hooks = [
        half.router.register_forward_hook(partial(keep, layer))
        for layer, half in model.feed_forwards.items()
        if isinstance(half, Experts)
    ]
    try:
        with eager:
            yield found
    finally:
        for hook in hooks:
            hook.remove()


def _as_joined(token_set: TokenSet, laid: Int[Tensor, "B N k"]) -> Int[Tensor, "B N k"]:
    """Name after name, as spans are counted."""
    time_order = pack(token_set).connectivity.time_order
    return laid if time_order is None else time_order.restore(laid)


def _members_by_name(names: Sequence[str], states: HiddenStates) -> Tensor:
    """Which tokens are of each name, ``(1, N, names)``."""
    places = torch.arange(states.hidden.shape[1], device=states.hidden.device)
    empty = torch.zeros_like(places, dtype=torch.bool)
    spans = [states.spans.get(name) for name in names]
    of_names = [empty if s is None else (places >= s.start) & (places < s.stop) for s in spans]
    return torch.stack(of_names, dim=-1)[None]


def _members_by_class(batch: Batch, by: str, num_classes: int, states: HiddenStates) -> Tensor:
    """Whether a sample is of each class, ``(B, N, classes)``."""
    of_sample = F.one_hot(batch[by]["class"], num_classes).bool() & batch.present(by)[:, None]
    return of_sample[:, None].expand(-1, states.hidden.shape[1], -1)
