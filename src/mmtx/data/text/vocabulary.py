"""How text becomes ids: characters, words, bytes, or byte-pair encoding. A vocabulary is stored with the run."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mmtx.batch import Vocabulary
from mmtx.data.text.whole_texts import WholeTexts
from mmtx.errors import InvalidValue, UserError
from mmtx.public_names import public_name

BEGIN, END = "<begin>", "<end>"

AROUND_TEXTS = ("marks", "begin", "end", "prefix", "size")
"""Keys of states that say how a text begins and ends, not what its ids stand for."""


class TextVocabulary(ABC):
    """Ids of text. Made empty from the config; `fit` gives it its symbols, `load` restores them."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids."""

    @property
    @abstractmethod
    def begin(self) -> int | None:
        """Id that begins a text, or None where texts are windows of a stream."""

    @property
    @abstractmethod
    def end(self) -> int | None:
        """Id that ends a text."""

    @property
    def is_learnt(self) -> bool:
        """Whether `fit` learns the symbols from the texts; else the config gives them."""
        return True

    @abstractmethod
    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        """Learns the symbols of `texts`; ``marks=True`` adds ids for begin and end.

        Nothing is learnt from texts that are `held_out`, except which characters or words there are to write.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text, without marks. Raises `UserError` for text that it cannot write."""

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Text of ids; marks are left out."""

    @abstractmethod
    def byte_lengths(self) -> list[int]:
        """UTF-8 bytes that each id stands for; 0 for marks."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything `load` needs, as JSON."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None: ...


def described(vocabulary: Vocabulary) -> dict[str, Any]:
    """What a vocabulary is and knows, as JSON."""
    return {"kind": kind_of(vocabulary), "state": vocabulary.state()}


def kind_of(vocabulary: object) -> str:
    """The name of its class."""
    return public_name(type(vocabulary))


def same_ids(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether each id stands for the same in both, whatever texts begin and end with."""
    states = [{key: v for key, v in each.state().items() if key not in AROUND_TEXTS} for each in (one, other)]
    return kind_of(one) == kind_of(other) and states[0] == states[1]


class Symbols(TextVocabulary):
    """One id per symbol that the texts are made of, in the order of code points."""

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self._marks = False

    @abstractmethod
    def cut(self, text: str) -> Sequence[str]:
        """The symbols of a text, in order."""

    @abstractmethod
    def unknown(self, symbol: str, text: str) -> UserError:
        """What to say of a text's symbol that has no id."""

    @property
    def size(self) -> int:
        return len(self.symbols) + (2 if self._marks else 0)

    @property
    def begin(self) -> int | None:
        return len(self.symbols) if self._marks else None

    @property
    def end(self) -> int | None:
        return len(self.symbols) + 1 if self._marks else None

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        symbols = chain.from_iterable(map(self.cut, chain(texts, held_out)))
        self.load({"symbols": sorted(set(symbols)), "marks": marks})

    def encode(self, text: str) -> list[int]:
        try:
            return [self._index[symbol] for symbol in self.cut(text)]
        except KeyError as missing:
            raise self.unknown(missing.args[0], text) from None

    def byte_lengths(self) -> list[int]:
        return [len(s.encode("utf-8", "surrogatepass")) for s in self.symbols] + [0] * (self.size - len(self.symbols))

    def state(self) -> dict[str, Any]:
        return {"symbols": self.symbols, "marks": self._marks}

    def load(self, state: dict[str, Any]) -> None:
        self.symbols, self._marks = list(state["symbols"]), bool(state["marks"])
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}


class Characters(Symbols):
    """One id per Unicode character of the texts."""

    def cut(self, text: str) -> Sequence[str]:
        return text

    def unknown(self, symbol: str, text: str) -> UserError:
        return UserError(
            f"the character {symbol!r} (U+{ord(symbol):04X}) at offset {text.index(symbol)} is not among "
            f"the {len(self.symbols)} characters of the vocabulary; data/vocabulary=bytes can write anything"
        )

    def decode(self, ids: list[int]) -> str:
        return "".join(self.symbols[i] for i in ids if i < len(self.symbols))


