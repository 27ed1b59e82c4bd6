"""Datasets of trajectories, and the environments that a model acts in."""

import builtins
import io
import json
import pickle
import re
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from contracts import check_source

import mmtx
from mmtx.data.base import BatchSplit
from mmtx.data.collate import collate
from mmtx.data.episodes import minari_dataset, rollouts
from mmtx.data.episodes.behaviour_policies import CONTROLLERS
from mmtx.data.episodes.episode_source import FIRST_DATA_SEED, EpisodeSource, Windowing, data_seed
from mmtx.data.episodes.gym_environment import GymEnvironment, make_env, state_vector
from mmtx.data.episodes.key_to_door import KeyToDoor, KeyToDoorEnvironment, random_walks
from mmtx.data.episodes.minari_dataset import Minari
from mmtx.data.episodes.recorded_steps import concatenate_episodes
from mmtx.data.episodes.rollouts import Rollouts
from mmtx.data.episodes.trajectories import Trajectories
from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of this test's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mmtx" / "rollouts"


def config(name):
    """What the yaml gives to the class."""
    file = next(p for p in Path(mmtx.__file__).parents if (p / "conf" / "data").is_dir()) / "conf" / "data"
    given = yaml.safe_load((file / f"{name}.yaml").read_text())
    return {key: v for key, v in given.items() if key != "_target_"}


def rollouts_of(env="CartPole-v1", **changed):
    given = {**config("rollouts"), "env": env, "num_episodes": 12, "val_fraction": 0.25}
    return Rollouts(**{**given, **changed})


def key_to_door(**changed):
    return KeyToDoor(**{**config("key_to_door"), "num_episodes": 30, "val_fraction": 0.2, **changed})


def trajectories(path, **changed):
    return Trajectories(**{**config("trajectories"), "val_fraction": 0.25, **changed, "path": str(path)})


def minari_of(name, **changed):
    return Minari(**{**config("minari"), "name": name, **changed})


def recorded(lengths=(3, 1, 30, 7, 20), state=2, classes=3, size=None, seed=0):
    """Episodes one by one; with discrete actions, or with `size` numbers."""
    generator = numpy.random.default_rng(seed)
    return [
        {
            "observations": generator.normal(size=(steps, state)).astype(numpy.float32),
            "actions": generator.integers(classes, size=steps)
            if size is None
            else generator.normal(size=(steps, size)),
            "rewards": generator.normal(size=steps),
        }
        for steps in lengths
    ]


