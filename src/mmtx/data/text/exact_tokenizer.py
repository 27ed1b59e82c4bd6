"""A tokenizer that encodes the exact text: without truncation, padding, special tokens, or dropped characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmtx.data.text.sentence_pieces import SentencePieces
from mmtx.errors import UserError


class ExactTokenizer:
    """Encodes whole texts, also where the file of a tokenizer has truncation or padding.

    A text that spells a special token gets the ids of its characters. BPE without an unknown token silently drops
    characters that it lacks: here they are an error.

    Args:
        tokenizer: of the `tokenizers` library, or `SentencePieces`. Its truncation and padding are switched off.

    Raises:
        UserError: the tokenizer has dropout, and so splits words at random.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._is_sentence_pieces = tokenizer, isinstance(tokenizer, SentencePieces)
        self._alphabet: _BPEAlphabet | None = None
        if not self._is_sentence_pieces:
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.encode_special_tokens = True  # not part of its JSON
            parts = json.loads(tokenizer.to_str())
            dropout = parts["model"].get("dropout")
            if dropout:
                raise UserError(
                    f"the model of this tokenizer has dropout={dropout:g}: it splits words at random, in "
                    f"evaluation too; set it to null in tokenizer.json"
                )
            self._alphabet, self._spelling = _BPEAlphabet.of(parts), _Spelling.of(parts)

    def encode(self, text: str) -> list[int]:
        """Raises UserError for text that the tokenizer cannot encode."""
        if self._alphabet is not None and self._lacks(text):
            letter = next((letter for letter in text if self._lacks(letter)), text)
            raise UserError(
                f"the character {letter!r} at offset {text.index(letter)} cannot be written: this tokenizer has "
                f"neither its bytes nor an unknown token; learn it with all 256 bytes (initial_alphabet)"
            )
        return self._ids(text)

    def encode_spelt(self, text: str) -> list[int]:
        """Ids of a text whose special tokens are spelt: each is its own id. Raises UserError as `encode` does."""
        return self.encode_spans(text, ())[0]

    def encode_spans(self, text: str, spans: Iterable[tuple[int, int]]) -> tuple[list[int], list[bool]]:
        """The same, and which ids stand for characters of some spans."""
        if self._is_sentence_pieces:
            raise UserError("special tokens cannot be spelt in texts of SentencePiece's own models")
        try:
            self._tokenizer.encode_special_tokens = False
            encoded = self._encoded(text)
        finally:
            self._tokenizer.encode_special_tokens = True
        within = [False] * len(encoded.ids)
        for first, stop in spans:
            places = range(first, stop)  # some of which may be in no token
            start, last = (
                next((token for token in map(encoded.char_to_token, each) if token is not None), None)
                for each in (places, reversed(places))
            )
            if start is not None and last is not None:
                within[start : last + 1] = [True] * (last + 1 - start)
        return encoded.ids, within

    def _ids(self, text: str) -> list[int]:
        return self._encoded(text).ids

    def _encoded(self, text: str) -> Any:
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"this tokenizer cannot write {text[:60]!r}: {error}") from None

    @cached_property
    def size(self) -> int:
        """One more than the largest id: a vocabulary may have gaps."""
        if self._is_sentence_pieces:
            return self._tokenizer.get_vocab_size()
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def byte_length(self, number: int) -> int:
        """Number of UTF-8 bytes that an id stands for; 0 for special tokens."""
        if self._is_sentence_pieces:
            return self._tokenizer.byte_length(number)
        token, added = self._tokenizer.id_to_token(number) or "", self._added.get(number)
        if added is not None:
            return 0 if added.special else len(token.encode())
        return self._spelling.byte_length(token)

    def spelling(self, number: int) -> bytes:
        """The bytes that an id stands for; none for special tokens.

        Raises:
            UserError: tokens do not stand for the same bytes everywhere, as they do in byte-level BPE.
        """
        if self._is_sentence_pieces or not self._spelling.is_byte_level:
            raise UserError(
                "a grammar needs ids that spell the same bytes everywhere: characters, bytes, byte-level BPE"
            )
        token, added = self._tokenizer.id_to_token(number) or "", self._added.get(number)
        if added is not None:
            return b"" if added.special else token.encode()
        return bytes(_BYTES[letter] for letter in token)

    def last(self) -> tuple[str, int]:
        """The token of the largest id that a text can become, and the id."""
        if self._is_sentence_pieces:
            return self._tokenizer.last()
        special = {number for number, token in self._added.items() if token.special}
        tokens = self._tokenizer.get_vocab(with_added_tokens=True).items()
        return max((item for item in tokens if item[1] not in special), key=lambda item: item[1], default=("", -1))

    @cached_property
    def _added(self) -> dict[int, Any]:
        return self._tokenizer.get_added_tokens_decoder()

    def _lacks(self, text: str) -> bool:
        assert self._alphabet is not None
        for token in self._added.values():
            text = text if token.special else text.replace(token.content, "")
        if self._tokenizer.normalizer is not None:
            text = self._tokenizer.normalizer.normalize_str(text)
        before = self._tokenizer.pre_tokenizer
        words = [text] if before is None else [word for word, _ in before.pre_tokenize_str(text)]
        return any(self._alphabet.lack(word) for word in words)