class Words(Symbols):
    """One id per word of the texts: whatever stands between white space. Phonemes, above all (``HH AH L OW``).

    Words of texts that are held out have ids too, so that they can be written. A text is read again with one space
    between words, whatever there was.
    """

    def cut(self, text: str) -> Sequence[str]:
        return text.split()

    def unknown(self, symbol: str, text: str) -> UserError:
        return UserError(
            f"{symbol!r}, word {text.split().index(symbol) + 1} of a text, is not among the {len(self.symbols)} words "
            f"of the vocabulary; data/vocabulary=bytes can write anything"
        )

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.symbols[i] for i in ids if i < len(self.symbols))

    def byte_lengths(self) -> list[int]:
        """A word's own and its space: one more than a text has, whose last word has none."""
        return [length + 1 if i < len(self.symbols) else 0 for i, length in enumerate(super().byte_lengths())]


class Bytes(TextVocabulary):
    """The 256 bytes of UTF-8: writes anything, learns nothing."""

    is_learnt = False

    def __init__(self) -> None:
        self._marks = False

    @property
    def size(self) -> int:
        return 258 if self._marks else 256

    @property
    def begin(self) -> int | None:
        return 256 if self._marks else None

    @property
    def end(self) -> int | None:
        return 257 if self._marks else None

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        self._marks = marks

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def byte_lengths(self) -> list[int]:
        return [1] * 256 + [0] * (self.size - 256)

    def state(self) -> dict[str, Any]:
        return {"marks": self._marks}

    def load(self, state: dict[str, Any]) -> None:
        self._marks = bool(state["marks"])


class BPE(TextVocabulary):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2's variant), by the `tokenizers` library.

    A text is only ever text: one that spells a mark or a special token gets the ids of its letters.

    Args:
        vocab_size: ids to learn, bytes and marks included; unused where `path` is given.
        path: a ``tokenizer.json`` of the byte-level kind to load instead of learning one.
    """

    def __init__(self, *, vocab_size: int, path: str | None) -> None:
        if path is None and vocab_size < 258:
            raise InvalidValue("vocabulary.vocab_size", vocab_size, "must hold the 256 bytes and two marks", "258")
        self.vocab_size, self.path = vocab_size, path
        self._tokenizer: Any = None
        self._cuts_at_lines = False

    @property
    def is_learnt(self) -> bool:
        return self.path is None

    @property
    def size(self) -> int:
        return self._texts.size

    @property
    def begin(self) -> int | None:
        return self._tokenizer.token_to_id(BEGIN)

    @property
    def end(self) -> int | None:
        return self._tokenizer.token_to_id(END)

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        if self.path is None:
            self._use(_learn(texts, self.vocab_size, marks))
        else:
            tokenizer = _read_tokenizer(self.path)
            tokenizer.add_special_tokens([BEGIN, END] if marks else [])
            self._use(tokenizer)

    def encode(self, text: str) -> list[int]:
        pieces = _pieces(text) if self._cuts_at_lines else [text]
        return [i for piece in pieces for i in self._texts.encode(piece)]

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def byte_lengths(self) -> list[int]:
        return [self._texts.byte_length(i) for i in range(self.size)]

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer.to_str()}

    def load(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._use(Tokenizer.from_str(state["tokenizer"]))

    def _use(self, tokenizer: Any) -> None:
        self._tokenizer, self._texts = tokenizer, WholeTexts(tokenizer)
        parts = json.loads(tokenizer.to_str())
        before = parts["pre_tokenizer"] or {}
        plain = before.get("type") == "ByteLevel" and before["use_regex"] and not before["add_prefix_space"]
        self._cuts_at_lines = plain and parts["normalizer"] is None


def _learn(texts: Iterable[str], vocab_size: int, marks: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
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
    if decoder != "ByteLevel":  # else ids would not stand for bytes, and bits per byte would be wrong
        raise InvalidValue("vocabulary.path", path, f"is not byte-level BPE: its decoder is {decoder}, not ByteLevel")
    return tokenizer


def _pieces(text: str, least: int = 10_000) -> Iterator[str]:
    """Cuts a text where GPT-2's pattern cuts it too, between a character and the line end after it.

    The ids are the same; the library would take 300 bytes of memory per character of one long text, and thrice the
    time.
    """
    start = 0
    while start < len(text):
        cut = _END_OF_LINE.search(text, start + least)
        stop = cut.start() if cut else len(text)
        yield text[start:stop]
        start = stop


_END_OF_LINE = re.compile(r"(?<=\S)\n")
