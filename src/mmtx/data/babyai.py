"""BabyAI (Chevalier-Boisvert et al. 2019): missions in a grid world, shown by the bot that MiniGrid brings with it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy
import torch
from jaxtyping import Bool, Float, Float32, Int16, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from mmtx.batch import Batch, Field, Sample, Spec
from mmtx.data.base import Source, Split
from mmtx.data.public_file import cache_folder, write_whole
from mmtx.data.spoken_digits import LOUDEST, Clips
from mmtx.data.synthesis import espeak_version, random_voice, synthesise
from mmtx.data.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, nearest
from mmtx.world import Observation, Outcome, Playable, World

RECIPE = 1
"""Counted up where the same settings give other demonstrations or clips, so that no cache from before is taken."""

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
SIDE = 7
"""Cells of the view, across and ahead. The agent stands at (3, 6) and looks towards (3, 0)."""

NUM_OBJECTS, NUM_COLOURS, NUM_STATES = 11, 6, 3
"""Codes of a cell: what is there (0: not seen, 1: nothing), its colour, and whether a door is open, shut, locked."""

CELL_PIXELS, FRAME_CELL_PIXELS = 8, 16
"""Sides of a cell: in the view as a picture, and in what a person sees."""

SAMPLE_RATE_HZ = 16_000
SECONDS_PER_WORD, SECONDS_MORE = 0.4, 0.8
"""So long a mission of n words takes at most: 0.4 n + 0.8. The slowest voice was measured to take 1.6 s for five words,
2.4 s for eight, 5.6 s for sixteen and 23.7 s for sixty-seven."""

PROBES = 16
"""Episodes in which levels with few forms of missions show all of them (the rarest is every third one)."""

ATTEMPTS = 100
"""How often an episode that the bot does not solve is drawn anew."""


class BabyAI(Source, Playable):
    """Names: ``mission`` (what is to be done, in words), ``view`` (what the agent sees), ``action``, ``return``, and if
    wanted ``speech`` (the mission said aloud by espeak-ng).

    A sample is a window of an episode: in training, one begins at every step; in validation, they do not overlap.
    ``times`` are the steps' places in their episode. The view is MiniGrid's own: 7 x 7 cells ahead of the agent, walls
    hide what is behind them, and what the agent carries stands at its own cell. The return is what is still to be
    earned, 1 - 0.9 steps / limit for a mission that is done.

    Episode `i` of a split is a pure function of (`level`, `split_seed`, split, `i`). Episodes that the bot does not
    solve are drawn anew. Training, validation and the world have no seed in common, nor, where missions are spoken, a
    speaker; the world's episodes do not depend on `split_seed`. Demonstrations and clips are made once and kept in
    mmtx's cache folder (``$XDG_CACHE_HOME``, or ``~/.cache``).

    Args:
        vocabulary: how missions are written; it learns all words of BabyAI's language, whatever the level.
        level: one that MiniGrid registers (``BabyAI-GoToLocal-v0``).
        num_episodes: demonstrations to learn from.
        num_val: demonstrations held out to watch training; 0: none.
        context: steps of a window, at most.
        pixels: the view as a picture of 56 x 56 pixels in place of the codes of its cells.
        speech: missions are said aloud, too.
        voices: with `speech`, how many voices say each mission in each split.
        split_seed: which episodes there are.

    Attributes:
        num_redrawn: episodes that the bot did not solve, or not in time.
    """

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        level: str,
        num_episodes: int,
        num_val: int,
        context: int,
        pixels: bool,
        speech: bool,
        voices: int,
        split_seed: int,
    ) -> None:
        self.level = Level(level)
        _within("num_episodes", num_episodes, 1, 1_000_000)
        _within("num_val", num_val, 0, 1_000_000)
        _within("context", context, 1, self.level.max_steps)
        _within("voices", voices, 1, 1000)
        _within("split_seed", split_seed, 0, 2**31 - 1)
        self.vocabulary, self.context, self.speech = vocabulary, context, speech
        self._look: Look = Picture() if pixels else Codes()
        self._speakers = {split: Speakers(split, voices, split_seed) for split in ("train", "val")}
        self._speakers["test"] = Speakers("test", voices, 0)
        counts = {split: count for split, count in (("train", num_episodes), ("val", num_val)) if count}
        self._shown = {split: _demonstrations(self.level, split, n, split_seed) for split, n in counts.items()}
        self._said = {split: _speech(held, self._speakers[split]) for split, held in self._shown.items() if speech}
        self.num_redrawn = sum(int(held.num_redrawn) for held in self._shown.values())
        shown = self._shown["train"]
        vocabulary.fit(shown.texts[shown.mission].tolist(), marks=True, held_out=language())

    @property
    def specs(self) -> Mapping[str, Spec]:
        longest = self.level.longest_mission(lambda text: len(self.vocabulary.encode(text))) + 2
        ids = Field((None,), torch.long, num_classes=self.vocabulary.size, max_length=longest)
        action = Field((None,), torch.long, num_classes=len(ACTIONS), max_length=self.context)
        return {
            "mission": Spec({"ids": ids}, vocabulary=self.vocabulary),
            **({"speech": Spec({"waveform": self._waveform()}, sample_rate_hz=SAMPLE_RATE_HZ)} if self.speech else {}),
            "view": self._steps(self._look.fields(self.context)),
            "action": self._steps({"class": action}, labels=ACTIONS),
            "return": self._steps({"values": Field((None, 1), torch.float32, max_length=self.context)}),
        }

    def train(self) -> Split:
        return self._windows("train", stride=1)

    def val(self) -> Split | None:
        return self._windows("val", stride=self.context) if "val" in self._shown else None

    def test(self) -> None:
        """The test is to act: see `world`."""

    def world(self, num_episodes: int) -> BabyAIWorld:
        return BabyAIWorld(
            level=self.level,
            num_episodes=num_episodes,
            look=self._look,
            vocabulary=self.vocabulary,
            speakers=self._speakers["test"] if self.speech else None,
        )

    @property
    def best_return(self) -> float:
        return max(float(held.reward.max()) for held in self._shown.values())

    @property
    def return_scale(self) -> float:
        return 1.0

    @property
    def reference_returns(self) -> None:
        """None: what counts is whether a mission was done."""

    def _steps(self, fields: dict[str, Field], labels: tuple[str, ...] | None = None) -> Spec:
        times = Field((None,), torch.long, num_classes=self.level.max_steps, max_length=self.context, rising=True)
        return Spec({**fields, "times": times}, labels=labels)

    def _waveform(self) -> Field:
        longest = self.level.longest_mission(lambda text: len(text.split()))
        return Field((None,), torch.float32, max_length=round(_longest_speech(longest) * SAMPLE_RATE_HZ))

    def _windows(self, split: str, stride: int) -> Windows:
        shown = self._shown[split]
        ids = [written(text, self.vocabulary) for text in shown.texts.tolist()]
        told = {"mission": PerEpisode("ids", ids, shown.mission)}
        if self.speech:
            told["speech"] = self._said[split]
        return Windows(shown, told, self._look, self.context, stride)


def written(mission: str, vocabulary: TextVocabulary) -> Int64[Tensor, " ids"]:
    """The ids of a mission, with the marks of its beginning and its end."""
    assert vocabulary.begin is not None and vocabulary.end is not None
    return torch.tensor([vocabulary.begin, *vocabulary.encode(mission), vocabulary.end])


def _within(key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidValue(key, value, f"must lie in {low}..{high}", str(min(max(value, low), high)))


# --- levels -----------------------------------------------------------------------------------------------------------


class Level:
    """A level of MiniGrid's, and how much its missions may ask for.

    Args:
        name: as MiniGrid registers it.

    Attributes:
        max_steps: after which any of its episodes is over.
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
        """A new environment at the beginning of an episode. A used one may remember what was in it before."""
        import gymnasium

        environment: Any = gymnasium.make(self.name, disable_env_checker=True).unwrapped
        with redirect_stdout(io.StringIO()):  # it prints what it rejects
            environment.reset(seed=seed)
        return environment

    def longest_mission(self, size: Callable[[str], int]) -> int:
        """A bound of the size of its missions, where that of a text is at most the sum of its parts'."""
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
    """Of how many clauses a mission may be, and whether any may tell to put one thing next to another.

    Of levels with the whole language, at most; of others, in this episode.
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
    """Everything that can be named, with a comma, which some vocabularies take as part of a word."""
    return [f"{article} {''.join(rest)}," for article in ("a", "the") for rest in product(_COLOURS, _KINDS, _PLACES)]


def language() -> list[str]:
    """Sentences that hold every word of BabyAI's language (Chevalier-Boisvert et al. 2019, figure 3)."""
    things = [thing for named in _things() for thing in (named, named.removesuffix(","))]
    starts = [f"{verb} {thing}" for verb, thing in product(_VERBS, things)]
    return [
        *starts,
        *(f"put {thing} next to {thing}" for thing in things),
        *(f"open a door{joint}" for joint in _JOINTS),
    ]


