"""What sources learn from their data: vocabularies, classes, statistics. It belongs to the run, not to the data."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmtx.batch import Spec
from mmtx.data.text.vocabulary import TextVocabulary, described, kind_of
from mmtx.errors import InvalidValue, UserError, some

Value = TypeVar("Value")

OF_SPECS = ("vocabulary", "classes")
"""What the specs of a model hold of its names, so that it is saved with them."""


@dataclass
class _Book:
    """What all sources of one construction share.

    Attributes:
        model: what the data of a model declared, with vocabularies and classes.
        kept: the rest of what its sources learnt, by place.
        found: what the sources of this construction learnt, or took over; by place.
        missing: statistics of names of the model that were learnt anew, as the model's run kept none.
        begins: the model only begins with what another learnt: what does not fit is learnt anew.
    """

    model: Mapping[str, Spec] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    is_handed: bool = False
    begins: bool = False


class Learnt:
    """What one source learns from its data, each a method with a name of the data: the first source of a run learns
    it, and every later one takes over what the run learnt, whatever its own data would give.

        first source:    data A --fit--> vocabulary --> ids of A          saved with the run
        later sources:   data B           vocabulary of A --> ids of B, or an error that names what has none

    A source reaches it as ``self.learnt``. Sources within a source have their own, below its place.
    """

    def __init__(self, book: _Book | None = None, place: str = "", names: Mapping[str, str] | None = None) -> None:
        self._book, self._place = book or _Book(), place
        self._names: Mapping[str, str] | None = names if place else {}

    @classmethod
    def of_run(cls, model: Mapping[str, Spec], kept: Mapping[str, Any]) -> Learnt:
        """What a run learnt, for the sources of its model. What does not fit is an error.

        Args:
            model: the specs of its names.
            kept: the `state` that was saved with it.
        """
        return cls(_Book(model, kept, is_handed=True))

    @classmethod
    def of_start(cls, model: Mapping[str, Spec], kept: Mapping[str, Any]) -> Learnt:
        """The same for a new run that begins with the model's weights: it has classes and settings of its own, and
        learns anew what does not fit its data in kind or size."""
        return cls(_Book(model, kept, begins=True))

    def state(self) -> dict[str, Any]:
        """What is saved of all sources beside the specs of the model, as plain values and tensors."""
        return {
            place: described(value) if isinstance(value, TextVocabulary) else value
            for place, value in self._book.found.items()
        }

    @property
    def is_handed(self) -> bool:
        """Whether it is what a run learnt."""
        return self._book.is_handed

    @property
    def missing(self) -> list[str]:
        """Statistics of the model's names that its run kept none of: they are those of the data at hand."""
        return self._book.missing

    # --- what is learnt -----------------------------------------------------------------------------------------------

    def classes(self, name: str, found: Iterable[str]) -> tuple[str, ...]:
        """The class names of a name of the data, in the order of their codes.

        Args:
            name: whose labels they are.
            found: those that the data has.

        Raises:
            UserError: the run has classes, and one that is found is none of them.
        """
        own = tuple(found)
        given = None if self._book.begins else self._given(name, "classes")
        if given is None:
            return self._keep(name, "classes", own)
        strange = [label for label in own if label not in given]
        if strange:
            looks = {unicodedata.normalize("NFC", label) for label in given}
            alike = [ascii(label) for label in strange if unicodedata.normalize("NFC", label) in looks]
            hint = f"; {some(alike)} only looks like one: rename it" if alike else ""
            raise UserError(f"{name}: {some(strange)} is no class of the run, which has {some(given)}{hint}")
        return self._keep(name, "classes", tuple(given))

    def vocabulary(
        self,
        name: str,
        vocabulary: TextVocabulary,
        texts: Iterable[str],
        *,
        marks: bool,
        held_out: Iterable[str] = (),
    ) -> None:
        """Fits a vocabulary to texts, or loads that of the run into it.

        Raises:
            UserError: the run's is of another kind, or lacks marks that are needed.
        """
        given = self._given(name, "vocabulary") if vocabulary.is_learnt or not self._book.begins else None
        if given is not None:
            problem = _loaded(vocabulary, given, marks)
            if problem and not self._book.begins:
                raise UserError(f"{name}: {problem}")
            given = None if problem else given
        if given is None:
            vocabulary.fit(texts, marks=marks, held_out=held_out)
        self._keep(name, "vocabulary", vocabulary)

    def statistic(
        self, name: str, what: str, fit: Callable[[], Value], problem: Callable[[Value], str | None] = lambda kept: None
    ) -> Value:
        """A number, a tensor or a dictionary of them, by which a name is encoded.

        Args:
            name: of the data.
            what: it is.
            fit: learns it from the data.
            problem: why that of the run cannot be used with the data; None where it can.

        Raises:
            UserError: that of the run cannot be used.
        """
        given = self._given(name, what)
        reason = None if given is None else problem(given)
        if reason and not self._book.begins:
            raise UserError(f"{name}: {reason}")
        return self._learn(name, what, None if reason else given, fit)

    def fact(self, name: str, what: str, fit: Callable[[], Value]) -> Value:
        """What the data reached, such as its best return. A run that begins with another's weights has its own."""
        return self._learn(name, what, None if self._book.begins else self._given(name, what), fit)

    def setting(self, name: str, key: str, value: Value) -> Value:
        """A setting of the data by which a name is encoded, so that it has to stay as it was.

        Raises:
            InvalidValue: the run had another.
        """
        given = None if self._book.begins else self._given(name, key)
        if given is not None and given != value:
            raise InvalidValue(key, value, f"is not as the model learnt {name}", str(given))
        return self._keep(name, key, value)

    # --- places -------------------------------------------------------------------------------------------------------

    def under(self, key: str, names: Mapping[str, str] | None = None) -> Learnt:
        """Of a source within this one.

        Args:
            key: where it stands.
            names: what its names are called by the model, where they are another's; None: they are not the model's.
        """
        return Learnt(self._book, f"{self._place}{key}/", names)

    @classmethod
    def here(cls) -> Learnt:
        """Of the source that is being made; one of its own where nobody hands anything over."""
        return _HERE.get() or cls()

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Sources that are made meanwhile learn, or take over, here."""
        before = _HERE.set(self)
        try:
            yield
        finally:
            _HERE.reset(before)

    def _is_of_model(self, name: str) -> bool:
        return self._names is None or self._names.get(name, name) in self._book.model

    def _learn(self, name: str, what: str, given: Value | None, fit: Callable[[], Value]) -> Value:
        if given is None and self._book.is_handed and self._is_of_model(name):
            self._book.missing.append(f"{name}: {what}")
        return self._keep(name, what, fit() if given is None else given)

    def _given(self, name: str, what: str) -> Any:
        kept = self._book.kept.get(f"{self._place}{name}.{what}")
        if kept is not None or self._names is None:
            return kept
        spec = self._book.model.get(self._names.get(name, name))
        if spec is None or what not in OF_SPECS:
            return None
        if what == "classes":
            return spec.class_names
        return None if spec.vocabulary is None else described(spec.vocabulary)

    def _keep(self, name: str, what: str, value: Value) -> Value:
        if self._names is None or what not in OF_SPECS:
            self._book.found[f"{self._place}{name}.{what}"] = value
        return value


def _loaded(vocabulary: TextVocabulary, given: Mapping[str, Any], marks: bool) -> str | None:
    """Loads what a run learnt; the reason where that cannot be."""
    own, kept = (kind.rpartition(".")[2] for kind in (kind_of(vocabulary), given["kind"]))
    if kind_of(vocabulary) != given["kind"]:
        return f"the vocabulary of the data is {own}, and that of the run is {kept}"
    vocabulary.load(given["state"])
    if marks and vocabulary.begin is None and vocabulary.end is None:  # a public model may have one of them
        return "the vocabulary of the run has no marks that begin and end a text, and texts of this data need them"
    return None


_HERE: ContextVar[Learnt | None] = ContextVar("learnt", default=None)


@contextmanager
def within(key: str) -> Iterator[None]:
    """Sources that are made meanwhile stand within the one whose keys are being made."""
    with Learnt.here().under(key).handed_over():
        yield
