"""What a text is held to while it is written, beside how its ids are drawn: options of whatever writes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from mmtx.batch import Spells, Vocabulary
from mmtx.decoding.grammar import Grammar, schema_pattern
from mmtx.decoding.sampling import GREEDY, Sampling
from mmtx.errors import InvalidValue


@dataclass(frozen=True)
class Steering:
    """What a text is held to while it is written.

    Args:
        guidance: {name: scale}: above 1, a name of the set counts for more than it did in training
        grammar: a regular expression that the whole of what is written matches
        schema: or a file with a JSON schema, to which it conforms
    """

    guidance: Mapping[str, float | int] = field(default_factory=dict)
    grammar: str | None = None
    schema: str | None = None

    def __post_init__(self) -> None:
        if self.grammar is not None and self.schema is not None:
            raise InvalidValue(
                "schema", self.schema, f"cannot be given beside grammar={self.grammar}; give one of them"
            )

    def automaton(self, vocabulary: Vocabulary, never: Sequence[int] = ()) -> Grammar | None:
        """The grammar over the ids of a vocabulary; None: there is none.

        Args:
            never: ids that are never written.

        Raises:
            UserError: it is none, or this vocabulary cannot spell it.
        """
        if self.grammar is None and self.schema is None:
            return None
        key, given = ("grammar", self.grammar) if self.grammar is not None else ("schema", self.schema)
        assert given is not None
        if not isinstance(vocabulary, Spells):
            kind = type(vocabulary).__name__.lower()
            raise InvalidValue(
                key, given, f"needs ids that spell bytes: characters, bytes or byte-level BPE, not {kind}"
            )
        spellings = [b"" if i in never else spelling for i, spelling in enumerate(vocabulary.spellings())]
        pattern = given if key == "grammar" else schema_pattern(given)
        ends = [end for end in vocabulary.ends if end not in never]
        return Grammar(pattern, spellings, ends, (key, given))


FREE = Steering()


def refuse_beside_beams(beam_size: int, sampling: Sampling, steering: Steering) -> None:
    """Raises InvalidValue for options that beam search, which draws nothing and follows no grammar, would not use."""
    for given, default in ((sampling, GREEDY), (steering, FREE)):
        for key in (each.name for each in fields(given)):
            if getattr(given, key) != getattr(default, key):
                problem = f"cannot be used in beam search (beam_size={beam_size}), which takes the most probable texts"
                raise InvalidValue(key, getattr(given, key), problem, "beam_size=1")
