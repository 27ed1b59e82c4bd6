"""Where each id of a text attends to in the encoded sequence that is drawn above."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.capabilities import Draws
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention_maps import attention_maps
from mmtx.objectives.sample_grid import Below
from mmtx.objectives.text_head import TextHead
from mmtx.tokens import pack


def cross_attention_below(model: MultimodalTransformer, head: TextHead, batch: Batch) -> dict[str, Below]:
    """What to draw beneath an encoded sequence: how the true text attends to it in the last layer. Nothing unless that
    is all that is encoded, and is drawn over its length."""
    name = next((name for name in model.encoded if name in batch), "")
    if model.encoded != [name] or not isinstance(model.tokenizer(name), Draws):
        return {}
    if model.tokenizer(name).spec.max_length == 1:
        return {}
    maps = _maps(model, head, name, batch)

    def draw(axes: Any, above: Any, index: int) -> None:
        weights, pieces = maps[index]
        extent = (*above.get_xlim(), len(pieces) - 0.5, -0.5)
        axes.imshow(weights.numpy(), aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
        axes.set_yticks(range(len(pieces)), pieces, fontsize=7)
        axes.set_xlabel(above.get_xlabel())

    return {name: draw}


def _maps(
    model: MultimodalTransformer, head: TextHead, name: str, batch: Batch
) -> list[tuple[Float[Tensor, "Q M"], list[str]]]:
    """For each sample, attention averaged over heads, and the text's ids as they read."""
    inputs, targets, real = head.shift(batch)
    with torch.no_grad(), attention_maps(model.backbone, "cross_attention") as weights:
        token_set = model.tokenize(inputs)
        states, time_order = model.run(token_set), pack(token_set).connectivity.time_order
    span, lengths = states.spans[head.text], states.lengths(name).tolist()
    maps = []
    last = weights[max(weights)]
    last = last if time_order is None else time_order.restore(last)
    for row, length, ids, count in zip(last.cpu(), lengths, targets.tolist(), real.sum(1).tolist(), strict=True):
        pieces = [head.decode([i]) or "·" for i in ids[:count]]
        maps.append((row[span.content_start : span.content_start + count, : max(length, 1)], pieces))
    return maps
