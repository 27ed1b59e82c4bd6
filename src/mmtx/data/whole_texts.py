"""Ids of whole texts: what a tokenizer would cut off, add or leave out is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mmtx.data.sentence_pieces import SentencePieces
from mmtx.errors import UserError


class WholeTexts:
    """What a tokenizer makes of texts, though its file may have stored that they are cut and padded.

    A text is only ever text: one that spells a special token gets the ids of its letters. A model of pairs without an
    unknown token leaves out letters that it lacks, and reports nothing: here they are an error.

    Args:
        tokenizer: of the `tokenizers` library, or `SentencePieces`. It is changed: it neither cuts nor pads any more.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._is_sentence_pieces = tokenizer, isinstance(tokenizer, SentencePieces)
        self._known: set[str] | None = None
        self._is_byte_level = False
        if not self._is_sentence_pieces:
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.encode_special_tokens = True  # not part of its JSON
            parts = json.loads(tokenizer.to_str())
            self._known, self._is_byte_level = _letters_of_pairs(parts), '"ByteLevel"' in json.dumps(parts["decoder"])

    def encode(self, text: str) -> list[int]:
        """Raises UserError for text that the tokenizer cannot write."""
        if self._known is not None and self._lacking(text):
            letter = next((letter for letter in text if self._lacking(letter)), text)
            raise UserError(
                f"the character {letter!r} at offset {text.index(letter)} cannot be written: this tokenizer has "
                f"neither its bytes nor an unknown token; learn it with all 256 bytes (initial_alphabet)"
            )
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"this tokenizer cannot write {text[:60]!r}: {error}") from None

    def byte_length(self, number: int) -> int:
        """UTF-8 bytes that an id stands for; none, of special tokens."""
        if self._is_sentence_pieces:
            return self._tokenizer.byte_length(number)
        token, added = self._tokenizer.id_to_token(number) or "", self._added.get(number)
        if added is not None:
            return 0 if added.special else len(token.encode())
        return len(token) if self._is_byte_level else len(token.removeprefix("##").replace("▁", " ").encode())

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

    def _lacking(self, text: str) -> set[str]:
        assert self._known is not None
        for token in self._added.values():
            text = text if token.special else text.replace(token.content, "")
        if self._tokenizer.normalizer is not None:
            text = self._tokenizer.normalizer.normalize_str(text)
        before = self._tokenizer.pre_tokenizer
        words = [text] if before is None else [word for word, _ in before.pre_tokenize_str(text)]
        return set().union(*words) - self._known


def _letters_of_pairs(parts: Mapping[str, Any]) -> set[str] | None:
    """Letters that a model of pairs has; None where it has all, or leaves out nothing."""
    from tokenizers.pre_tokenizers import ByteLevel

    model = parts["model"]
    if model["type"] != "BPE" or model.get("unk_token") is not None or model.get("byte_fallback"):
        return None
    ends = [model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""]
    letters = {token.removeprefix(ends[0]).removesuffix(ends[1]) for token in model["vocab"]}
    has_bytes = '"ByteLevel"' in json.dumps(parts["pre_tokenizer"]) and letters.issuperset(ByteLevel.alphabet())
    return None if has_bytes else letters
