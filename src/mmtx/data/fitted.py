"""What sources fit to their data: vocabularies, classes, statistics. It belongs to the run, not to the data."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmtx.batch import Spec
from mmtx.data.text.vocabulary import TextVocabulary, describe_vocabulary, kind_of
from mmtx.errors import InvalidValue, UserError, some

Value = TypeVar("Value")

IN_SPECS = ("vocabulary", "classes")
"""What is saved in the specs of a model, and so needs no other place in the checkpoint."""


@dataclass
class _Shared:
    """What all sources of one dataset share.

    Attributes:
        model: specs of an existing model, with vocabularies and classes.
        saved: the rest of what the model's run fitted, by path.
        state: what the sources fitted, or took from the run; by path.
        missing: statistics of the model's names that had to be refitted, as the run saved none.
        is_from_run: the state is that of a run, and has to fit the data.
        refits: the model only starts from the weights of another; what does not fit the data is refitted.
        needed: names that every sample has to have; None: all. Others may be predicted.
    """

    model: Mapping[str, Spec] = field(default_factory=dict)
    saved: Mapping[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    is_from_run: bool = False
    refits: bool = False
    needed: Collection[str] | None = None


class FittedState:
    """What one source fits to its data, a method for each kind: the first source of a run fits it, and every later one
    takes the run's, whatever its own data would give.

        first source:    data A --fit--> vocabulary --> ids of A          saved with the run
        later sources:   data B           vocabulary of A --> ids of B, or an error that names what has none

    A source reaches it as ``self.fitted``. Sources nested in a source have their own, below its path.
    """

    def __init__(self, shared: _Shared | None = None, path: str = "", names: Mapping[str, str] | None = None) -> None:
        self._shared, self._path = shared or _Shared(), path
        self._names: Mapping[str, str] | None = names if path else {}

    @classmethod
    def from_run(
        cls, model: Mapping[str, Spec], saved: Mapping[str, Any], needed: Collection[str] | None = None
    ) -> FittedState:
        """The state of a run, for the sources of its model. Data that do not fit it are an error.

        Args:
            model: the specs of its names.
            saved: the `state` in its checkpoint.
            needed: names without which a sample is an error; None: all.
        """
        return cls(_Shared(model, saved, is_from_run=True, needed=needed))

    @classmethod
    def from_weights(cls, model: Mapping[str, Spec], saved: Mapping[str, Any]) -> FittedState:
        """The same for a new run that starts from the model's weights: it has its own classes and settings, and refits
        what differs from its data in kind or size."""
        return cls(_Shared(model, saved, refits=True))

    def state(self) -> dict[str, Any]:
        """What is saved of all sources beside the specs of the model, as plain values and tensors."""
        return {
            path: describe_vocabulary(value) if isinstance(value, TextVocabulary) else value
            for path, value in self._shared.state.items()
        }

    @property
    def is_from_run(self) -> bool:
        """Whether it is the state of a run."""
        return self._shared.is_from_run

    def may_lack(self, name: str) -> bool:
        """Whether the data may be without a name, as nothing reads it."""
        needed, names = self._shared.needed, self._names
        return needed is not None and names is not None and names.get(name, name) not in needed

    @property
    def missing(self) -> list[str]:
        """Statistics of the model's names that its run saved none of: they are those of the data at hand."""
        return self._shared.missing

    # --- what is fitted -----------------------------------------------------------------------------------------------

    def classes(self, name: str, found: Iterable[str], *, closed: bool = True) -> tuple[str, ...]:
        """The class names of a name of the data, in the order of their codes.

        Args:
            name: of the data.
            found: the classes that the data have.
            closed: whether there can be no others. Otherwise samples of others are to lack the name.

        Raises:
            UserError: it is closed, and a class that was found is none of the run's.
        """
        own = tuple(found)
        given = None if self._shared.refits else self._given(name, "classes")
        if given is None:
            return self._keep(name, "classes", own)
        unknown = [label for label in own if label not in given and closed]
        if unknown:
            normalised = {unicodedata.normalize("NFC", label) for label in given}
            alike = [ascii(label) for label in unknown if unicodedata.normalize("NFC", label) in normalised]
            hint = f"; {some(alike)} only looks like one: rename it" if alike else ""
            raise UserError(f"{name}: {some(unknown)} is no class of the run, which has {some(given)}{hint}")
        return self._keep(name, "classes", tuple(given))

    def vocabulary(
        self,
        name: str,
        vocabulary: TextVocabulary,
        texts: Iterable[str],
        *,
        marks: bool,
        held_out: Iterable[str] = (),
        fit: Callable[[], None] | None = None,
    ) -> None:
        """Fits a vocabulary to texts, or loads that of the run into it. `fit`: does so where this is done once for all.

        Raises:
            UserError: the run's is of another kind, or lacks marks that are needed.
        """
        given = self._given(name, "vocabulary") if vocabulary.is_learned or not self._shared.refits else None
        if given is not None:
            problem = _load(vocabulary, given, marks)
            if problem and not self._shared.refits:
                raise UserError(f"{name}: {problem}")
            given = None if problem else given
        if given is None:
            fit() if fit else vocabulary.fit(texts, marks=marks, held_out=held_out)
        self._keep(name, "vocabulary", vocabulary)

    def statistic(
        self,
        name: str,
        what: str,
        fit: Callable[[], Value],
        problem: Callable[[Value], str | None] = lambda saved: None,
    ) -> Value:
        """A number, a tensor or a dictionary of them, by which a name is encoded.

        Args:
            name: of the data.
            what: the statistic's own name.
            fit: computes it from the data.
            problem: why that of the run cannot be used with the data; None where it can.

        Raises:
            UserError: that of the run cannot be used.
        """
        given = self._given(name, what)
        reason = None if given is None else problem(given)
        if reason and not self._shared.refits:
            raise UserError(f"{name}: {reason}")
        return self._fit(name, what, None if reason else given, fit)

    def fact(self, name: str, what: str, fit: Callable[[], Value]) -> Value:
        """What the data reached, such as its best return. A run that starts from another's weights has its own."""
        return self._fit(name, what, None if self._shared.refits else self._given(name, what), fit)

    def setting(self, name: str, key: str, value: Value) -> Value:
        """A key of the data by which a name is encoded, so that it may not change.

        Raises:
            InvalidValue: the run had another value.
        """
        given = None if self._shared.refits else self._given(name, key)
        if given is not None and given != value:
            raise InvalidValue(key, value, f"differs from that of the model for {name}", str(given))
        return self._keep(name, key, value)

    # --- nested sources -----------------------------------------------------------------------------------------------

    def nested(self, key: str, names: Mapping[str, str] | None = None) -> FittedState:
        """The state of a source within this one.

        Args:
            key: of the config, where it stands.
            names: ``{name of the source: name of the model}`` where they differ; None: its names are not the model's.
        """
        return FittedState(self._shared, f"{self._path}{key}/", names)

    @classmethod
    def current(cls) -> FittedState:
        """The state of the source that is being constructed; a new one outside `active`."""
        return _CURRENT.get() or cls()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Sources that are constructed in this context have this state."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def _is_of_model(self, name: str) -> bool:
        return self._names is None or self._names.get(name, name) in self._shared.model

    def _fit(self, name: str, what: str, given: Value | None, fit: Callable[[], Value]) -> Value:
        if given is None and self._shared.is_from_run and self._is_of_model(name):
            self._shared.missing.append(f"{name}: {what}")
        return self._keep(name, what, fit() if given is None else given)

    def _given(self, name: str, what: str) -> Any:
        saved = self._shared.saved.get(f"{self._path}{name}.{what}")
        if saved is not None or self._names is None:
            return saved
        spec = self._shared.model.get(self._names.get(name, name))
        if spec is None or what not in IN_SPECS:
            return None
        if what == "classes":
            return spec.class_names
        return None if spec.vocabulary is None else describe_vocabulary(spec.vocabulary)

    def _keep(self, name: str, what: str, value: Value) -> Value:
        if self._names is None or what not in IN_SPECS:
            self._shared.state[f"{self._path}{name}.{what}"] = value
        return value


def _load(vocabulary: TextVocabulary, given: Mapping[str, Any], marks: bool) -> str | None:
    """Loads the vocabulary of a run; the reason where that cannot be."""
    own, saved = (kind.rpartition(".")[2] for kind in (kind_of(vocabulary), given["kind"]))
    if kind_of(vocabulary) != given["kind"]:
        return f"the vocabulary of the data is {own}, and that of the run is {saved}"
    vocabulary.load(given["state"])
    if marks and vocabulary.begin is None and vocabulary.end is None:  # a public model may have one of them
        return "the vocabulary of the run has no marks that begin and end a text, and texts of this data need them"
    return None


_CURRENT: ContextVar[FittedState | None] = ContextVar("fitted_state", default=None)


@contextmanager
def nested_source(key: str) -> Iterator[None]:
    """Sources that are constructed in this context are nested in the one whose key this is."""
    with FittedState.current().nested(key).active():
        yield
