"""How much the names of the set attend to each other: a small matrix per layer."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention_maps import attention_maps
from mmtx.tokens import pack

LEAST_WIDTH = 3.2
"""In inches: what stands below the matrices, however few these are."""


@torch.no_grad()
def attention_shares(
    model: MultimodalTransformer, batch: Batch
) -> tuple[list[str], dict[int, Float[Tensor, "names names"]]]:
    """The share of its attention that a token of one name gives to the tokens of another, by layer.

    Shares are means over heads, the real tokens of a name, and all samples. A row sums to 1, and is NaN for a name
    that no sample has.

    Args:
        model: in eval mode.
        batch: on the device of the model, not packed.

    Returns:
        The names whose tokens are in the backbone; and a matrix of each layer that attends, from the row's name to the
        column's.
    """
    token_set = model.tokenize(batch)
    with attention_maps(model.backbone, "attention") as weights:
        states = model.run(token_set)
    if (time_order := pack(token_set).connectivity.time_order) is not None:
        weights = {layer: time_order.restore(time_order.restore(laid).mT).mT for layer, laid in weights.items()}
    names, real = list(states.spans), states.valid.expand(len(batch), -1).float()
    belongs = torch.zeros(real.shape[1], len(names), device=real.device)
    for column, span in enumerate(states.spans.values()):
        belongs[span.start : span.stop, column] = 1.0
    queries = real[..., None] * belongs
    count = queries.sum((0, 1))[:, None]
    return names, {
        layer: (torch.einsum("bqf,bqm,mt->ft", queries, attended.float(), belongs) / count).cpu()
        for layer, attended in weights.items()
    }


def draw_attention_shares(model: MultimodalTransformer, batch: Batch, path: Path) -> Path | None:
    """Draws `attention_shares`; None if only one name of the batch is in the backbone, or no layer attends."""
    if sum(name in batch for name in model.decoded) < 2:
        return None
    from matplotlib.figure import Figure

    names, layers = attention_shares(model, batch)
    if not layers:
        return None
    width = max(LEAST_WIDTH, 1.2 + (0.5 + 0.6 * len(names)) * len(layers))
    figure = Figure(figsize=(width, 1.4 + 0.6 * len(names)), layout="constrained")
    for place, (layer, shares) in enumerate(layers.items()):
        axes = figure.add_subplot(1, len(layers), place + 1)
        axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="viridis")
        axes.set_xticks(range(len(names)), names, rotation=45, fontsize=8)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names), fontsize=8)
        axes.set_title(f"layer {layer + 1}", fontsize=9)
        for row in range(len(names)):
            for column in range(len(names)):
                share = float(shares[row, column])
                colour = "white" if share < 0.6 else "black"
                percent = f"{100 * share:.0f}" if share else "–"  # exactly 0 is what the rule forbids
                axes.text(column, row, percent, ha="center", va="center", fontsize=7, color=colour)
    figure.supylabel("attends", fontsize=9)
    figure.supxlabel("to: % of its attention (–: it may not)", fontsize=9)
    figure.savefig(path, dpi=110)
    return path
