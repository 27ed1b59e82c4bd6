"""The levels of BabyAI, and the language of their missions (Chevalier-Boisvert et al. 2019)."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import product
from typing import Any

from mmtx.errors import InvalidValue, UserError, nearest

PROBES = 16
"""Episodes that are drawn to see all forms of missions of a level with few (the rarest is every third one)."""


class Level:
    """A level of MiniGrid, with bounds of its missions.

    Args:
        name: its id in MiniGrid.

    Attributes:
        max_steps: of any of its episodes.
    """

    def __init__(self, name: str) -> None:
        names = _level_names()
        if name not in names:
            raise InvalidValue("level", name, "is not a BabyAI level of MiniGrid", nearest(name, names))
        self.name = name
        environments = [self.begin(seed) for seed in range(PROBES)]
        environment, seen = environments[0], [_clauses(environment) for environment in environments]
        self._clauses, self._puts = max(clauses for clauses, _ in seen), any(puts for _, puts in seen)
        rooms = environment.room_size**2 * environment.num_rows * environment.num_cols  # as RoomGridLevel has it
        navigations = self._clauses * (2 if self._puts else 1)
        self.max_steps: int = environment.max_steps if environment.fixed_max_steps else navigations * rooms

    def begin(self, seed: int) -> Any:
        """A new environment at the start of an episode. A used one may keep state of the episode before."""
        import gymnasium

        environment: Any = gymnasium.make(self.name, disable_env_checker=True).unwrapped
        with redirect_stdout(io.StringIO()):  # it prints rejected layouts
            environment.reset(seed=seed)
        return environment

    def longest_mission(self, size: Callable[[str], int]) -> int:
        """A bound of the size of its missions, for a size of a text that is at most the sum of its parts'."""
        thing = max(size(f" {thing}") for thing in _things())
        put = size("put") + size(" next to") + 2 * thing
        clause = put if self._puts else max(map(size, _VERBS)) + thing
        return self._clauses * clause + (self._clauses - 1) * max(map(size, _JOINTS))


def _level_names() -> list[str]:
    try:
        import gymnasium
        import minigrid  # noqa: F401  # which registers its levels
    except ImportError as error:
        raise UserError(
            f"data=babyai acts in MiniGrid, which is not installed ({error}): pip install 'mmtx[rl]'"
        ) from None
    return [name for name in gymnasium.envs.registry if name.startswith("BabyAI-")]


def _clauses(environment: Any) -> tuple[int, bool]:
    """The number of clauses of a mission, and whether any is to put one thing next to another.

    For levels with the whole language, the most; for others, those of this episode.
    """
    from minigrid.envs.babyai.core.levelgen import LevelGen

    if isinstance(environment, LevelGen):
        most = max({"action": 1, "and": 2, "seq": 4}[kind] for kind in environment.instr_kinds)
        return most, "putnext" in environment.action_kinds
    return _clauses_of(environment.instrs)


def _clauses_of(instruction: Any) -> tuple[int, bool]:
    from minigrid.envs.babyai.core.verifier import PutNextInstr, SeqInstr

    if not isinstance(instruction, SeqInstr):
        return 1, isinstance(instruction, PutNextInstr)
    first, second = _clauses_of(instruction.instr_a), _clauses_of(instruction.instr_b)
    return first[0] + second[0], first[1] or second[1]


_VERBS = ("go to", "pick up", "open")
_JOINTS = (" and", " then", " after you")
_COLOURS = ("", "red ", "green ", "blue ", "purple ", "yellow ", "grey ")
_KINDS = ("object", "box", "ball", "key", "door")
_PLACES = ("", " in front of you", " behind you", " on your left", " on your right")


def _things() -> list[str]:
    """All descriptions of things, with a comma, which is part of the word in some vocabularies."""
    return [f"{article} {''.join(rest)}," for article in ("a", "the") for rest in product(_COLOURS, _KINDS, _PLACES)]


def language() -> list[str]:
    """Sentences with every word of BabyAI's language (Chevalier-Boisvert et al. 2019, figure 3)."""
    things = [thing for named in _things() for thing in (named, named.removesuffix(","))]
    starts = [f"{verb} {thing}" for verb, thing in product(_VERBS, things)]
    return [
        *starts,
        *(f"put {thing} next to {thing}" for thing in things),
        *(f"open a door{joint}" for joint in _JOINTS),
    ]
