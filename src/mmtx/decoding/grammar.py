"""Texts of a regular language: which ids may come next, by the automaton of the library outlines-core."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.decoding.filters import OUT
from mmtx.errors import InvalidValue, UserError


def schema_pattern(file: str) -> str:
    """The regular expression of texts that conform to a JSON schema.

    Raises:
        UserError: the file cannot be read, the library knows no expression for it, or it is not installed.
    """
    build = _library().json_schema.build_regex_from_schema
    try:
        schema = Path(file).expanduser().read_text(encoding="utf-8")
        json.loads(schema)
    except (OSError, ValueError) as error:
        raise InvalidValue("schema", file, f"is no JSON file that can be read: {error}") from None
    try:
        pattern: str = build(schema)
    except (TypeError, ValueError) as error:
        raise InvalidValue("schema", file, f"is no schema that can be followed: {_first_line(error)}") from None
    return pattern


MARK = "\U0010ffff"
"""Closes a text within the automaton; a noncharacter of Unicode, which no text holds."""


class Grammar:
    """A regular language over the ids of a vocabulary, as an automaton whose steps are ids.

    Args:
        pattern: a regular expression, which whole texts match: without look-around, back references or ``\\b``.
        spellings: the bytes that each id stands for; ids without any are never written.
        ends: ids of which each ends a text; where there are none, a text ends where nothing can follow, or where it has
            to.
        option: that brought the pattern, for errors: its key and value.

    Raises:
        UserError: the pattern is none, these ids cannot spell it, or the library is not installed.
    """

    def __init__(
        self, pattern: str, spellings: Sequence[bytes], ends: Sequence[int], option: tuple[str, str] | None = None
    ) -> None:
        self.ends, self._size = tuple(ends), len(spellings)
        option = option or ("grammar", pattern)
        library = _library()
        try:
            self.start, self._next, self._final = _automaton(library, pattern, spellings)
        except ValueError as error:  # of the library
            raise InvalidValue(*option, f"cannot be followed: {_first_line(error)}") from None
        self._left = _ids_left(self._next, self._final)
        self._needs: dict[int, Tensor] = {}
        if self.shortest == math.inf:
            raise InvalidValue(*option, "cannot be spelt by the ids of this model's vocabulary")

    @property
    def shortest(self) -> float:
        """Ids of the shortest text, without its end."""
        return self._left[self.start]

    def follow(self, state: int, new: int, room: int) -> int | None:
        """The state behind an id; None: it ends the text, or nothing can follow it with so many ids still to write."""
        after = self._next[state].get(new)
        return after if after is not None and bool(self.may_follow(after, room).any()) else None

    def may_follow(self, state: int, room: int) -> Bool[Tensor, " V"]:
        """The ids that may come next where so many may be written: each of them leaves room for a whole text."""
        if state not in self._needs:
            needs = torch.full((self._size,), math.inf)
            if self._next[state]:
                ids, after = zip(*self._next[state].items(), strict=True)
                needs[list(ids)] = 1 + torch.tensor([self._left[each] for each in after])
            if state in self._final:
                needs[list(self.ends)] = 1
            self._needs[state] = needs
        return self._needs[state] <= room


class Followed:
    """The texts of a batch on their way through the automaton of a grammar, each in a state of its own. The host
    follows them, so it waits for a GPU in each step.

    Args:
        starts: the column where each text begins.
        max_new_tokens: upper limit for each; a text is whole when it is reached.
        suppress_first: ids that no text begins with.

    Raises:
        UserError: the shortest text of the language is longer, or all of them begin with suppressed ids.
    """

    def __init__(
        self, grammar: Grammar, starts: Sequence[int], max_new_tokens: int, suppress_first: Sequence[int] = ()
    ) -> None:
        first = grammar.may_follow(grammar.start, max_new_tokens).nonzero()[:, 0].tolist()
        if first and set(first) <= set(suppress_first):
            raise UserError(
                "no text of this grammar can be written: each begins with ids that suppress_first rules out"
            )
        if grammar.shortest > max_new_tokens:
            problem = f"is too few for this grammar, whose shortest text has {grammar.shortest:.0f} ids"
            raise InvalidValue("max_new_tokens", max_new_tokens, problem, f"{grammar.shortest:.0f}")
        self._grammar, self._starts, self._limit = grammar, list(starts), max_new_tokens
        self._states: list[int | None] = [grammar.start if first else None] * len(self._starts)
        self._written = [0] * len(self._starts)

    def filtered(self, scores: Float[Tensor, "B V"], column: int) -> Float[Tensor, "B V"]:
        """Scores of a column without the ids that cannot come there; texts that are over, or still to begin, keep
        theirs."""
        allowed = torch.ones(scores.shape, dtype=torch.bool)
        for row, state in enumerate(self._states):
            if state is not None and column >= self._starts[row]:
                allowed[row] = self._grammar.may_follow(state, self._starts[row] + self._limit - column)
        return scores.masked_fill(~allowed.to(scores.device), OUT)

    def advance(self, new: Int[Tensor, " B"], column: int) -> Bool[Tensor, " B"]:
        """Takes the ids of a column; gives the texts that are over."""
        for row, (state, chosen) in enumerate(zip(self._states, new.tolist(), strict=True)):
            if state is not None and column >= self._starts[row]:
                self._written[row] += 1
                self._states[row] = self._grammar.follow(state, chosen, self._limit - self._written[row])
        return torch.tensor([state is None for state in self._states], device=new.device)

    def lengths(self) -> list[int]:
        """Ids of each text, an end included."""
        return self._written


def _automaton(
    library: Any, pattern: str, spellings: Sequence[bytes]
) -> tuple[int, Mapping[int, Mapping[int, int]], frozenset[int]]:
    """The first state; the state behind each id of each state; the states in which a text is whole.

    A mark closes each text, so that none is whole before it: outlines-core 0.2.14 lacks the ids that lead on from a
    whole text to one that is not (``b`` in ``a(bc)?``).
    """
    spelt: dict[bytes, list[int]] = {}
    for number, spelling in enumerate(spellings):
        spelt.setdefault(spelling, []).append(number)
    spelt.pop(b"", None)
    mark, no_id = len(spellings), len(spellings) + 1
    spelt[MARK.encode()] = [mark]
    _check_syntax(library, pattern)
    closed = f"(?:{pattern}){MARK}"
    try:
        index = library.Index(closed, library.Vocabulary(no_id, spelt))
    except ValueError as error:
        raise ValueError(str(error).replace(closed, pattern)) from None
    transitions = index.get_transitions()
    steps = {
        state: {number: after for number, after in following.items() if number < mark}
        for state, following in transitions.items()
    }
    closes = set(index.get_final_states())  # others may be reached by the mark as any character of the text
    final = frozenset(state for state, following in transitions.items() if following.get(mark) in closes)
    return index.get_initial_state(), steps, final


def _check_syntax(library: Any, pattern: str) -> None:
    """Raises ValueError for what is no expression by itself, but might be one between the parentheses of another."""
    try:
        library.Index(pattern, library.Vocabulary(1, {b"a": [0]}))
    except ValueError as error:
        if "vocabulary" not in str(error):
            raise


def _ids_left(steps: Mapping[int, Mapping[int, int]], final: frozenset[int]) -> dict[int, float]:
    """The fewest ids from each state to one in which a text is whole."""
    before: dict[int, set[int]] = {state: set() for state in steps}
    for state, following in steps.items():
        for after in set(following.values()):
            before[after].add(state)
    left = dict.fromkeys(steps, math.inf)
    newest, distance = set(final), 0.0
    while newest:
        left.update(dict.fromkeys(newest, distance))
        newest = {state for each in newest for state in before[each] if left[state] == math.inf}
        distance += 1
    return left


def _library() -> Any:
    try:
        import outlines_core
        import outlines_core.json_schema
    except ImportError:
        raise UserError("grammars need the library outlines-core: pip install 'mmtx[grammar]'") from None
    return outlines_core


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(" .")
