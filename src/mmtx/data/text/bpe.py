"""Byte-pair encoding, learned from texts or read from a ``tokenizer.json``."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmtx.data.text.exact_tokenizer import ExactTokenizer
from mmtx.data.text.tokenizer_files import byte_level
from mmtx.data.text.vocabulary import BEGIN, END, TextVocabulary
from mmtx.errors import InvalidValue


class BPE(TextVocabulary):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2's variant), by the `tokenizers` library.

    A text that spells a mark or a special token gets the ids of its characters.

    Args:
        vocab_size: number of ids, bytes and marks included; ignored where `path` is given.
        path: a byte-level ``tokenizer.json`` to load instead of learning one.
        lowercase: texts are read in lower case, and so written; ignored where `path` is given.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        path: str | None,
        lowercase: bool = False,  # absent in stored configs of earlier versions
    ) -> None:
        if path is None and vocab_size < 258:
            raise InvalidValue("vocabulary.vocab_size", vocab_size, "must hold the 256 bytes and two marks", "258")
        self.vocab_size, self.path, self.lowercase = vocab_size, path, lowercase
        self._tokenizer: Any = None
        self._splits_at_lines = False

    @property
    def is_learned(self) -> bool:
        return self.path is None

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        if self.path is None:
            self._use(_learn(texts, self.vocab_size, marks, self.lowercase))
        else:
            tokenizer = _read_tokenizer(self.path)
            tokenizer.add_special_tokens([BEGIN, END] if marks else [])
            self._use(tokenizer)

    def encode(self, text: str) -> list[int]:
        pieces = _pieces(text) if self._splits_at_lines else [text]
        return [i for piece in pieces for i in self._texts.encode(piece)]

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def byte_lengths(self) -> list[int]:
        return [self._texts.byte_length(i) for i in range(self.size)]

    def spellings(self) -> list[bytes]:
        return [self._texts.spelling(i) for i in range(self.size)]

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer.to_str()}

    def load(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._use(Tokenizer.from_str(state["tokenizer"]))

    def _use(self, tokenizer: Any) -> None:
        self._tokenizer, self._texts = tokenizer, ExactTokenizer(tokenizer)
        self.size, self.begin, self.end = self._texts.size, *map(tokenizer.token_to_id, (BEGIN, END))
        parts = json.loads(tokenizer.to_str())
        before = parts["pre_tokenizer"] or {}
        plain = before.get("type") == "ByteLevel" and before["use_regex"] and not before["add_prefix_space"]
        self._splits_at_lines = plain and parts["normalizer"] is None


def _learn(texts: Iterable[str], vocab_size: int, marks: bool, lowercase: bool) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = byte_level(Tokenizer(models.BPE()))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BEGIN, END] if marks else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _read_tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    if not Path(path).expanduser().is_file():
        raise InvalidValue("vocabulary.path", path, "is not a file")
    try:
        tokenizer = Tokenizer.from_file(str(Path(path).expanduser()))
    except Exception as error:  # the library raises nothing narrower
        raise InvalidValue("vocabulary.path", path, f"is not a tokenizer.json: {error}") from None
    decoder = (json.loads(tokenizer.to_str())["decoder"] or {}).get("type")
    if decoder != "ByteLevel":  # otherwise bits per byte would be wrong
        raise InvalidValue("vocabulary.path", path, f"is not byte-level BPE: its decoder is {decoder}, not ByteLevel")
    return tokenizer


def _pieces(text: str, least: int = 10_000) -> Iterator[str]:
    """Splits a text where GPT-2's pattern does too, between a character and the line end after it.

    The ids are the same, but one long text would take 300 bytes of memory per character, and thrice the time.
    """
    start = 0
    while start < len(text):
        cut = _END_OF_LINE.search(text, start + least)
        stop = cut.start() if cut else len(text)
        yield text[start:stop]
        start = stop


_END_OF_LINE = re.compile(r"(?<=\S)\n")
