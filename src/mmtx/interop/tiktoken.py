"""Converts the ranks of tiktoken to a tokenizer of the `tokenizers` library."""

from collections.abc import Mapping
from typing import Any

from mmtx.data.text.tokenizer_files import byte_level, with_added


def from_ranks(ranks: Mapping[bytes, int], special: Mapping[str, int]) -> Any:
    """Byte-level BPE with the same ids. The merge of a token is of the two parts to which lower ranks merge it."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE

    letters = _byte_characters()

    def spelt(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
        if len(token) > 1:
            left, right = _halves(ranks, token, rank)
            merges.append((spelt(left), spelt(right)))
    tokenizer = Tokenizer(BPE({spelt(token): rank for token, rank in ranks.items()}, merges))
    added = {number: AddedToken(token, normalized=False, special=True) for token, number in special.items()}
    return with_added(byte_level(tokenizer), added)


def _halves(ranks: Mapping[bytes, int], token: bytes, below: int) -> list[bytes]:
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], below))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _byte_characters() -> list[str]:
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]
