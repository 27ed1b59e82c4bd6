"""Vocabularies, which map text to ids: characters, words and bytes. A vocabulary is saved with the run."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from mmtx.batch import Vocabulary
from mmtx.data.text.picture_marks import PictureMarks
from mmtx.errors import UserError
from mmtx.public_names import public_name

BEGIN, END = "<begin>", "<end>"

NO_CHAT = (
    "conversations need a vocabulary with a chat template: data/vocabulary=pretrained data.vocabulary.path=FOLDER, of "
    "a public model, or init_from=RUN of one"
)

AROUND_TEXTS = ("marks", "begin", "end", "more_ends", "prefix", "size", "chat")
"""Keys of states about how a text begins and ends, rather than about what its ids stand for."""


class TextVocabulary(ABC):
    """Maps text to ids. Constructed empty from the config; `fit` learns its symbols, `load` restores them.

    Attributes:
        size: number of ids.
        begin: id of the mark that begins a text; None where texts are windows of a stream.
        end: id of the mark that ends a text; None likewise.
        picture: how a text has a picture that stands within it; None: it has none.
    """

    size: int
    begin: int | None = None
    end: int | None = None
    picture: PictureMarks | None = None

    @property
    def ends(self) -> Sequence[int]:
        """Ids of which each ends a text that is written, `end` first; none where texts do not end."""
        return () if self.end is None else (self.end,)

    @property
    def is_learned(self) -> bool:
        """Whether `fit` learns the symbols from the texts; otherwise the config gives them."""
        return True

    @abstractmethod
    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        """Learns the symbols of `texts`; ``marks=True`` adds ids for begin and end.

        From texts that are `held_out`, only the set of characters or words is taken, so that they can be encoded.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text, without marks. Raises `UserError` for text that it cannot encode."""

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text between those of the marks that the vocabulary has."""
        begin, end = ([] if mark is None else [mark] for mark in (self.begin, self.end))
        return [*begin, *self.encode(text), *end]

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], template: str | None = None) -> list[int]:
        """Ids of a conversation, up to where its next turn begins. Raises `UserError` without a chat template."""
        raise UserError("the texts of this model have no chat template; give prompt=... instead of messages=...")

    def encode_conversation(
        self, messages: Sequence[Mapping[str, Any]], *, all_turns: bool
    ) -> tuple[list[int], list[bool]]:
        """Ids of a whole conversation, and which of them the assistant wrote, or `all_turns`. Raises `UserError` as
        `encode_chat` does."""
        raise UserError(NO_CHAT)

    def fit_chat(self) -> None:
        """Makes the vocabulary ready for conversations, which its chat template begins and ends. Raises `UserError`
        without one."""
        raise UserError(NO_CHAT)

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Text of ids, without marks."""

    @abstractmethod
    def byte_lengths(self) -> list[int]:
        """Number of UTF-8 bytes that each id stands for; 0 for marks."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as JSON."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None: ...

    def _add_marks(self, count: int, marks: bool) -> None:
        """Gives the marks, if there are any, the ids after those of `count` symbols."""
        self.size, self.begin, self.end = (count + 2, count, count + 1) if marks else (count, None, None)


def describe_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """The kind and state of a vocabulary, as JSON."""
    return {"kind": kind_of(vocabulary), "state": vocabulary.state()}


def kind_of(vocabulary: object) -> str:
    """The public name of its class."""
    return public_name(type(vocabulary))


def same_ids(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether each id stands for the same in both, whatever marks the texts have."""
    states = [{key: v for key, v in each.state().items() if key not in AROUND_TEXTS} for each in (one, other)]
    return kind_of(one) == kind_of(other) and states[0] == states[1]


class Symbols(TextVocabulary):
    """One id for each symbol of the texts, in the order of code points."""

    def __init__(self) -> None:
        self.load({"symbols": [], "marks": False})

    @abstractmethod
    def cut(self, text: str) -> Sequence[str]:
        """The symbols of a text, in order."""

    @abstractmethod
    def unknown(self, symbol: str, text: str) -> UserError:
        """The error for a symbol of a text that has no id."""

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
        return {"symbols": self.symbols, "marks": self.begin is not None}

    def load(self, state: dict[str, Any]) -> None:
        self.symbols: list[str] = list(state["symbols"])
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._add_marks(len(self.symbols), bool(state["marks"]))


class Characters(Symbols):
    """One id for each Unicode character of the texts."""

    def cut(self, text: str) -> Sequence[str]:
        return text

    def unknown(self, symbol: str, text: str) -> UserError:
        return UserError(
            f"the character {symbol!r} (U+{ord(symbol):04X}) at offset {text.index(symbol)} is not among "
            f"the {len(self.symbols)} characters of the vocabulary; data/vocabulary=bytes can write anything"
        )

    def decode(self, ids: list[int]) -> str:
        return "".join(self.symbols[i] for i in ids if i < len(self.symbols))

    def spellings(self) -> list[bytes]:
        spelt = [symbol.encode("utf-8", "surrogatepass") for symbol in self.symbols]
        return spelt + [b""] * (self.size - len(spelt))


class Words(Symbols):
    """One id for each word of the texts, split at white space. Meant for phonemes (``HH AH L OW``).

    Words of held-out texts have ids too, so that they can be encoded. Decoding puts one space between words.
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
        """Those of each word and a space: one more than a text has, as its last word has none."""
        return [length + 1 if i < len(self.symbols) else 0 for i, length in enumerate(super().byte_lengths())]


class Bytes(TextVocabulary):
    """The 256 bytes of UTF-8: encodes any text, learns nothing."""

    is_learned = False

    def __init__(self) -> None:
        self._add_marks(256, False)

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        self._add_marks(256, marks)

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def byte_lengths(self) -> list[int]:
        return [1] * 256 + [0] * (self.size - 256)

    def spellings(self) -> list[bytes]:
        return [bytes([i]) for i in range(256)] + [b""] * (self.size - 256)

    def state(self) -> dict[str, Any]:
        return {"marks": self.begin is not None}

    def load(self, state: dict[str, Any]) -> None:
        self._add_marks(256, bool(state["marks"]))
