"""``layer_types`` of config.json: which layers of a decoder have a window."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtx.errors import UserError

LETTERS = {"full_attention": "G", "sliding_attention": "L"}


def letters_of_types(types: Sequence[str], count: int) -> str:
    """A letter for each of so many layers. Raises UserError for other kinds of layers, or another number."""
    unknown = [kind for kind in types if kind not in LETTERS]
    if unknown or len(types) != count:
        problem = f"names {unknown[0]}" if unknown else f"has {len(types)} layers, not {count}"
        raise UserError(f"layer_types {problem}; mmtx reads {', '.join(LETTERS)}, one for each layer")
    return "".join(LETTERS[kind] for kind in types)


def types_of(backbone: Mapping[str, Any]) -> list[str]:
    """The inverse, of our stack."""
    kinds = {letter: kind for kind, letter in LETTERS.items()}
    count = backbone["num_layers"]
    return [kinds[letter] for letter in (backbone["layers"] * count)[:count]]
