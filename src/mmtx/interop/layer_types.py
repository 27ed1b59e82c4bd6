"""``layer_types`` of config.json: which layers of a decoder have a window."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtx.errors import UserError

FULL, SLIDING = "full_attention", "sliding_attention"
LETTERS = {FULL: "G", SLIDING: "L"}


def read_types(
    types: Sequence[str], num_layers: int, window: int | None, needs: str = "sliding_window"
) -> dict[str, Any]:
    """Our letters and window, as `{path: value}`.

    Raises:
        UserError: for other kinds of layers, or another number of them, or for a window that the file does not give.
    """
    unknown = [kind for kind in types if kind not in LETTERS]
    if unknown or len(types) != num_layers:
        problem = f"names {unknown[0]}" if unknown else f"has {len(types)} layers, not {num_layers}"
        raise UserError(f"layer_types {problem}; mmtx reads {', '.join(LETTERS)}, one for each layer")
    if SLIDING in types and window is None:
        raise UserError(f"layer_types has {SLIDING}, which needs {needs}")
    return {"backbone.layers": "".join(LETTERS[kind] for kind in types), "backbone.window": window}


def write_types(backbone: Mapping[str, Any]) -> list[str]:
    """The inverse of `read_types`, of our backbone. Raises KeyError for another kind of layer."""
    kinds = {letter: kind for kind, letter in LETTERS.items()}
    count = backbone["num_layers"]
    return [kinds[letter] for letter in (backbone["layers"] * count)[:count]]
