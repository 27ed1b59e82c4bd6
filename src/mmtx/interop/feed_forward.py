"""The keys of public configs about the feed-forward block: its activation and its width."""

from collections.abc import Mapping
from typing import Any

from mmtx.errors import UserError

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "gelu": {"_target_": "torch.nn.GELU"},
    "gelu_new": {"_target_": "torch.nn.GELU", "approximate": "tanh"},
    "relu": {"_target_": "torch.nn.ReLU"},
    "silu": {"_target_": "torch.nn.SiLU"},
    "quick_gelu": {"_target_": "mmtx.nn.QuickGELU"},
}
ALSO = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "swish": "silu", "gelu_python": "gelu"}


def activation(name: str) -> dict[str, Any]:
    """The config node of an activation. Raises UserError if there is none."""
    node = ACTIVATIONS.get(ALSO.get(name, name))
    if node is None:
        raise UserError(f"the activation {name} is none of {', '.join([*ACTIVATIONS, *ALSO])}")
    return node


def activation_name(node: Mapping[str, Any]) -> str:
    found = next((name for name, other in ACTIVATIONS.items() if dict(node) == other), None)
    if found is None:
        raise UserError(f"the activation {dict(node)} has no name in public families")
    return found


def hidden_width(node: Mapping[str, Any], dim: int) -> int:
    """Hidden width of a feed-forward block, as `MLP` rounds it."""
    multiple = node["multiple_of"]
    return multiple * max(1, round(dim * node["expansion"] / multiple))


def feed_forward(name: str, hidden: int, dim: int, path: str = "backbone") -> dict[str, Any]:
    return {
        f"{path}.mlp.activation": activation(name),
        f"{path}.mlp.expansion": hidden / dim,
        f"{path}.mlp.multiple_of": 1,
    }
