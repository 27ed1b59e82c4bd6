"""What a block keeps for its backward pass, and what it computes again there, to save memory."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts, noop_context_fn

Recomputation = Literal["none", "selective", "blocks"]

KEPT = {
    *("aten::mm", "aten::addmm", "aten::_grouped_mm"),
    *("aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    *("aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention"),
    *("aten::_scaled_dot_product_fused_attention_overrideable", "torch_attn::_varlen_attn"),
}
"""Operations that cost more to compute again than their outputs take room. Not `bmm`: scores of attention are N × N."""


def recomputed(call: Callable[..., Any], how: Recomputation, is_compiled: bool) -> Callable[..., Any]:
    """What calls a block, with the same gradients, and less that is kept.

    Args:
        call: of a block and its arguments.
        how: ``selective`` keeps the outputs of matrix products and of attention, ``blocks`` only what goes in.
        is_compiled: the compiler chooses as ``selective`` does, by itself, and nothing inside of it is seen from here.
    """
    if how == "none" or (how == "selective" and is_compiled):
        return call
    if how == "blocks":
        return partial(checkpoint, call, use_reentrant=False)
    return partial(_selectively, call)


def _selectively(call: Callable[..., Any], block: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    contexts = noop_context_fn if _overwrites_products(block) else _kept
    return checkpoint(call, block, *arguments, use_reentrant=False, context_fn=contexts, **keywords)


def _overwrites_products(block: nn.Module) -> bool:
    """torch's recurrences add in place to the outputs of their matrix products, by views that hide it from autograd: to
    keep those would be to keep other numbers."""
    return any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in block.modules())


def _policy(_: Any, operation: Any, *arguments: Any, **keywords: Any) -> CheckpointPolicy:
    """What draws random numbers is computed again, so that whatever follows draws the same as before."""
    schema = getattr(operation, "_schema", None)
    if schema is None or schema.name not in KEPT:
        return CheckpointPolicy.PREFER_RECOMPUTE
    given = dict(zip((argument.name for argument in schema.arguments), arguments, strict=False)) | keywords
    return CheckpointPolicy.PREFER_RECOMPUTE if given.get("dropout_p") else CheckpointPolicy.MUST_SAVE


_kept = partial(create_selective_checkpoint_contexts, _policy)
