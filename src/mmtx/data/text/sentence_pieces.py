"""SentencePiece models of any kind, run by the library itself."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmtx.errors import UserError


class Encoding(NamedTuple):
    ids: list[int]


class SentencePieces:
    """A SentencePiece model with the interface of the `tokenizers` library, as far as mmtx uses it.

    As in the library, a text can be encoded to user-defined symbols, but not to control symbols.

    Args:
        model: the content of its file.
        sentinels: tokens after its pieces, which no text is encoded to.
        canonical: texts are written in lower case and without punctuation, as SigLIP has them.

    Raises:
        UserError: the library is not installed.
        RuntimeError: the content is no model.
    """

    def __init__(self, model: bytes, sentinels: Sequence[str], *, canonical: bool = False) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise UserError("a model of SentencePiece needs its library: pip install 'mmtx[sentencepiece]'") from None
        self.model, self.sentinels, self.canonical = model, list(sentinels), canonical
        self._processor: Any = SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        self._count = self._processor.get_piece_size()

    @classmethod
    def from_str(cls, text: str) -> SentencePieces:
        """The inverse of `to_str`."""
        state = json.loads(text)
        canonical = state.get("canonical", False)
        return cls(base64.b64decode(state["sentencepiece"]), state["sentinels"], canonical=canonical)

    @staticmethod
    def wrote(text: str) -> bool:
        """Whether `to_str` wrote a text, rather than the `tokenizers` library."""
        return text.startswith('{"sentencepiece"')

    def to_str(self) -> str:
        state = {"sentencepiece": base64.b64encode(self.model).decode(), "sentinels": self.sentinels}
        return json.dumps(state | ({"canonical": True} if self.canonical else {}))

    def get_vocab_size(self) -> int:
        return self._count + len(self.sentinels)

    def token_to_id(self, token: str) -> int | None:
        if token in self.sentinels:
            return self._count + self.sentinels.index(token)
        found = self._processor.piece_to_id(token)
        return found if self._processor.id_to_piece(found) == token else None

    def id_to_token(self, number: int) -> str | None:
        if number < self._count:
            return self._processor.id_to_piece(number)
        return self.sentinels[number - self._count] if number < self.get_vocab_size() else None

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoding:
        return Encoding(self._processor.encode(_canonical(text) if self.canonical else text))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._processor.decode([i for i in ids if i < self._count and not self._processor.is_control(i)])

    def last(self) -> tuple[str, int]:
        """The last piece that a text can be encoded to, and its id."""
        return self._processor.id_to_piece(self._count - 1), self._count - 1

    def byte_length(self, number: int) -> int:
        """Number of UTF-8 bytes of a piece; 0 for marks, sentinels and the unknown piece."""
        if number >= self._count or self._processor.is_control(number) or self._processor.is_unknown(number):
            return 0
        if self._processor.is_byte(number):
            return 1
        return len(self._processor.id_to_piece(number).replace("▁", " ").encode())


def _canonical(text: str) -> str:
    """Lower case without ASCII punctuation, one space between words: `canonicalize_text` of big_vision, by which SigLIP
    was trained."""
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
