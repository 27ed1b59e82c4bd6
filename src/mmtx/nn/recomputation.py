"""What a block keeps for its backward pass, and what it computes again there, to save memory."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recomputation = Literal["none", "selective", "blocks"]

KEPT = {
    *("aten::mm", "aten::addmm", "aten::_grouped_mm"),
    *("aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    *("aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention"),
    *("aten::_scaled_dot_product_fused_attention_overrideable", "torch_attn::_varlen_attn"),
}
"""Operations that cost more to compute again than their outputs take room. Not `bmm`: scores of attention are N × N."""


def recomputed(block: Callable[..., Any], how: Recomputation, is_compiled: bool) -> Callable[..., Any]:
    """A block, or what calls one, whose gradients are the same, and for which less is kept.

    Args:
        block: called with the same arguments.
        how: ``selective`` keeps the outputs of matrix products and of attention, ``blocks`` only what goes in.
        is_compiled: the compiler chooses as ``selective`` does, by itself, and nothing inside of it is seen from here.
    """
    if how == "none" or (how == "selective" and is_compiled):
        return block
    if how == "blocks":
        return partial(checkpoint, block, use_reentrant=False)
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    return partial(checkpoint, block, use_reentrant=False, context_fn=contexts)


def _policy(_: Any, operation: Any, *arguments: Any, **keywords: Any) -> CheckpointPolicy:
    """What draws random numbers is computed again, so that whatever follows draws the same as before."""
    schema = getattr(operation, "_schema", None)
    if schema is None or schema.name not in KEPT:
        return CheckpointPolicy.PREFER_RECOMPUTE
    given = dict(zip((argument.name for argument in schema.arguments), arguments, strict=False)) | keywords
    return CheckpointPolicy.PREFER_RECOMPUTE if given.get("dropout_p") else CheckpointPolicy.MUST_SAVE
