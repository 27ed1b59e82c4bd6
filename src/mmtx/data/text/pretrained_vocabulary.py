"""Vocabularies of public models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmtx.data.fitted import FittedState
from mmtx.data.text.chat_spans import assistant_spans
from mmtx.data.text.chat_template import ChatTemplates
from mmtx.data.text.exact_tokenizer import ExactTokenizer
from mmtx.data.text.picture_marks import PictureMarks
from mmtx.data.text.sentence_pieces import SentencePieces
from mmtx.data.text.tokenizer_files import find_chat, find_tokenizer
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError


class Pretrained(TextVocabulary):
    """The tokenizer of a public model; nothing is learned.

    A text that spells a mark or a special token gets the ids of its characters.

    Args:
        path: folder or file: ``tokenizer.json``, ``vocab.json`` with ``merges.txt`` or, of characters, without,
            ``vocab.txt``, or a SentencePiece model. None: that of the run whose weights this one begins with.
        begin: the token that begins a text (``[CLS]``); None: none.
        end: the token that ends one.
        prefix: tokens in front of every text (Whisper: language, task).
        size: number of ids, where the model has more than the tokenizer; None: that of the tokenizer.
    """

    def __init__(
        self, *, path: str | None, begin: str | None, end: str | None, prefix: list[str], size: int | None
    ) -> None:
        self._problem: UserError | None = None
        if path is None:
            self._problem = UserError(
                "data.vocabulary.path=null is that of init_from=RUN, which has none: name a folder"
            )
            return
        try:
            self._read(path, begin, end, prefix, size)
        except UserError as problem:
            if not FittedState.current().is_from_run:
                raise
            self._problem = problem  # irrelevant where that of the run is loaded, whose files may be gone

    def _read(self, path: str, begin: str | None, end: str | None, prefix: list[str], size: int | None) -> None:
        tokenizer = find_tokenizer(path)
        if tokenizer is None:
            raise InvalidValue("vocabulary.path", path, "holds no tokenizer")

        def number(key: str, token: str) -> int:
            found = tokenizer.token_to_id(token)
            if found is None:
                raise InvalidValue(f"vocabulary.{key}", token, "is not a token of the vocabulary")
            return found

        marks = [None if token is None else number(key, token) for key, token in (("begin", begin), ("end", end))]
        self._use(tokenizer, marks[0], marks[1], [number("prefix", token) for token in prefix], size)
        self.chat, self.picture = find_chat(path), PictureMarks.found(tokenizer)

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        *,
        begin: int | None,
        end: int | None,
        prefix: Sequence[int],
        size: int | None,
        more_ends: Sequence[int] = (),
        chat: ChatTemplates | None = None,
    ) -> Pretrained:
        """A vocabulary from a tokenizer and ids."""
        vocabulary = cls.__new__(cls)
        vocabulary._problem = None
        vocabulary._use(tokenizer, begin, end, list(prefix), size)
        vocabulary._more_ends, vocabulary.chat = tuple(more_ends), chat
        return vocabulary

    @property
    def ends(self) -> Sequence[int]:
        return () if self.end is None else (self.end, *self._more_ends)

    @property
    def is_learned(self) -> bool:
        return self._problem is not None

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        if self._problem is not None:
            raise self._problem
        if marks and (self._begin is None or self._end is None):
            raise UserError("these texts begin and end: name the tokens, vocabulary.begin=... vocabulary.end=...")
        self._use_marks(marks)

    def encode(self, text: str) -> list[int]:
        return [*self._prefix, *self._texts.encode(text)]

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], template: str | None = None) -> list[int]:
        if self.chat is None:
            return super().encode_chat(messages, template)
        return self._texts.encode_spelt(self._spelt(self.chat.render(messages, template)))

    def encode_conversation(
        self, messages: Sequence[Mapping[str, Any]], *, all_turns: bool
    ) -> tuple[list[int], list[bool]]:
        if self.chat is None:
            return super().encode_conversation(messages, all_turns=all_turns)
        if all_turns:
            ids = self._texts.encode_spelt(self._spelt(self.chat.render(messages, add_generation_prompt=False)))
            return ids, [True] * len(ids)
        text, spans = assistant_spans(self.chat, messages)
        if self.picture is not None:
            text, spans = self.picture.spell_spans(text, spans)
        return self._texts.encode_spans(text, spans)

    def _spelt(self, rendered: str) -> str:
        return rendered if self.picture is None else self.picture.spell(rendered)

    def fit_chat(self) -> None:
        if self._problem is not None:
            raise self._problem
        if self.chat is None:
            super().fit_chat()
        if self.end is None and self.chat is not None:
            self.end = self._end = self._tokenizer.token_to_id(self.chat.tokens.get("eos_token", ""))

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def byte_lengths(self) -> list[int]:
        """For byte-level tokens one for each character; for others, those of their spelling."""
        return [self._texts.byte_length(i) for i in range(self.size)]

    def spellings(self) -> list[bytes]:
        return [self._texts.spelling(i) for i in range(self.size)]

    def state(self) -> dict[str, Any]:
        return {
            "tokenizer": self._tokenizer.to_str(),
            "begin": self._begin,
            "end": self._end,
            "prefix": self._prefix,
            "size": self.size,
            "marks": self._marks,
            **({"more_ends": [*self._more_ends]} if self._more_ends else {}),
            **({"chat": self.chat.state()} if self.chat is not None else {}),
            **({"picture": self.picture.state()} if self.picture is not None else {}),
        }

    def load(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._problem = None
        text = state["tokenizer"]
        tokenizer = SentencePieces.from_str(text) if SentencePieces.wrote(text) else Tokenizer.from_str(text)
        self._use(tokenizer, state["begin"], state["end"], list(state["prefix"]), state["size"])
        self._use_marks(state["marks"])
        self._more_ends = tuple(state.get("more_ends", ()))
        self.chat = ChatTemplates(**state["chat"]) if "chat" in state else None
        self.picture = PictureMarks(**state["picture"]) if "picture" in state else None

    _more_ends: tuple[int, ...]
    chat: ChatTemplates | None

    def _use_marks(self, marks: bool) -> None:
        self._marks = marks
        self.begin, self.end = (self._begin, self._end) if marks else (None, None)

    def _use(self, tokenizer: Any, begin: int | None, end: int | None, prefix: list[int], size: int | None) -> None:
        self._tokenizer, self._texts = tokenizer, ExactTokenizer(tokenizer)
        self._begin, self._end, self._prefix, self._more_ends = begin, end, prefix, ()
        self.chat = None
        self.size = size or self._texts.size
        self._use_marks(True)
        if self.size < 1 or max([0, *filter(None, [begin, end, *prefix])]) >= self.size:
            raise InvalidValue("vocabulary.size", self.size, "does not hold the marks of the vocabulary")
        token, number = self._texts.last()
        if number >= self.size:
            problem = f"is the number of ids of the model, and its tokenizer has {token!r} at {number}"
            raise InvalidValue("vocabulary.size", self.size, f"{problem}: take the token out, or resize the embedding")


class Numbers(TextVocabulary):
    """The vocabulary of a model without a tokenizer: a text is its ids, written as numbers.

    Args:
        size: number of ids.
        begin: id that begins a text.
        end: id that ends one.
        more_ends: others that end a text that is written.
    """

    def __init__(self, *, size: int, begin: int | None, end: int | None, more_ends: Sequence[int] = ()) -> None:
        self.load({"size": size, "begin": begin, "end": end, "more_ends": more_ends})

    @property
    def ends(self) -> Sequence[int]:
        return () if self.end is None else (self.end, *self._more_ends)

    is_learned = False

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        pass

    def encode(self, text: str) -> list[int]:
        words = text.split()
        if not all(word.isdecimal() and int(word) < self.size for word in words):
            raise UserError(f"this model came without its tokenizer: write ids of 0..{self.size - 1}, not {text!r}")
        return [int(word) for word in words]

    def decode(self, ids: list[int]) -> str:
        return " ".join(str(i) for i in ids if i != self.begin and i not in self.ends)

    def byte_lengths(self) -> list[int]:
        return [len(str(i)) + 1 for i in range(self.size)]

    def state(self) -> dict[str, Any]:
        more: dict[str, Any] = {"more_ends": [*self._more_ends]} if self._more_ends else {}
        more |= {"picture": self.picture.state()} if self.picture is not None else {}
        return {"size": self.size, "begin": self.begin, "end": self.end, **more}

    def load(self, state: dict[str, Any]) -> None:
        self.size, self.begin, self.end = state["size"], state["begin"], state["end"]
        self.picture = PictureMarks(**state["picture"]) if "picture" in state else None
        self._more_ends = tuple(state.get("more_ends", ()))