def flat(episodes, ends="terminations"):
    """The same end to end."""
    arrays = {key: numpy.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    over = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    over[numpy.cumsum([len(episode["rewards"]) for episode in episodes]) - 1] = True
    return {**arrays, "terminations": numpy.zeros_like(over), ends: over}


episodes_of = partial(concatenate_episodes, where="data", num_actions=None, max_steps=1000)


class Plain(EpisodeSource):
    reference_returns = None
    environment = None


def plain(episodes, context=5, val_fraction=0.4, **changed):
    given = {"max_steps": 100, "return_scale": 10.0, "split_seed": 0, **changed}
    return Plain(episodes, Windowing(context=context, val_fraction=val_fraction, **given))


def same(one, other):
    """Whether two samples, or lists of samples, are equal."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return {name: list(fields) for name, fields in one.items()} == {n: list(f) for n, f in other.items()} and all(
        value.equal(other[name][key]) for name, fields in one.items() for key, value in fields.items()
    )


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_returns_to_go_times_and_previous_rewards_are_those_of_a_loop():
    given = recorded((4, 1, 60, 9))
    episodes = episodes_of(given)
    returns, before, times = [], [], []
    for episode in given:
        rewards = episode["rewards"].tolist()
        returns += [sum(rewards[step:]) for step in range(len(rewards))]
        before += [0.0, *rewards[:-1]]
        times += range(len(rewards))
    torch.testing.assert_close(episodes.returns_to_go, torch.tensor(returns, dtype=torch.float64))
    torch.testing.assert_close(episodes.previous_rewards, torch.tensor(before, dtype=torch.float64))
    assert episodes.times.tolist() == times
    assert episodes.lengths.tolist() == [4, 1, 60, 9]
    assert episodes.returns.tolist() == pytest.approx([episode["rewards"].sum() for episode in given])
    assert episodes.num_actions == 3


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("ends", ["terminations", "truncations"])
def test_episodes_end_to_end_are_the_same_as_one_by_one(size, ends):
    given = recorded(size=size)
    one, other = episodes_of(given), episodes_of(flat(given, ends))
    for field in ("observations", "actions", "rewards", "offsets"):
        assert getattr(one, field).equal(getattr(other, field)), field
    assert one.num_actions == other.num_actions == (3 if size is None else None)


def test_what_was_seen_after_the_last_step_is_left_out_and_so_are_steps_after_the_last_end():
    given = recorded((3, 4))
    longer = [{**e, "observations": numpy.concatenate([e["observations"], e["observations"][:1]])} for e in given]
    assert episodes_of(longer).observations.equal(episodes_of(given).observations)
    steps = flat(recorded((3, 4, 5)))
    steps["terminations"][-1] = False
    assert len(episodes_of(steps)) == 2 and len(episodes_of(steps).rewards) == 7


def changed(number, **fields):
    episodes = recorded(size=2)
    episodes[number] = {**episodes[number], **fields}
    return episodes


def broken(field, value, number=2, step=4):
    episodes = recorded(size=2)
    episodes[number][field][step] = value
    return episodes


DAMAGED = {
    "no episodes": ([], "data has no episodes"),
    "empty": (
        changed(1, observations=numpy.zeros((0, 2)), actions=numpy.zeros((0, 2)), rewards=[]),
        "data, episode 1 is empty: rewards has no steps",
    ),
    "nan reward": (broken("rewards", numpy.nan), "data, episode 2, step 4: rewards is nan"),
    "infinite observation": (broken("observations", numpy.inf), "data, episode 2, step 4: observations is inf"),
    "nan action": (broken("actions", numpy.nan), "data, episode 2, step 4: actions is nan"),
    "several": (
        broken("rewards", numpy.nan, step=slice(4, 7)),
        "data, episode 2, step 4: rewards is nan, and so are 2 steps more",
    ),
    "too large": (changed(0, observations=numpy.full((3, 2), 1e300)), "data, episode 0, step 0: observations is inf"),
    "unequal": (
        changed(3, rewards=numpy.zeros(5)),
        "data, episode 3: fields have unequal numbers of steps: observations 7, actions 7, rewards 5",
    ),
    "action size": (
        changed(3, actions=numpy.zeros((7, 3))),
        "data, episode 3: actions has the shape (3,) a step, in episode 0 it is (2,)",
    ),
    "action type": (
        changed(3, actions=numpy.zeros((7, 2), dtype=int)),
        "data, episode 3: actions holds int64, in episode 0 it is float64",
    ),
    "words": (changed(3, rewards=["a"] * 7), "data, episode 3: rewards holds <U1, not numbers"),
    "missing": ([{"observations": [1.0]}], "data, episode 0: actions is missing; there are observations"),
    "one number": (changed(3, rewards=1.0), "data, episode 3: rewards is one number, not one for each step"),
    "integers": (
        [{"observations": numpy.zeros((2, 1)), "actions": numpy.zeros((2, 2), dtype=int), "rewards": [0.0, 0.0]}],
        "data: actions holds 2 integers a step; a class is one, and numbers are floats",
    ),
    "never ends": (
        {**flat(recorded()), "terminations": numpy.zeros(61, dtype=bool)},
        "data: terminations and truncations are false at every step, so that no episode ends",
    ),
    "flat unequal": ({**flat(recorded()), "rewards": numpy.zeros(60)}, "unequal numbers of steps: observations 61"),
    "no observations": (
        changed(0, observations=numpy.zeros((3, 0))),
        "data, episode 1: observations has the shape (2,)",
    ),
    "no actions": (
        [{"observations": numpy.zeros((2, 1)), "actions": numpy.zeros((2, 0)), "rewards": [0.0, 0.0]}],
        "data: actions holds no numbers, and must hold one a step or more",
    ),
    "several rewards": (
        {**flat(recorded()), "rewards": numpy.zeros((61, 2))},
        "data: rewards has the shape (2,) a step; it is one number",
    ),
    "several ends": (
        {**flat(recorded()), "terminations": numpy.zeros((61, 2))},
        "data: terminations has the shape (2,) a step; it is one number",
    ),
    "rewards of nothing": (
        {**flat(recorded()), "rewards": numpy.zeros((61, 0))},
        "data: rewards has the shape (0,) a step; it is one number",
    ),
    "ends of nothing": (
        {**flat(recorded()), "terminations": numpy.zeros((61, 0))},
        "data: terminations has the shape (0,) a step; it is one number",
    ),
    "nan end": (
        {**flat(recorded()), "terminations": numpy.where(numpy.arange(61) == 5, numpy.nan, 1.0)},
        "data: terminations is nan at step 5; it is 0 or 1, false or true",
    ),
    "half an end": (
        {**flat(recorded()), "truncations": numpy.full(61, 0.5)},
        "data: truncations is 0.5 at step 0; it is 0 or 1",
    ),
    "flat empty": ({key: array[:0] for key, array in flat(recorded()).items()}, "data is empty: rewards has no steps"),
    "pictures": (
        [{"observations": numpy.zeros((2, 84, 84)), "actions": [0, 1], "rewards": [0.0, 0.0]}],
        "data: observations are 7,056 numbers each; vectors have 1..4096",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_one_error_names_episode_and_field(name):
    given, message = DAMAGED[name]
    with pytest.raises(UserError, match=re.escape(message)):
        episodes_of(given)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_classes_are_in_their_range(wrong):
    episodes = recorded()
    episodes[2]["actions"][5] = wrong
    with pytest.raises(UserError, match=rf"data, episode 2, step 5: actions is {wrong}, and must lie in 0..2"):
        episodes_of(episodes, num_actions=3)
    with pytest.raises(UserError, match="actions holds float64; 3 classes are integers"):
        episodes_of(recorded(size=1), num_actions=3)


def test_episodes_beyond_the_table_of_times_are_refused():
    with pytest.raises(InvalidValue, match="max_steps=29 is less than the 30 steps of episode 2 of data; nearest: 30"):
        episodes_of(recorded(), max_steps=29)
    assert len(episodes_of(recorded(), max_steps=30)) == 5


# --- windows ----------------------------------------------------------------------------------------------------------


def by_hand(given, source, number, begin, length):
    """A window from what was recorded, without anything that the source computed but the standardisation."""
    episode = given[number]
    rewards = torch.tensor(episode["rewards"])
    rows = slice(begin, begin + length)
    to_go = torch.stack([rewards[step:].sum() for step in range(begin, begin + length)]) / source.return_scale
    before = torch.cat([torch.zeros(1), rewards])[rows] / source.return_scale
    actions = torch.tensor(episode["actions"])[rows]
    times = torch.arange(begin, begin + length)
    state = (torch.tensor(episode["observations"])[rows] - source.standardise.mean) / source.standardise.std
    action = {"class": actions} if actions.dim() == 1 else {"values": actions.float()}
    return {
        "return": {"values": to_go.float()[:, None], "times": times},
        "reward": {"values": before.float()[:, None], "times": times},
        "state": {"values": state, "times": times},
        "action": {**action, "times": times},
    }


def close(one, other):
    assert {name: list(fields) for name, fields in one.items()} == {n: list(f) for n, f in other.items()}
    for name, fields in one.items():
        for key, value in fields.items():
            torch.testing.assert_close(value, other[name][key], msg=lambda text, at=(name, key): f"{at}: {text}")


@pytest.mark.parametrize("size", [None, 2])
def test_windows_are_those_of_a_loop(size):
    given = recorded((3, 1, 30, 7, 20, 12), size=size)
    source = plain(episodes_of(given))
    check_source(source)
    held = source._val_episodes.tolist()
    assert len(held) == 2
    train, val = source.train(), source.val()
    expected = [
        by_hand(given, source, number, begin, min(5, len(given[number]["rewards"]) - begin))
        for number in range(6)
        if number not in held
        for begin in range(len(given[number]["rewards"]))
    ]
    assert len(train) == len(expected), "a window begins at every step"
    for i, window in enumerate(expected):
        close(train[i], window)
    expected = [
        by_hand(given, source, number, begin, min(5, len(given[number]["rewards"]) - begin))
        for number in held
        for begin in range(0, len(given[number]["rewards"]), 5)
    ]
    assert len(val) == len(expected), "windows lie end to end"
    for i, window in enumerate(expected):
        close(val[i], window)
    assert sum(len(val[i]["state"]["times"]) for i in range(len(val))) == sum(len(given[n]["rewards"]) for n in held)


def test_states_are_standardised_by_the_training_part():
    given = recorded()
    source = plain(episodes_of(given))
    states = numpy.concatenate(
        [e["observations"] for n, e in enumerate(given) if n not in source._val_episodes.tolist()]
    )
    assert source.standardise.mean.numpy() == pytest.approx(states.mean(0), abs=1e-6)
    assert source.standardise.std.numpy() == pytest.approx(states.std(0) + 1e-6, abs=1e-6)
    steady = plain(episodes_of([{**e, "observations": numpy.ones((len(e["rewards"]), 1))} for e in given]))
    assert not steady.train()[0]["state"]["values"].any(), "what never changes is 0"


def check_batches(split, specs, groups):
    assert isinstance(split, BatchSplit)
    for indices in groups:
        for names in (list(specs), ["state", "action"], ["return"]):
            some = {name: specs[name] for name in names}
            quick, slow = split.batch(indices, some), collate([split[i] for i in indices], some, ids=indices)
            assert same(quick.fields, slow.fields)
            assert list(quick.fields) == names
            assert quick.ids.equal(slow.ids) and quick.full == slow.full
            assert all(quick.lengths[name].equal(slow.lengths[name]) for name in names)


@pytest.mark.parametrize("size", [None, 2])
def test_batches_are_those_of_collate(size):
    source = plain(episodes_of(recorded(size=size)))
    train, val = source.train(), source.val()
    last = len(train) - 1
    check_batches(train, source.specs, [[0], [last], [0, last, 3, 3], list(range(last + 1))])
    check_batches(val, source.specs, [[0], list(range(len(val)))])


def test_batches_come_through_the_loader_with_workers():
    source = plain(episodes_of(recorded()))
    data = DataModule(
        source=source,
        names=["state"],
        seed=0,
        batch_size=4,
        eval_batch_size=None,
        num_workers=1,
        packing=False,
        on_bad_sample="raise",
        max_bad_share=0.0,
    )
    (batch,) = next(iter(data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)))
    assert same(batch.fields, collate([source.train()[i] for i in batch.ids.tolist()], data.specs).fields)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("context", 0, r"context=0 must lie in 1\.\.15 \(max_steps\); nearest: 1"),
        ("context", 16, "context=16 must lie in .* nearest: 15"),
        ("return_scale", 0.0, "return_scale=0.0 must be more than 0"),
        ("val_fraction", 1.0, r"val_fraction=1.0 must lie in \[0, 1\)"),
        ("val_fraction", 0.001, "val_fraction=0.001 of 30 episodes holds none out"),
        ("num_episodes", 0, "num_episodes=0 must lie in"),
        ("split_seed", -1, "split_seed=-1 must be at least 0"),
        ("size", 1, "size=1 must lie in 2..100; nearest: 2"),
        ("room_steps", [3, 3], "room_steps=.* must give the steps in each of 3 rooms"),
        ("room_steps", [0, 3, 15], "room_steps=.* must be at least 1 in the first and the third"),
    ],
)
def test_keys_that_cannot_work(key, value, message):
    with pytest.raises(InvalidValue, match=message):
        key_to_door(**{key: value})


# --- rollouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", CONTROLLERS)
def test_rollouts_of_every_environment_that_has_a_controller(env):
    source = rollouts_of(env, num_episodes=5)
    check_source(source)
    low, high = source.reference_returns
    assert low <= source.episodes.returns.max() <= high + 100
    assert source.best_return == source.episodes.returns.max() and source.can_play


def test_the_default_mixture_is_poor_and_good():
    source = rollouts_of(num_episodes=200)
    returns = source.episodes.returns
    assert returns.mean() < 195, "the mixture itself is well under 200"
    assert returns.max() == 500
    assert (returns < 30).float().mean() > 0.2
    assert ((returns > 60) & (returns < 300)).float().mean() > 0.1
    assert (returns == 500).float().mean() > 0.1


def test_controllers_return_what_they_say():
    for env, controller in CONTROLLERS.items():
        returns = rollouts_of(env, policies={"expert": 1.0}, num_episodes=20).episodes.returns
        assert returns.mean() == pytest.approx(controller.own_return, abs=15), env


def test_an_episode_depends_on_the_seed_and_its_number_alone():
    few, many = (rollouts_of(num_episodes=n, val_fraction=0.0).episodes for n in (3, 8))
    end = int(few.offsets[-1])
    for field in ("observations", "actions", "rewards"):
        assert getattr(many, field)[:end].equal(getattr(few, field)), field
    assert many.offsets[:4].equal(few.offsets)
    other = rollouts_of(num_episodes=3, val_fraction=0.0, split_seed=1).episodes
    assert not other.observations[0].equal(few.observations[0])


def test_data_and_evaluation_have_no_seed_in_common():
    seeds = [data_seed(seed, number) for seed in (0, 1) for number in range(500)]
    assert min(seeds) >= FIRST_DATA_SEED and max(seeds) < 2**32 and len(set(seeds)) > 990


def test_rollouts_are_made_once(cache, monkeypatch, capsys):
    first = rollouts_of()
    (file,) = cache.iterdir()
    monkeypatch.setattr(rollouts._Generator, "generate", lambda *_: pytest.fail("made again"))
    again = rollouts_of()
    for field in ("observations", "actions", "rewards", "offsets"):
        assert getattr(first.episodes, field).equal(getattr(again.episodes, field)), field
    assert first.episodes.num_actions == again.episodes.num_actions == 2
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    whole = file.read_bytes()
    stream = io.BytesIO()
    numpy.savez(stream, observations=numpy.array([print], dtype=object))
    for content in (whole[:2000], b"", whole[:500] + b"x" + whole[501:], stream.getvalue()):
        file.write_bytes(content)
        assert rollouts_of().episodes.observations.equal(first.episodes.observations)
        assert "generated again" in capsys.readouterr().err
        assert file.read_bytes() == whole
    rollouts_of(num_episodes=13)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(rollouts_of().episodes) == 12
    assert "the next run generates it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "CartPole-v7"}, "env=CartPole-v7 is not an environment of Gymnasium; nearest: did you mean 'CartPole"),
        ({"env": "CartPoel-v1"}, "env=CartPoel-v1 is not an environment of Gymnasium; nearest: did you mean 'CartPole"),
        ({"env": "os:CartPole-v1"}, "env=os:CartPole-v1 names a module to import"),
        ({"policies": {"expart": 1.0}}, "policies.expart=1.0 is no behaviour policy; nearest: did you mean 'expert'"),
        ({"policies": {"expert": -1.0}}, "policies.expert=-1.0 must be a share"),
        ({"policies": {"expert": 0.0}}, "has no share above 0; there are random, noisy, expert"),
        ({"env": "MountainCarContinuous-v0"}, "policies.noisy=0.6 cannot be had for env=MountainCarContinuous-v0"),
    ],
)
def test_rollouts_that_cannot_be(changes, message):
    with pytest.raises(InvalidValue, match=message):
        rollouts_of(**changes)


class Faulty:
    """An environment that gives what cannot be learned from, or cannot be made."""

    def __init__(self, reward, missing, **_):
        if missing:
            raise OSError("libGL.so.1 is missing")
        gymnasium = pytest.importorskip("gymnasium")
        self.observation_space, self.action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(3)
        self.reward = reward

    def reset(self, **_):
        self.steps = 0
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        self.steps += 1
        return numpy.zeros(2, numpy.float32), self.reward if self.steps == 3 else 0.0, self.steps == 5, False, {}


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"reward": numpy.nan, "missing": False}, "data.env=Faulty-v0, episode 0, step 2: rewards is nan, and so are"),
        ({"reward": 0.0, "missing": True}, "^env=Faulty-v0 cannot be made: libGL.so.1 is missing"),
    ],
)
def test_environments_that_fail(monkeypatch, faults, message):
    gymnasium = pytest.importorskip("gymnasium")

    class Made(Faulty, gymnasium.Env):
        pass

    monkeypatch.setitem(
        gymnasium.registry,
        "Faulty-v0",
        gymnasium.envs.registration.EnvSpec("Faulty-v0", entry_point=lambda **more: Made(**faults)),
    )
    with pytest.raises(UserError, match=message):
        rollouts_of("Faulty-v0", policies={"random": 1.0})


def test_continuous_actions():
    source = rollouts_of(
        "MountainCarContinuous-v0", policies={"random": 1.0}, num_episodes=2, max_steps=30, val_fraction=0.5
    )
    check_source(source)
    assert source.specs["action"].fields["values"].shape == (None, 1)
    assert source.episodes.lengths.tolist() == [30, 30], "cut off"
    environment = source.environment(1)
    environment.reset([3])
    wild, limit = environment.step(torch.tensor([[7.0]])), source.environment(1)
    limit.reset([3])
    assert same(wild.observation, limit.step(torch.tensor([[1.0]])).observation), "brought within the limits"


def test_other_spaces_are_vectors_too():
    env = make_env("FrozenLake-v1")
    assert state_vector(env.observation_space, 3).tolist() == [0.0] * 3 + [1.0] + [0.0] * 12
    source = rollouts_of("FrozenLake-v1", policies={"random": 1.0}, num_episodes=4)
    assert source.specs["state"].fields["values"].shape == (None, 16)
    with pytest.raises(InvalidValue, match="has observations that are no vectors of 1..4096 numbers"):
        rollouts_of("Blackjack-v1", policies={"random": 1.0})


# --- environments -----------------------------------------------------------------------------------------------------


def play(environment, seeds, actions):
    """All that comes of actions ``(steps, n)``."""
    observation, constants = environment.reset(seeds)
    assert constants == [{} for _ in seeds]
    return [(observation, None), *((outcome.observation, outcome) for outcome in map(environment.step, actions))]


def environments():
    return {"gym": rollouts_of().environment, "key_to_door": key_to_door().environment}


@pytest.mark.parametrize("name", ["gym", "key_to_door"])
def test_an_episode_is_a_pure_function_of_seed_and_actions(name):
    make = environments()[name]
    classes = {"gym": 2, "key_to_door": 4}[name]
    actions = torch.randint(classes, (18, 4), generator=torch.Generator().manual_seed(0))
    together = play(make(4), [5, 6, 7, 5], actions)
    again = make(4)
    play(again, [1, 2, 3, 4], actions)  # what was played before is forgotten
    for number, seed in enumerate([5, 6, 7]):
        alone = play(make(1), [seed], actions[:, number : number + 1])
        after = play(again, [9, 9, 9, 9][:number] + [seed], actions[:, : number + 1])
        for step, (one, whole, late) in enumerate(zip(alone, together, after, strict=True)):
            assert same(one[0][0], whole[0][number]) and same(one[0][0], late[0][number]), step
            if step:
                for field in ("reward", "over"):
                    given = [getattr(x[1], field)[i] for x, i in ((one, 0), (whole, number), (late, number))]
                    assert given[0] == given[1] == given[2]


def test_an_episode_of_the_data_can_be_played_again():
    source = rollouts_of(num_episodes=4)
    episodes, environment = source.episodes, source.environment(1)
    table = source._steps.fetch(torch.arange(len(episodes.rewards)), ["state"])["state"]["values"]
    for number in range(4):
        first, end = episodes.offsets[number : number + 2].tolist()
        observation, _ = environment.reset([data_seed(0, number)])
        for step in range(first, end):
            assert observation[0]["state"]["values"].equal(table[step]), "standardised as the data are"
            outcome = environment.step(episodes.actions[step : step + 1])
            observation = outcome.observation
            assert outcome.reward.item() == episodes.rewards[step]
            assert outcome.over.item() == (step == end - 1)
    assert outcome.success is None


def test_what_is_over_stays_over():
    environment = rollouts_of().environment(2)
    environment.reset([0, 1])
    before = None
    for _ in range(30):
        outcome = environment.step(torch.ones(2, dtype=torch.long))
        if before is not None and before.over.any():
            assert not outcome.reward[before.over].any() and outcome.over[before.over].all()
        before = outcome
    assert outcome.over.all()
    short = rollouts_of(max_steps=20).environment(1)
    short.reset([0])
    overs = [short.step(torch.tensor([i % 2])).over.item() for i in range(20)]
    assert short.max_steps == 20 and overs == [False] * 19 + [True]
    with pytest.raises(ValueError, match="2 seeds for 1 environments"):
        short.reset([0, 1])


def test_frames(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    for env in CONTROLLERS:
        environment = rollouts_of(env, num_episodes=2, val_fraction=0.0, max_steps=20).environment(1)
        environment.reset([0])
        frame = environment.frame(0)
        assert frame.shape[0] == 3 and 0 <= frame.min() < frame.max() <= 1, env
        monkeypatch.setattr(environment._envs[0].unwrapped, "render", lambda: 1 / 0)
        assert environment.frame(0) is None
        environment.close()
    environment = key_to_door().environment(1)
    environment.reset([0])
    assert environment.frame(0).shape == (3, 5 * 16 + 4, 3 * (5 * 16 + 4))


# --- key to door ------------------------------------------------------------------------------------------------------


def test_key_to_door_is_a_dataset():
    source = key_to_door()
    check_source(source)
    assert source.specs["state"].fields["values"].shape == (None, 7)
    assert source.specs["action"].fields["class"].num_classes == 4
    check_batches(source.train(), source.specs, [[0, 5, len(source.train()) - 1]])


def test_few_random_walks_succeed():
    episodes = random_walks(4, (5, 5, 5), 3000, 0)
    assert 0.04 < episodes.returns.mean() < 0.08
    assert set(episodes.rewards.tolist()) == {0.0, 1.0}
    last = torch.zeros(len(episodes.rewards), dtype=torch.bool)
    last[episodes.offsets[1:] - 1] = True
    assert not episodes.rewards[~last].any(), "nothing is earned but at the very end"


def test_walks_do_not_depend_on_each_other():
    few, many = random_walks(4, (6, 6, 6), 3, 0), random_walks(4, (6, 6, 6), 9, 0)
    end = int(few.offsets[-1])
    assert few.observations.equal(many.observations[:end]) and few.actions.equal(many.actions[:end])


def towards(state, size):
    """Actions that lessen the distance to the thing that is seen."""
    rows, columns = (state[:, -2:] * size).round().long().unbind(1)
    return torch.where(rows < 0, 0, torch.where(rows > 0, 1, torch.where(columns < 0, 2, 3)))


def run(environment, seeds, policy):
    environment.reset(seeds)
    rewards, outcome = torch.zeros(len(seeds)), None
    for _ in range(environment.max_steps):
        outcome = environment.step(policy(environment.states()))
        rewards += outcome.reward
    return rewards, outcome


def test_who_takes_the_key_and_reaches_the_door_succeeds():
    environment = KeyToDoorEnvironment(size=4, room_steps=(5, 5, 5), standardise=None)
    rewards, outcome = run(environment, range(200), lambda state: towards(state, 4))
    assert rewards.min() == 1 and outcome.success.all() and outcome.over.all()

    def away(state):
        """Goes away from the key, and to the door."""
        return torch.where(state[:, 0] > 0, towards(state, 4) ^ 1, towards(state, 4))

    rewards, outcome = run(environment, range(200), away)
    assert outcome.over.all() and rewards.mean() < 0.5
    assert outcome.success.equal(rewards == 1)
    assert not outcome.success[~environment._has_key].any()


def test_what_is_seen_in_the_rooms():
    environment = KeyToDoorEnvironment(size=4, room_steps=(6, 2, 6), standardise=None)
    environment.reset(range(50))
    had = environment._has_key
    for step in range(14):
        state, room = environment.states(), [0] * 6 + [1] * 2 + [2] * 6
        assert state[:, :3].argmax(1).tolist() == [room[step]] * 50
        assert ((state[:, 3:5] * 4).round() == environment._cell).all()
        seen = state[:, 5:].any(1)
        if room[step] == 0:
            assert seen.equal(~had), "the key is seen until it is taken"
        elif room[step] == 1:
            assert not seen.any()
        else:
            assert seen[~environment._over].all()
        environment.step(towards(state, 4) if step < 6 else torch.zeros(50, dtype=torch.long))
        had = environment._has_key


# --- files ------------------------------------------------------------------------------------------------------------


def write_npz(file, arrays):
    with open(file, "wb") as stream:  # by its name, NumPy would add an end
        numpy.savez(stream, **arrays)
    return file


def write_hdf5(file, arrays):
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as opened:
        for name, array in arrays.items():
            opened[name] = array
        opened["infos/qpos"] = numpy.zeros(3)
    return file


def write_minari(folder, episodes, observation, action, **metadata):
    """A dataset in the layout of Minari, written without it; ``observations`` may be dictionaries."""
    h5py = pytest.importorskip("h5py")
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as opened:
        for number, episode in enumerate(episodes):
            group = opened.create_group(f"episode_{number}")
            for name, values in episode.items():
                if isinstance(values, dict):
                    for key, part in values.items():
                        group[f"{name}/{key}"] = part
                else:
                    group[name] = values
    spaces = {"observation_space": json.dumps(observation), "action_space": json.dumps(action)}
    (folder / "data" / "metadata.json").write_text(json.dumps({"data_format": "hdf5", **spaces, **metadata}))
    return folder


BOX, DISCRETE = {"type": "Box", "shape": [2], "dtype": "float32"}, {"type": "Discrete", "n": 5, "start": 1}


@pytest.mark.parametrize("names", [{}, {"terminations": "terminals", "truncations": "timeouts"}])
@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".h5", ".NPZ", ".HDF5"])
@pytest.mark.parametrize("size", [None, 3])
def test_files_hold_what_was_written(tmp_path, suffix, names, size):
    given = recorded(size=size)
    arrays = {**flat(given), "truncations": numpy.zeros(61, dtype=bool)}
    arrays = {names.get(key, key): value for key, value in arrays.items()}
    file = (write_npz if suffix.lower() == ".npz" else write_hdf5)(tmp_path / f"file{suffix}", arrays)
    source = trajectories(file)
    check_source(source)
    wanted = episodes_of(given)
    for field in ("observations", "actions", "rewards", "offsets"):
        assert getattr(source.episodes, field).equal(getattr(wanted, field)), field
    assert not source.can_play
    with pytest.raises(UserError, match="data.env=null: there is nothing to act in"):
        source.environment(1)


def test_a_field_under_two_names_is_refused(tmp_path):
    arrays = {**flat(recorded()), "terminals": numpy.zeros(61, dtype=bool)}
    for write, name in ((write_npz, "a.npz"), (write_hdf5, "a.h5")):
        with pytest.raises(UserError, match="has terminals and terminations, which are two names of one field"):
            trajectories(write(tmp_path / name, arrays))


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    objects = numpy.empty(61, dtype=object)
    objects[:] = [Trap()] * 61
    file = tmp_path / "file.npz"
    numpy.savez(file, **{**flat(recorded()), "rewards": objects})
    with pytest.raises(UserError, match="file.npz: rewards holds Python objects, which are never unpickled"):
        trajectories(file)
    file.write_bytes(pickle.dumps(recorded()))
    with pytest.raises(UserError, match="file.npz cannot be read as an .npz file"):
        trajectories(file)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidValue, match="path=.*nothing.npz is not there"):
        trajectories(tmp_path / "nothing.npz")
    (tmp_path / "file.pkl").write_bytes(b"x")
    with pytest.raises(InvalidValue, match=r"does not end in .npz, .hdf5, .h5"):
        trajectories(tmp_path / "file.pkl")
    numpy.save(tmp_path / "file.npy", numpy.zeros(3))
    (tmp_path / "file.npy").rename(tmp_path / "array.npz")
    whole = write_npz(tmp_path / "whole.npz", flat(recorded())).read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole[:300] + b"xyz" + whole[303:])
    with pytest.raises(UserError, match="cannot be read as an .npz file"):
        trajectories(tmp_path / "damaged.npz")
    with pytest.raises(UserError, match="cannot be read as an .npz file"):
        trajectories(tmp_path / "array.npz")
    for suffix in (".npz", ".h5"):
        (tmp_path / f"broken{suffix}").write_bytes(b"PK not really")
        with pytest.raises(UserError, match=f"broken{suffix} cannot be read as an"):
            trajectories(tmp_path / f"broken{suffix}")
    arrays = flat(recorded())
    del arrays["rewards"]
    with pytest.raises(UserError, match="has no rewards; it has actions, observations, terminations"):
        trajectories(write_npz(tmp_path / "some.npz", arrays))
    with pytest.raises(UserError, match="not the folder of a Minari dataset"):
        trajectories(tmp_path)


def test_hdf5_files_that_cannot_be_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    words = numpy.array([b"a"] * 61, dtype=object)
    file = write_hdf5(tmp_path / "words.h5", {**flat(recorded()), "rewards": words})
    with pytest.raises(UserError, match="words.h5: rewards holds object of shape .*, not numbers for each step"):
        trajectories(file)
    file = write_hdf5(tmp_path / "link.h5", flat(recorded()))
    with h5py.File(file, "a") as opened:
        del opened["rewards"]
        opened["rewards"] = h5py.SoftLink("/nowhere")
    with pytest.raises(UserError, match="link.h5 cannot be read as an HDF5 file"):
        trajectories(file)
    file = write_hdf5(tmp_path / "named.h5", {"episode_one/rewards": numpy.zeros(3)})
    with pytest.raises(UserError, match="named.h5 cannot be read as an HDF5 file: .*'one'"):
        trajectories(file)
    with h5py.File(tmp_path / "chunk.h5", "w") as opened:
        for name, array in flat(recorded()).items():
            opened.create_dataset(name, data=array, chunks=True, fletcher32=True)
        place = opened["rewards"].id.get_chunk_info(0).byte_offset
    whole = bytearray((tmp_path / "chunk.h5").read_bytes())
    whole[place] ^= 255
    (tmp_path / "chunk.h5").write_bytes(whole)
    with pytest.raises(UserError, match="chunk.h5 cannot be read as an HDF5 file"):
        trajectories(tmp_path / "chunk.h5")


def test_an_error_in_a_file_names_the_file_the_episode_and_the_field(tmp_path):
    file = write_npz(tmp_path / "file.npz", flat(broken("rewards", numpy.nan)))
    with pytest.raises(UserError, match=rf"{re.escape(str(file))}, episode 2, step 4: rewards is nan"):
        trajectories(file)


def test_a_file_with_a_environment(tmp_path):
    made = rollouts_of(num_episodes=6)
    arrays = {name: getattr(made.episodes, name).numpy() for name in ("observations", "actions", "rewards")}
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    ends[made.episodes.offsets[1:].numpy() - 1] = True
    file = write_npz(tmp_path / "file.npz", {**arrays, "terminations": ends})
    source = trajectories(file, env="CartPole-v1", reference_returns=[20.0, 500.0])
    assert source.can_play and source.reference_returns == (20.0, 500.0) and source.best_return == made.best_return
    assert source.environment(2).max_steps == 1000
    with pytest.raises(InvalidValue, match="env=Acrobot-v1 has observations of 6 numbers; those of the data have 4"):
        trajectories(file, env="Acrobot-v1")
    with pytest.raises(
        InvalidValue, match=r"env=CartPole-v1 has the actions Discrete\(2\); those of the data are 7 classes"
    ):
        trajectories(file, env="CartPole-v1", num_actions=7)
    with pytest.raises(InvalidValue, match="env=CartPool-v1 is not an environment"):
        trajectories(file, env="CartPool-v1")
    with pytest.raises(InvalidValue, match="reference_returns=.* must be two"):
        trajectories(file, reference_returns=[500.0, 20.0])
    with pytest.raises(InvalidValue, match="max_steps=20 is less than"):
        trajectories(file, max_steps=20)


def test_a_local_minari_dataset(tmp_path):
    given = recorded()
    written = [
        {
            "observations": {"b": e["observations"][:, 1:], "a": e["observations"][:, :1]},
            "actions": e["actions"] + 1,
            "rewards": e["rewards"],
        }
        for e in given
    ]
    described = {"type": "Dict", "subspaces": {}}
    scores = {"ref_min_score": 1.0, "ref_max_score": 5.0}
    folder = write_minari(tmp_path / "d", written, described, DISCRETE, **scores)
    source = trajectories(folder)
    check_source(source)
    wanted = episodes_of(given, num_actions=5)
    assert source.episodes.observations.equal(wanted.observations), "parts are in the order of their keys"
    assert source.episodes.actions.equal(wanted.actions) and source.episodes.num_actions == 5
    assert source.reference_returns == (1.0, 5.0)
    assert trajectories(folder / "data").episodes.rewards.equal(wanted.rewards)
    alone = trajectories(folder / "data" / "main_data.hdf5", num_actions=6).episodes
    assert alone.actions.equal(wanted.actions + 1), "without its description"


def test_the_environment_that_a_minari_dataset_names_is_made_at_once(tmp_path):
    spec = json.dumps({"id": "Some-v0", "entry_point": "os:system"})
    folder = write_minari(tmp_path / "d", recorded(), BOX, {**DISCRETE, "start": 0}, env_spec=spec)
    alone = folder / "data" / "main_data.hdf5"
    with pytest.raises(UserError, match=rf"env=Some-v0 is not an env.*{folder} names; to learn .* data.path={alone}"):
        trajectories(folder)
    assert not trajectories(alone).can_play
    with pytest.raises(InvalidValue, match="env=CartPole-v1 has observations of 4 numbers; those of the data have 2"):
        trajectories(folder, env="CartPole-v1")


def test_minari_datasets_that_cannot_be_read(tmp_path):
    place = write_minari(tmp_path / "a", recorded(), BOX, DISCRETE, data_format="arrow")
    with pytest.raises(UserError, match="is kept in the format arrow; mmtx reads Minari's HDF5"):
        trajectories(place)
    place = write_minari(tmp_path / "b", recorded(), {**BOX, "shape": [84, 84, 3]}, DISCRETE)
    with pytest.raises(UserError, match="observations are pictures of shape"):
        trajectories(place)
    place = write_minari(tmp_path / "c", [{"observations": numpy.zeros((2, 2))}], BOX, DISCRETE)
    with pytest.raises(UserError, match="episode 0: actions, rewards is missing"):
        trajectories(place)
    (place / "data" / "metadata.json").write_text(json.dumps({"action_space": "[5]"}))
    with pytest.raises(UserError, match="is not the folder of a Minari dataset: .* describes a space .* as \\[5\\]"):
        trajectories(place)
    (place / "data" / "metadata.json").write_text("[]")
    with pytest.raises(UserError, match="is not the folder of a Minari dataset"):
        trajectories(place)


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_minari_writes_what_we_read(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    given = rollouts_of(num_episodes=4).episodes
    buffers = []
    for first, end in zip(given.offsets.tolist(), given.offsets[1:].tolist(), strict=False):
        rows, nothing = slice(first, end), numpy.zeros(end - first, dtype=bool)
        seen = given.observations[rows].numpy()
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=numpy.concatenate([seen, seen[-1:]]),
                actions=given.actions[rows].numpy(),
                rewards=given.rewards[rows].numpy(),
                terminations=nothing,
                truncations=nothing,
            )
        )
    minari.create_dataset_from_buffers("mine/cartpole-v0", buffers, env=gymnasium.make("CartPole-v1"))
    source = minari_of("mine/cartpole-v0", val_fraction=0.25)
    check_source(source)
    for field in ("observations", "actions", "rewards", "offsets"):
        assert getattr(source.episodes, field).equal(getattr(given, field)), field
    assert source.env == "CartPole-v1" and source.episodes.num_actions == 2
    observation, _ = source.environment(1).reset([data_seed(0, 0)])
    first = source._steps.fetch(torch.tensor([0]), ["state"])["state"]["values"][0]
    assert observation[0]["state"]["values"].equal(first)


# --- downloads and extras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hopper", "../x-v0", "/etc/x-v0", "hf://a/b-v0", "a//b-v0"])
def test_names_that_minari_has_not(name):
    with pytest.raises(InvalidValue, match="is not the name of a Minari dataset"):
        minari_of(name)


def test_without_a_network_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def unreachable(address, seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")

    monkeypatch.setattr(minari_dataset, "open_address", unreachable)
    with pytest.raises(
        UserError, match=r"mujoco/hopper/expert-v0 is not in .*cannot be reached \(no answer within 20 s\)"
    ):
        minari_of("mujoco/hopper/expert-v0")


def test_a_download_that_fails_or_takes_too_long_is_given_up(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(minari_dataset, "open_address", lambda address, seconds: io.BytesIO())
    monkeypatch.setattr(minari_dataset, "MOST_SECONDS", 0.05)

    def fails(name):
        raise ValueError("no such dataset")

    monkeypatch.setattr(minari, "download_dataset", fails)
    with pytest.raises(
        UserError, match="a/b-v0 could not be downloaded to .*: no such dataset. With the dataset at hand"
    ):
        minari_of("a/b-v0")
    monkeypatch.setattr(minari, "download_dataset", lambda name: time.sleep(2))
    with pytest.raises(UserError, match=r"no answer within 0.05 s"):
        minari_of("a/b-v0")
    written = recorded()
    monkeypatch.setattr(minari, "download_dataset", lambda name: write_minari(tmp_path / name, written, BOX, DISCRETE))
    monkeypatch.setattr(minari_dataset, "MOST_SECONDS", 20.0)
    for episode in written:
        episode["actions"] += 1
    assert len(minari_of("a/b-v0", val_fraction=0.0).episodes) == 5
    monkeypatch.setattr(minari, "download_dataset", fails)
    assert len(minari_of("a/b-v0", val_fraction=0.0).episodes) == 5, "it is there now"


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("gymnasium", lambda folder: rollouts_of()),
        ("h5py", lambda folder: trajectories(folder / "file.h5")),
        ("minari", lambda folder: minari_of("a/b-v0")),
    ],
)
def test_packages_that_are_not_installed(tmp_path, monkeypatch, package, make):
    (tmp_path / "file.h5").write_bytes(b"")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    imported = builtins.__import__

    def without(name, *arguments, **more):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"not installed.*pip install 'mmtx\[rl\]'"):
        make(tmp_path)


def test_key_to_door_and_npz_files_need_no_extra(tmp_path, monkeypatch):
    file = write_npz(tmp_path / "file.npz", flat(recorded()))
    for package in ("gymnasium", "h5py", "minari"):
        monkeypatch.setitem(sys.modules, package, None)
    assert len(trajectories(file).train()) > 0
    environment = key_to_door().environment(2)
    environment.reset([0, 1])
    assert environment.step(torch.tensor([0, 1])).success.tolist() == [False, False]


def test_copies_of_an_environment_are_checked_against_the_data():
    source = rollouts_of(
        "MountainCarContinuous-v0", policies={"random": 1.0}, num_episodes=2, max_steps=20, val_fraction=0.0
    )
    source.episodes = replace(source.episodes, actions=torch.zeros(len(source.episodes.actions), 3))
    with pytest.raises(InvalidValue, match=r"those of the data are 3 numbers"):
        GymEnvironment(source, "MountainCarContinuous-v0", 1)
