"""How text becomes ids: characters, bytes, or byte-pair encoding. A vocabulary is stored with the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmtx.errors import InvalidValue, UserError

BEGIN, END = "<begin>", "<end>"


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

    @abstractmethod
    def fit(self, texts: Iterable[str], *, marks: bool) -> None:
        """Learns the symbols of `texts`; ``marks=True`` adds ids for begin and end."""

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


class Characters(TextVocabulary):
    """One id per Unicode character of the training text, in the order of code points."""

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self._marks = False

    @property
    def size(self) -> int:
        return len(self.symbols) + (2 if self._marks else 0)

    @property
    def begin(self) -> int | None:
        return len(self.symbols) if self._marks else None

    @property
    def end(self) -> int | None:
        return len(self.symbols) + 1 if self._marks else None

    def fit(self, texts: Iterable[str], *, marks: bool) -> None:
        self.load({"symbols": sorted(set().union(*map(set, texts))), "marks": marks})

    def encode(self, text: str) -> list[int]:
        try:
            return [self._index[character] for character in text]
        except KeyError as missing:
            character = missing.args[0]
            raise UserError(
                f"the character {character!r} (U+{ord(character):04X}) at offset {text.index(character)} is not among "
                f"the {len(self.symbols)} characters of the training text; data/vocabulary=bytes can write anything"
            ) from None

    def decode(self, ids: list[int]) -> str:
        return "".join(self.symbols[i] for i in ids if i < len(self.symbols))

    def byte_lengths(self) -> list[int]:
        return [len(s.encode("utf-8", "surrogatepass")) for s in self.symbols] + [0] * (self.size - len(self.symbols))

    def state(self) -> dict[str, Any]:
        return {"symbols": self.symbols, "marks": self._marks}

    def load(self, state: dict[str, Any]) -> None:
        self.symbols, self._marks = list(state["symbols"]), bool(state["marks"])
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}


class Bytes(TextVocabulary):
    """The 256 bytes of UTF-8: writes anything, learns nothing."""

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

    def fit(self, texts: Iterable[str], *, marks: bool) -> None:
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

    Args:
        vocab_size: ids to learn, bytes and marks included; unused where `path` is given.
        path: a ``tokenizer.json`` to load instead of learning one.
    """

    def __init__(self, *, vocab_size: int, path: str | None) -> None:
        if path is None and vocab_size < 258:
            raise InvalidValue("vocabulary.vocab_size", vocab_size, "must hold the 256 bytes and two marks", "258")
        self.vocab_size, self.path = vocab_size, path
        self._tokenizer: Any = None

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def begin(self) -> int | None:
        return self._tokenizer.token_to_id(BEGIN)

    @property
    def end(self) -> int | None:
        return self._tokenizer.token_to_id(END)

    def fit(self, texts: Iterable[str], *, marks: bool) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if self.path is not None:
            if not Path(self.path).is_file():
                raise InvalidValue("vocabulary.path", self.path, "is not a file")
            self._tokenizer = Tokenizer.from_file(self.path)
            if marks:
                self._tokenizer.add_special_tokens([BEGIN, END])
            return
        self._tokenizer = Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[BEGIN, END] if marks else [],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        self._tokenizer.train_from_iterator(texts, trainer)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def byte_lengths(self) -> list[int]:
        marks = {self.begin, self.end}
        tokens = [self._tokenizer.id_to_token(i) or "" for i in range(self.size)]  # one character per byte
        return [0 if i in marks else len(token) for i, token in enumerate(tokens)]

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer.to_str()}

    def load(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(state["tokenizer"])
