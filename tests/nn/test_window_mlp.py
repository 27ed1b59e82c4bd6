"""The neural language model of 2003, against its equation. What each recurrence promises: test_recurrence.py."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from builders import KINDS, backbone, model, text, text_batch
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.no_feed_forward import NoFeedForward
from mmtx.nn.window_mlp import WindowMLP


@pytest.mark.parametrize("direct", [False, True])
def test_a_bare_layer_is_the_model_of_the_paper(direct: bool) -> None:
    """``y = b + W x + U tanh(d + H x)`` (Bengio et al. 2003, equation 1), one token at a time, by its own tables; the
    head turns what a layer gives into the scores of 11 ids."""
    mixer = partial(WindowMLP, window=3, expansion=1.5, direct=direct)
    kinds = {**KINDS, "W": LayerKind(mixer=mixer, residual=False)}
    bare = {"norm": nn.Identity, "final_norm": False, "mlp": NoFeedForward, "num_layers": 1}
    whole = model({"text": text()}, backbone(layers="W", kinds=kinds, init_std=0.5, **bare)).double()
    for parameter in whole.parameters():
        nn.init.normal_(parameter)  # also biases, which begin at zero
    own, head = whole.backbone.blocks[0].mixer, torch.randn(11, 24, dtype=torch.double)
    of_names = whole.type_embeddings["text"] if "text" in whole.type_embeddings else 0.0
    table = whole.tokenizer("text").embedding.weight + of_names
    h, d, u, b = own.hidden.weight, own.hidden.bias, head @ own.out.weight, head @ own.out.bias
    w = head @ own.direct.weight if direct else torch.zeros(11, 3 * 24, dtype=torch.double)
    batch = text_batch([5, 2])
    scores = whole(batch).hidden @ head.T
    for row, length in enumerate((5, 2)):
        words = [torch.zeros(24, dtype=torch.double)] * 2 + [table[i] for i in batch["text"]["ids"][row, :length]]
        for t in range(length):
            x = torch.cat(words[t : t + 3])
            torch.testing.assert_close(scores[row, t], b + w @ x + u @ torch.tanh(d + h @ x), atol=1e-10, rtol=1e-10)


def test_a_window_has_a_token() -> None:
    with pytest.raises(InvalidValue, match="attention.window=0 must be at least 1"):
        WindowMLP(8, 1, window=0, expansion=1.0, direct=False)