@dataclass(frozen=True)
class _BPEAlphabet:
    """The characters that BPE can start from, where it drops those that it lacks."""

    vocabulary: Set[str]
    prefix: str
    suffix: str
    has_bytes: bool

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> _BPEAlphabet | None:
        """None where it has all characters, or drops none."""
        from tokenizers.pre_tokenizers import ByteLevel

        model = parts["model"]
        if model["type"] != "BPE" or model.get("unk_token") is not None:
            return None
        prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
        pairs = cls(frozenset(model["vocab"]), prefix, suffix, bool(model.get("byte_fallback")))
        is_byte_level = '"ByteLevel"' in json.dumps(parts["pre_tokenizer"]) and not prefix + suffix
        has_all = is_byte_level and pairs.vocabulary >= {*ByteLevel.alphabet()}
        return None if has_all or (pairs.has_bytes and pairs.vocabulary >= _spelt(range(256))) else pairs

    def lack(self, word: str) -> bool:
        last = len(word) - 1
        return any(
            f"{self.prefix if i else ''}{letter}{self.suffix if i == last else ''}" not in self.vocabulary
            and not (self.has_bytes and self.vocabulary >= _spelt(letter.encode()))
            for i, letter in enumerate(word)
        )


@dataclass(frozen=True)
class _Spelling:
    """How a tokenizer spells spaces and bytes, and marks where in a word a token stands."""

    is_byte_level: bool
    has_bytes: bool
    prefix: str
    suffix: str
    space: str

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> _Spelling:
        model, decoder = parts["model"], parts["decoder"] or {}
        spaces = [step.get("replacement") for step in [decoder, *decoder.get("decoders", [])]]
        return cls(
            '"ByteLevel"' in json.dumps(decoder),
            '"ByteFallback"' in json.dumps(decoder),
            model.get("continuing_subword_prefix") or "",
            model.get("end_of_word_suffix") or "",
            next((space for space in spaces if space), "▁"),
        )

    def byte_length(self, token: str) -> int:
        if self.is_byte_level:
            return len(token)
        if self.has_bytes and _BYTE.fullmatch(token):
            return 1
        if self.suffix and token.endswith(self.suffix):
            token = token.removesuffix(self.suffix) + " "
        return len(token.removeprefix(self.prefix).replace(self.space, " ").encode())


def _bytes() -> dict[str, int]:
    """The byte behind each character of byte-level BPE, by GPT-2's table: printable Latin-1 stands for itself; the
    others, in their order, are the characters from 256 on."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _bytes()
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _spelt(numbers: Iterable[int]) -> set[str]:
    """Bytes as `byte_fallback` spells them."""
    return {f"<0x{byte:02X}>" for byte in numbers}