# --- how a view is shown ----------------------------------------------------------------------------------------------


@runtime_checkable
class Look(Protocol):
    """In what form the model is given what the agent sees."""

    def fields(self, context: int) -> dict[str, Field]:
        """What is declared for the steps of a window."""

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        """The same fields of some views, apart from what they were made of."""


class Codes:
    """Cells by their codes, as MiniGrid observes them: ``cells`` (7, 7, 3), across, ahead, (object, colour, state)."""

    def fields(self, context: int) -> dict[str, Field]:
        return {"cells": Field((None, SIDE, SIDE, 3), torch.uint8, num_classes=NUM_OBJECTS, max_length=context)}

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        return {"cells": cells.clone()}


class Picture:
    """The view as MiniGrid draws it: ``pixels`` (3, 56, 56), the agent at the middle of the lower edge, looking up."""

    def fields(self, context: int) -> dict[str, Field]:
        side = SIDE * CELL_PIXELS
        return {"pixels": Field((None, 3, side, side), torch.uint8, max_length=context)}

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        objects, colours, states = cells.long().unbind(-1)
        code = (objects * NUM_COLOURS + colours) * NUM_STATES + states
        here = torch.zeros(SIDE, SIDE, dtype=torch.long)
        here[SIDE // 2, SIDE - 1] = 1
        tiles = _tiles()[here.expand_as(code), code]  # (..., across, ahead, channel, row, column)
        side = SIDE * CELL_PIXELS
        rows = tiles.movedim((-3, -4, -2, -5, -1), (-5, -4, -3, -2, -1))
        return {"pixels": rows.reshape(*cells.shape[:-3], 3, side, side)}


@lru_cache
def _tiles() -> UInt8[Tensor, "2 198 3 8 8"]:
    """What MiniGrid draws for each code, without the agent and with it."""
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles = torch.zeros(2, NUM_OBJECTS, NUM_COLOURS, NUM_STATES, 3, CELL_PIXELS, CELL_PIXELS, dtype=torch.uint8)
    for code in product(range(NUM_OBJECTS), range(NUM_COLOURS), range(NUM_STATES)):
        thing = WorldObj.decode(*code)
        if thing is not None and thing.encode() != code:
            continue  # only doors have states, say
        for agent, facing in ((0, None), (1, 3)):
            drawn = Grid.render_tile(thing, agent_dir=facing, highlight=code[0] > 0, tile_size=CELL_PIXELS)
            tiles[(agent, *code)] = torch.from_numpy(drawn).permute(2, 0, 1)
    return tiles.flatten(1, 3)


# --- demonstrations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Demonstrations:
    """Episodes that the bot solved, end to end.

    Attributes:
        cells: what it saw before each step.
        action: what it did then.
        length: steps of each episode.
        reward: at the end of each; there is none before.
        mission: of each, its number among the texts.
        texts: the missions, each once.
        num_redrawn: episodes that it did not solve.
    """

    cells: UInt8[numpy.ndarray, "steps 7 7 3"]
    action: UInt8[numpy.ndarray, " steps"]
    length: Int64[numpy.ndarray, " episodes"]
    reward: Float32[numpy.ndarray, " episodes"]
    mission: Int64[numpy.ndarray, " episodes"]
    texts: Shaped[numpy.ndarray, " missions"]
    num_redrawn: Int64[numpy.ndarray, ""]

    def check(self, episodes: int) -> None:
        """Raises `ValueError` where this is not so many episodes."""
        steps = int(self.length.sum())
        same = len(self.length) == len(self.reward) == len(self.mission) == episodes
        if not same or len(self.cells) != steps or len(self.action) != steps:
            raise ValueError(f"it holds something else than {episodes} episodes")


@dataclass(frozen=True)
class _Episode:
    mission: str
    cells: list[numpy.ndarray]
    actions: list[int]
    reward: float


def episode_seed(split: str, number: int, split_seed: int, attempt: int) -> int:
    """The environment's seed. No two splits have one in common, whatever their other numbers."""
    return ((split_seed * 2**32 + number) * ATTEMPTS + attempt) * 3 + ("train", "val", "test").index(split)


def _demonstration(level: Level, seed: int) -> _Episode | None:
    """What the bot does in an episode; None if it does not solve it, or not in time."""
    from minigrid.utils.baby_ai_bot import BabyAIBot

    environment = level.begin(seed)
    seen = _Seen(environment)
    bot, over, reward = BabyAIBot(seen), False, 0.0
    cells: list[numpy.ndarray] = []
    actions: list[int] = []
    while not over:
        try:
            action = int(bot.replan(actions[-1] if actions else None))
        except Exception:  # where it does not know what to do: assertions, paths that are None, boxes that are gone
            return None
        cells.append(seen.image)
        actions.append(action)
        seen.image, reward, terminated, truncated = _stepped(environment, action)
        over = terminated or truncated
    return _Episode(environment.mission, cells, actions, reward) if reward > 0 else None


def _stepped(environment: Any, action: int) -> tuple[numpy.ndarray, float, bool, bool]:
    """What is seen next, what was earned, whether the episode ended and whether its time is up."""
    observation, reward, terminated, truncated, _ = environment.step(action)
    return observation["image"], float(reward), bool(terminated), bool(truncated)


class _Seen:
    """The environment as the bot asks it, with the view that its last step has made already; views take most time."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self.image: numpy.ndarray = environment.gen_obs()["image"]

    @property
    def unwrapped(self) -> _Seen:
        return self

    def gen_obs_grid(self) -> tuple[None, Bool[numpy.ndarray, "7 7"]]:
        """The bot reads which cells are seen, and nothing else of it."""
        return None, self.image[..., 0] > 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


def _demonstrations(level: Level, split: str, count: int, split_seed: int) -> Demonstrations:
    """The episodes of a split, from the cache folder or made and put there."""

    def make() -> Arrays:
        numbers = tqdm(range(count), unit="episode", desc=f"{level.name}, {split}", disable=None)
        return vars(_end_to_end([_solved(level, split, number, split_seed) for number in numbers]))

    def check(arrays: Arrays) -> None:
        Demonstrations(**arrays).check(count)

    file = _cache_file([version("minigrid"), level.name, split, count, split_seed])
    return Demonstrations(**_cached(file, make, check))


def _solved(level: Level, split: str, number: int, split_seed: int) -> tuple[_Episode, int]:
    """An episode, and how many were drawn before it that the bot did not solve."""
    for attempt in range(ATTEMPTS):
        episode = _demonstration(level, episode_seed(split, number, split_seed, attempt))
        if episode is not None:
            return episode, attempt
    raise InvalidValue("level", level.name, f"is not for MiniGrid's bot: it solved none of {ATTEMPTS} episodes")


def _end_to_end(solved: list[tuple[_Episode, int]]) -> Demonstrations:
    episodes = [episode for episode, _ in solved]
    texts = sorted({episode.mission for episode in episodes})
    place = {text: i for i, text in enumerate(texts)}
    return Demonstrations(
        cells=numpy.stack([view for episode in episodes for view in episode.cells]),
        action=numpy.array([action for episode in episodes for action in episode.actions], numpy.uint8),
        length=numpy.array([len(episode.actions) for episode in episodes], numpy.int64),
        reward=numpy.array([episode.reward for episode in episodes], numpy.float32),
        mission=numpy.array([place[episode.mission] for episode in episodes], numpy.int64),
        texts=numpy.array(texts),
        num_redrawn=numpy.array(sum(redrawn for _, redrawn in solved), numpy.int64),
    )


# --- windows ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class _Indexed(Protocol):
    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class PerEpisode:
    """What holds for the whole of an episode.

    Args:
        field: its only one.
        values: what there is.
        number: of each episode, its own among the values.
    """

    field: str
    values: _Indexed
    number: Shaped[numpy.ndarray, " episodes"]


class Windows:
    """A split of windows, sample by sample or by the batch.

    Args:
        shown: the episodes.
        told: what holds for the whole of each, by name.
        look: in what form views are given.
        context: steps of a window, at most.
        stride: steps from the beginning of one to the next, in the same episode.
    """

    def __init__(
        self, shown: Demonstrations, told: Mapping[str, PerEpisode], look: Look, context: int, stride: int
    ) -> None:
        self._told, self._look, self._context = told, look, context
        length = torch.from_numpy(shown.length)
        episode = torch.arange(len(length)).repeat_interleave(length)
        self._times = torch.arange(len(episode)) - (length.cumsum(0) - length)[episode]
        self._cells, self._action = torch.from_numpy(shown.cells), torch.from_numpy(shown.action).long()
        self._return = torch.from_numpy(shown.reward)[episode, None]
        self._first = (self._times % stride == 0).nonzero()[:, 0]
        self._episode = episode[self._first]
        self._length = (length[episode] - self._times)[self._first].clamp(max=context)

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        steps, episode = self._first[index] + torch.arange(int(self._length[index])), int(self._episode[index])
        told = {name: {part.field: part.values[int(part.number[episode])]} for name, part in self._told.items()}
        return told | {name: read(steps) for name, read in self._per_step.items()}

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        """The names of `specs` of these windows, as collating them would give them."""
        ids = torch.tensor(indices)
        length, episodes = self._length[ids], self._episode[ids].tolist()
        offset = torch.arange(int(length.max()))
        real = offset < length[:, None]
        steps = self._first[ids][:, None] + torch.where(real, offset, 0)
        fields, lengths = {}, {}
        for name in specs:
            if name in self._told:
                fields[name], lengths[name] = self._collated(self._told[name], episodes)
            else:
                read = self._per_step[name](steps)
                fields[name] = {key: _only(values, real) for key, values in read.items()}
                lengths[name] = length.clone()
        full = {name: bool((count == count.max()).all()) for name, count in lengths.items()}
        return Batch(fields, lengths, full, ids)

    @property
    def _per_step(self) -> dict[str, Callable[[Tensor], dict[str, Tensor]]]:
        return {
            "view": lambda steps: self._look.of(self._cells[steps]) | {"times": self._times[steps]},
            "action": lambda steps: {"class": self._action[steps], "times": self._times[steps]},
            "return": lambda steps: {"values": self._return[steps], "times": self._times[steps]},
        }

    @staticmethod
    def _collated(part: PerEpisode, episodes: list[int]) -> tuple[dict[str, Tensor], Int64[Tensor, " B"]]:
        values = [part.values[number] for number in part.number[episodes].tolist()]
        return {part.field: pad_sequence(values, batch_first=True)}, torch.tensor([len(value) for value in values])


def _only(values: Shaped[Tensor, "B K ..."], real: Bool[Tensor, "B K"]) -> Shaped[Tensor, "B K ..."]:
    """With zeros where nothing is."""
    return values.masked_fill_(~real.view(*real.shape, *[1] * (values.dim() - 2)), 0)


# --- missions said aloud ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speakers:
    """Who says missions in a split.

    Args:
        split: whose voices.
        voices: of each mission; other missions are said by other voices.
        seed: which.
    """

    split: str
    voices: int
    seed: int

    def say(self, mission: str, voice: int) -> Int16[Tensor, " samples"]:
        """A mission said by one of its voices, in units of 1 / `LOUDEST`."""
        drawn = random_voice(self.split, random.Random(f"{self.seed} {self.split} {voice} {mission}"))
        speech = synthesise(mission, drawn, SAMPLE_RATE_HZ)
        if len(speech) > _longest_speech(len(mission.split())) * SAMPLE_RATE_HZ:
            raise AssertionError(f"{drawn} takes {len(speech) / SAMPLE_RATE_HZ:.2f} s for {mission!r}")
        return (speech * LOUDEST).round().to(torch.int16)


def _longest_speech(words: int) -> float:
    """Seconds."""
    return words * SECONDS_PER_WORD + SECONDS_MORE


def _speech(shown: Demonstrations, speakers: Speakers) -> PerEpisode:
    """Every mission as its episode's voice says it, from the cache folder or made and put there."""
    voice = numpy.arange(len(shown.mission)) % speakers.voices
    pairs, number = numpy.unique(numpy.stack([shown.mission, voice], 1), axis=0, return_inverse=True)
    said = [(str(shown.texts[mission]), int(voice)) for mission, voice in pairs]

    def make() -> Arrays:
        clips = [speakers.say(*pair) for pair in tqdm(said, unit="clip", desc="missions said aloud", disable=None)]
        return {"waveforms": torch.cat(clips).numpy(), "offsets": numpy.cumsum([0, *map(len, clips)])}

    def check(arrays: Arrays) -> None:
        offsets, waveforms = arrays["offsets"], arrays["waveforms"]
        if len(offsets) != len(said) + 1 or offsets[-1] != len(waveforms):
            raise ValueError(f"it holds something else than {len(said)} clips")

    arrays = _cached(_cache_file([espeak_version(), sorted(vars(speakers).items()), said]), make, check)
    clips = Clips(torch.from_numpy(arrays["waveforms"]), torch.from_numpy(arrays["offsets"]))
    return PerEpisode("waveform", clips, number.reshape(-1))


# --- the world --------------------------------------------------------------------------------------------------------


class BabyAIWorld(World):
    """A level to act in. Its episodes are in no dataset of demonstrations.

    Args:
        level: of MiniGrid's.
        num_episodes: side by side, at most.
        look: in what form the model is given what the agent sees.
        vocabulary: how missions are written.
        speakers: who says missions aloud; None: nobody.
    """

    def __init__(
        self, *, level: Level, num_episodes: int, look: Look, vocabulary: TextVocabulary, speakers: Speakers | None
    ) -> None:
        _within("num_episodes", num_episodes, 1, 1_000_000)
        self._level, self._num_episodes, self._look = level, num_episodes, look
        self._vocabulary, self._speakers = vocabulary, speakers
        self._environments: list[Any] = []
        self._clips: dict[tuple[str, int], Float[Tensor, " samples"]] = {}

    @property
    def max_steps(self) -> int:
        return self._level.max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        """Begins an episode for each seed, 0 or more: an index among the test's episodes, not the environment's own.

        Returns:
            Each one's ``view``, and its ``mission`` and perhaps ``speech``.
        """
        if len(seeds) > self._num_episodes:
            raise ValueError(f"{len(seeds)} seeds for {self._num_episodes} episodes")
        self._environments = [self._level.begin(episode_seed("test", seed, 0, 0)) for seed in seeds]
        views = [environment.gen_obs()["image"] for environment in self._environments]
        self._cells = torch.from_numpy(numpy.stack(views))
        self._over = torch.zeros(len(seeds), dtype=torch.bool)
        self._success = torch.zeros(len(seeds), dtype=torch.bool)
        missions = [environment.mission for environment in self._environments]
        return self._observed(), [self._told(mission, seed) for mission, seed in zip(missions, seeds, strict=True)]

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        reward = torch.zeros(len(self._environments))
        for i, action in enumerate(actions.reshape(len(self._environments)).tolist()):
            if self._over[i]:
                continue
            view, earned, terminated, truncated = _stepped(self._environments[i], int(action))
            self._cells[i], reward[i] = torch.from_numpy(view), earned
            self._over[i], self._success[i] = terminated or truncated, earned > 0
        return Outcome(self._observed(), reward, self._over.clone(), self._success.clone())

    def frame(self, index: int) -> Float[Tensor, "3 height width"]:
        """The whole grid, with what the agent sees of it lit up."""
        drawn = self._environments[index].get_frame(tile_size=FRAME_CELL_PIXELS)
        return torch.from_numpy(drawn).permute(2, 0, 1) / 255

    def _observed(self) -> Observation:
        fields = self._look.of(self._cells)
        return [{"view": {key: values[i] for key, values in fields.items()}} for i in range(len(self._cells))]

    def _told(self, mission: str, seed: int) -> Sample:
        told = {"mission": {"ids": written(mission, self._vocabulary)}}
        return told | ({"speech": {"waveform": self._said(mission, seed, self._speakers)}} if self._speakers else {})

    def _said(self, mission: str, seed: int, speakers: Speakers) -> Float[Tensor, " samples"]:
        pair = mission, seed % speakers.voices
        if pair not in self._clips:
            self._clips[pair] = speakers.say(*pair).float() / LOUDEST
        return self._clips[pair]


# --- the cache --------------------------------------------------------------------------------------------------------

Arrays = dict[str, numpy.ndarray]


def _cached(file: Path, make: Callable[[], Arrays], check: Callable[[Arrays], None]) -> Arrays:
    """Arrays from the cache folder, or made and put there. `check` raises `ValueError` for others than wanted."""
    try:
        return _read(file.read_bytes(), check)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _say(f"{file} cannot be read ({error}); it is made anew")
    arrays, stream = make(), io.BytesIO()
    numpy.savez(stream, **arrays)  # type: ignore[arg-type]  # its allow_pickle is not among them
    try:
        write_whole(file, stream.getvalue())
    except OSError as error:
        _say(f"{file} cannot be written ({error}); the next run makes it anew")
    return arrays


def _cache_file(settings: list[object]) -> Path:
    """One for everything that its content depends on."""
    key = hashlib.sha256(json.dumps([RECIPE, *settings]).encode()).hexdigest()[:16]
    return cache_folder() / "babyai" / f"{key}.npz"


def _read(content: bytes, check: Callable[[Arrays], None]) -> Arrays:
    """Raises `ValueError` where it is damaged: its parts carry checksums."""
    try:
        with numpy.load(io.BytesIO(content), allow_pickle=False) as parts:
            arrays = dict(parts)
        check(arrays)
    except (OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from None
    return arrays


def _say(line: str) -> None:
    print(f"mmtx: {line}", file=sys.stderr, flush=True)
