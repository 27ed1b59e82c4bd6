"""Where each id of a text attends to in the encoded sequence that is drawn above."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention_maps import attention_maps
from mmtx.objectives.shown import Below, drawn_name
from mmtx.objectives.text_head import TextHead


def cross_attention_below(model: MultimodalTransformer, head: TextHead, batch: Batch) -> list[Below]:
    """What to draw beneath a sequence: how the true text attends to it in the last layer. Nothing unless that sequence
    is what is encoded, and all of it."""
    name = drawn_name(model, batch)
    if name is None or model.encoded != [name] or model.tokenizer(name).spec.max_length == 1:
        return []
    maps = _maps(model, head, name, batch)

    def draw(axes: Any, above: Any, index: int) -> None:
        weights, pieces = maps[index]
        extent = (*above.get_xlim(), len(pieces) - 0.5, -0.5)
        axes.imshow(weights.numpy(), aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
        axes.set_yticks(range(len(pieces)), pieces, fontsize=7)
        axes.set_xlabel(above.get_xlabel())

    return [draw]


def _maps(
    model: MultimodalTransformer, head: TextHead, name: str, batch: Batch
) -> list[tuple[Float[Tensor, "Q M"], list[str]]]:
    """For each sample, attention averaged over heads, and the text's ids as they read."""
    inputs, targets, real = head.shift(batch)
    with torch.no_grad(), attention_maps(model.backbone, "cross_attention") as weights:
        states = model(inputs)
    span, lengths = states.spans[head.text], states.lengths(name).tolist()
    maps = []
    last = weights[max(weights)].cpu()
    for row, length, ids, count in zip(last, lengths, targets.tolist(), real.sum(1).tolist(), strict=True):
        pieces = [head.decode([i]) or "·" for i in ids[:count]]
        maps.append((row[span.content_start : span.content_start + count, : max(length, 1)], pieces))
    return maps
