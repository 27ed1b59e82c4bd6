"""Blocks that compute part of themselves again: the same gradients, and less that is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import POSITIONS, attention, backbone, model, text, text_batch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy

from mmtx.model import MultimodalTransformer
from mmtx.nn.recomputation import _policy

LENGTHS = [5, 8, 2]
KINDS_OF_BLOCKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.2, "drop_path": 0.3, "attention": attention(dropout=0.2)},
    "rotary": {"positions": POSITIONS["rotary"], "dropout": 0.2},
    "bias": {"positions": POSITIONS["t5"], "norm_place": "after"},
}


def made(**changes: Any) -> MultimodalTransformer:
    return model({"text": text()}, backbone(**{"num_layers": 3, **changes})).train()


def states_and_gradients(whole: MultimodalTransformer, packed: bool) -> list[Tensor]:
    torch.manual_seed(5)
    batch = text_batch(LENGTHS)
    states = whole(batch.packed() if packed else batch)
    hidden = states.hidden * states.valid[..., None]
    hidden.square().sum().backward()
    return [hidden.detach(), *(p.grad for p in whole.parameters() if p.grad is not None)]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", KINDS_OF_BLOCKS)
def test_gradients_stay_the_same(kind: str, packed: bool) -> None:
    """Also with dropout: what is computed again draws the same numbers."""
    changes = KINDS_OF_BLOCKS[kind]
    expected = states_and_gradients(made(**changes), packed)
    for how in ("selective", "blocks"):
        found = states_and_gradients(made(activation_checkpointing=how, **changes), packed)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=how)


@pytest.mark.slow
def test_compiled_blocks_leave_the_choice_to_the_compiler(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    expected = states_and_gradients(made(num_layers=2), packed=False)
    for how in ("selective", "blocks"):
        whole = made(num_layers=2, activation_checkpointing=how, compile=True)
        found = states_and_gradients(whole, packed=False)
        torch.testing.assert_close(found, expected, msg=how)


class Allocated(TorchDispatchMode):
    """Notes what operations allocate."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        return result

    @property
    def kept(self) -> int:
        return sum(size for reference, size in self.sizes.items() if not reference.expired())


def test_the_more_is_computed_again_the_less_is_kept() -> None:
    """Counted as what is still there of all that the forward pass has allocated."""
    kept = {}
    for how in ("none", "selective", "blocks"):
        whole = made(activation_checkpointing=how, dropout=0.1)
        token_set = whole.tokenize(text_batch([8] * 32))
        with Allocated() as allocated:
            states = whole.run(token_set)
        kept[how], tokens = allocated.kept, 8 * 32
        assert states.hidden.requires_grad
    floats = {how: kept[how] / 4 / tokens / 3 / 24 for how in kept}  # per token, layer and width
    assert floats["none"] > floats["selective"] > floats["blocks"], floats
    assert 10 <= floats["selective"] < 14, "query, key, value, attention, out, four up, down; and the block's input"
    assert floats["blocks"] < 3


def test_attention_that_draws_dropout_is_computed_again() -> None:
    """Else the generator would stand elsewhere behind it, and what follows would draw other numbers."""
    flash, cudnn = (
        torch.ops.aten._scaled_dot_product_flash_attention,
        torch.ops.aten._scaled_dot_product_cudnn_attention,
    )
    for operation, arguments in ((flash.default, ("q", "k", "v")), (cudnn.default, ("q", "k", "v", None, True))):
        assert _policy(None, operation, *arguments) is CheckpointPolicy.MUST_SAVE
        assert _policy(None, operation, *arguments, 0.0) is CheckpointPolicy.MUST_SAVE
        assert _policy(None, operation, *arguments, 0.1) is CheckpointPolicy.PREFER_RECOMPUTE
        assert _policy(None, operation, *arguments, dropout_p=0.1) is CheckpointPolicy.PREFER_RECOMPUTE
    assert _policy(None, torch.ops.aten.gelu.default, "x") is CheckpointPolicy.PREFER_RECOMPUTE
