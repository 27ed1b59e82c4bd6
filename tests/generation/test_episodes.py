"""Runs that act, on the real command line: what a test leaves, what evaluating gives, and what generating plays."""

import json
import math
import statistics

import pytest
from PIL import Image
from run_cli import TINY, mmtx, text_of
from small_data import small_trajectories

from mmtx.commands.main import main
from mmtx.data.episodes.gym_environment import GymEnvironment

ACTS = ["modality=[return,state,action]", "objective=[action]", "backbone/positions=none", *TINY[:3]]
FEW = ["objective.action.val_episodes=2", "objective.action.test_episodes=3", "trainer.max_steps=3"]
CARTPOLE = ["data=rollouts", "data.num_episodes=12", "data.max_steps=60", "objective.action.target_returns=[30,10]"]

MIXED = """
# @package _global_
defaults:
  - /data@data.parts.pole: rollouts
  - /data@data.parts.door: key_to_door
  - /data@data.parts.digits: digits
  - override /data: mixture
  - override /data/augment@data.parts.digits.augment: none
  - override /modality: [image, return, state, action]
  - override /backbone/positions: none
  - override /objective: [classify, action]
name: mixed
data:
  names: {door: {state: seen, action: move}}
  parts: {pole: {num_episodes: 12, max_steps: 60}, door: {size: 4, num_episodes: 40}}
modality:
  image: {patch_size: 4}
  seen: &series {_target_: mmtx.modalities.Series, clock: step, squash: false}
  move: *series
objective:
  move:
    _target_: mmtx.objectives.Action
    weight: 1.0
    action: move
    read: seen
    squash: false
    dropout: 0.0
    val_episodes: 2
    test_episodes: 3
    target_returns: null
    temperature: 0.0
"""
"""Two environments with names of their own, and data without any."""


def trained(folder, *overrides, acts=ACTS):
    """A run, and what keeps its data in a folder of its own."""
    env = {"XDG_CACHE_HOME": str(folder / "cache")}
    done = mmtx("train", *acts, *FEW, *overrides, "run_dir=run", cwd=folder, env=env)
    assert done.returncode == 0, text_of(done)
    return folder, env


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pole"), *CARTPOLE)


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("door"), "data=key_to_door", "data.size=4", "data.num_episodes=40")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mixed.yaml").write_text(MIXED.strip() + "\n")
    return trained(folder, acts=["experiment=mixed", *TINY[:3]])


def generated(run, *options):
    """What the command prints, in a process of its own."""
    folder, env = run
    done = mmtx("generate", "run", *options, cwd=folder, env=env)
    assert done.returncode == 0, text_of(done)
    return parsed(done.stdout)


def parsed(printed):
    """The episodes, and what sums them up."""
    *episodes, last = [json.loads(line, parse_constant=pytest.fail) for line in printed.splitlines()]
    return episodes, last["summary"]


@pytest.fixture
def generate(monkeypatch, capsys):
    """The command in this process: its exit code, and what it prints."""

    def generate(run, *options):
        folder, env = run
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", env["XDG_CACHE_HOME"])
        code = main(["generate", "run", *options])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return generate


def test_a_run_leaves_episodes_of_its_test(pole, door):
    samples = pole[0] / "run" / "samples"
    assert {file.name for file in samples.iterdir()} == {
        "action_step000003.jsonl",
        "action_step000003.png",
        "target_return_step000003.png",
        "episode_step000003.gif",
        "episode_step000003.png",
        "episodes.jsonl",
        "attention_shares_step000003.png",
    }
    assert not (door[0] / "run" / "samples" / "target_return_step000003.png").exists(), "there was one target return"
    episodes = [json.loads(line) for line in (samples / "episodes.jsonl").read_text().splitlines()]
    assert [episode["target_return"] for episode in episodes] == [30.0] * 3 + [10.0] * 3
    metrics = json.loads((pole[0] / "run" / "metrics.json").read_text())
    assert metrics["test/return"] == statistics.fmean(episode["return"] for episode in episodes[:3])
    assert metrics["test/return_asked_10"] == statistics.fmean(episode["return"] for episode in episodes[3:])
    with Image.open(samples / "episode_step000003.gif") as film:
        assert 1 < film.n_frames <= max(episode["length"] for episode in episodes[:2]) + 1, "equal frames become one"


@pytest.mark.parametrize("name", ["pole", "door"])
def test_evaluating_gives_the_metrics_of_the_run(name, request):
    folder, env = request.getfixturevalue(name)
    known = json.loads((folder / "run" / "metrics.json").read_text())
    done = mmtx("evaluate", "run", cwd=folder, env=env)
    assert done.returncode == 0, text_of(done)
    found = json.loads(done.stdout)
    assert {"test/return", "test/return_sd", "test/return_normalised", "test/episode_length", "test/episodes"} <= {
        *found
    }
    assert found == {key: value for key, value in known.items() if key.startswith("test/")}


def test_generating_plays_the_target_returns_of_the_objective(pole):
    episodes, summary = generated(pole, "episodes=3", "seed=1500000000")
    kept = (pole[0] / "run" / "samples" / "episodes.jsonl").read_text().splitlines()
    assert episodes == [json.loads(line) for line in kept], "the episodes of the test, by their seeds"
    assert [part["target_return"] for part in summary] == [30.0, 10.0]
    for part, some in zip(summary, (episodes[:3], episodes[3:]), strict=True):
        returns = [episode["return"] for episode in some]
        assert (part["episodes"], part["return"]) == (3, statistics.fmean(returns))
        assert part["return_sd"] == pytest.approx(statistics.stdev(returns))


def test_the_same_seed_gives_the_same_episodes_with_and_without_the_cache(pole, generate):
    options = ["target_return=[20,1e1]", "episodes=2", "seed=5"]
    code, printed = generate(pole, *options)
    assert code == 0 and generate(pole, *options, "cache=false") == (0, printed)
    first, _ = parsed(printed)
    assert [(e["seed"], e["target_return"]) for e in first] == [(5, 20.0), (6, 20.0), (5, 10.0), (6, 10.0)]
    (alone,), summary = parsed(generate(pole, "target_return=20", "episodes=1", "seed=6", "out=film.gif")[1])
    assert alone == first[1]
    assert summary[0]["return_sd"] is None
    with Image.open(pole[0] / "film.gif") as film:
        assert 1 < film.n_frames <= alone["length"] + 1


def test_a_environment_that_reports_success(door):
    episodes, (summary,) = generated(door)
    assert len(episodes) == 10 and {episode["target_return"] for episode in episodes} == {1.0}
    assert summary["success_rate"] == statistics.fmean(episode["success"] for episode in episodes)
    assert math.isfinite(summary["success_rate_sd"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("target_return=much", "target_return=much is not a number or a list of numbers or null"),
        ("target_return=[]", "target_return=[] must be a number"),
        ("target_return=nan", "target_return=NaN is not a number"),
        ("target_return=1e39", "target_return=1e+39 must be a number that float32 holds"),
        ("episodes=0", "episodes=0 must lie in 1"),
        ("seed=-1", "seed=-1"),
        ("seed=2147483640", "must lie in 0.."),
        ("out=film.mp4", "out=film.mp4 must end in .gif"),
        ("out=nowhere/film.gif", "is not there"),
        ("prompt=hello", "prompt=hello is no option of run, which takes part, episodes, target_return, temperature"),
        ("episode=3", "did you mean 'episodes'?"),
    ],
)
def test_what_cannot_be_is_refused(option, message, pole, generate):
    code, printed = generate(pole, option)
    assert code == 2 and message in printed


def test_a_film_needs_an_environment_that_draws(pole, generate, monkeypatch):
    monkeypatch.setattr(GymEnvironment, "frame", lambda self, index: None)
    code, message = generate(pole, "out=film2.gif")
    assert code == 2 and "out=film2.gif" in message and "draws no pictures" in message


def test_without_return_in_the_set_there_is_no_target(tmp_path, generate):
    cloned = trained(tmp_path, "data=key_to_door", "data.size=4", "data.num_episodes=40", "modality=[state,action]")
    episodes, (summary,) = parsed(generate(cloned, "episodes=2")[1])
    assert [each["target_return"] for each in (*episodes, summary)] == [None] * 3
    code, message = generate(cloned, "target_return=1")
    assert code == 2 and "target_return=1.0 cannot be a target" in message


def test_data_without_an_environment_gives_nothing_to_act_in(tmp_path, generate):
    file = small_trajectories(tmp_path / "steps.npz")
    recorded = trained(tmp_path, "data=trajectories", f"data.path={file}", "data.val_fraction=0.25")
    code, message = generate(recorded)
    assert code == 2 and "has nothing to act in: its data names no environment" in message
    assert not (tmp_path / "run" / "samples" / "episodes.jsonl").exists()


@pytest.mark.parametrize("part", ["pole", "door"])
def test_a_mixture_acts_in_the_part_that_is_given(part, mixed, generate):
    code, printed = generate(mixed, f"part={part}", "episodes=3", "seed=1500000000")
    assert code == 0, printed
    episodes, (summary,) = parsed(printed)
    known = json.loads((mixed[0] / "run" / "metrics.json").read_text())
    assert summary["return"] == statistics.fmean(episode["return"] for episode in episodes)
    assert summary["return"] == known[f"test/{part}/return"], "the episodes of the test, by their seeds"
    assert summary["episode_length"] == known[f"test/{part}/episode_length"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "can act in several parts of its data: give part=pole or part=door"),
        (["part=digits"], "part=digits is no part of the data that can be acted in; nearest: one of pole, door"),
        (["part="], "part= is no part of the data that can be acted in"),
        (["part=door", "prompt=hello"], "prompt=hello is no option of run, which takes part"),
    ],
    ids=["none", "other", "empty", "prompt"],
)
def test_the_part_of_a_mixture_has_to_be_given(options, message, mixed, generate):
    code, printed = generate(mixed, *options)
    assert code == 2 and message in printed, printed


def test_data_without_parts_has_none_to_choose(pole, generate):
    code, message = generate(pole, "part=pole")
    assert code == 2 and "part=pole is no part of the data that can be acted in" in message
