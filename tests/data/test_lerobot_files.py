"""Steps in Parquet files as LeRobot lays them out, and PushT, whose demonstrations come so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import yaml

import mmtx
from mmtx.commands.main import main
from mmtx.data.episodes import gym_environment
from mmtx.data.episodes.lerobot_files import read_lerobot
from mmtx.data.episodes.trajectories import Trajectories
from mmtx.errors import InvalidValue, UserError

arrow = pytest.importorskip("pyarrow", reason="needs mmtx[data]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs mmtx[data]")

CONF = next(p for p in Path(mmtx.__file__).parents if (p / "conf" / "data").is_dir()) / "conf" / "data"
FIXED = arrow.list_(arrow.float32(), 2)


def columns(lengths: tuple[int, ...] = (3, 1, 4), seed: int = 0) -> dict[str, Any]:
    """Steps of episodes end to end, with columns that nothing reads."""
    drawn, count = numpy.random.default_rng(seed), sum(lengths)
    return {
        "observation.state": drawn.normal(size=(count, 2)).astype(numpy.float32).tolist(),
        "observation.environment_state": drawn.normal(size=(count, 3)).astype(numpy.float32).tolist(),
        "action": drawn.normal(size=(count, 2)).astype(numpy.float32).tolist(),
        "episode_index": [i for i, length in enumerate(lengths) for _ in range(length)],
        "frame_index": [frame for length in lengths for frame in range(length)],
        "next.reward": drawn.normal(size=count).tolist(),
        "timestamp": drawn.normal(size=count).tolist(),
    }


def write(path: Path, given: dict[str, Any], **types: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        arrow.table({k: arrow.array(v, types.get(k.replace(".", "_"))) for k, v in given.items()}), path
    )
    return path


def trajectories(path: Path, **changes: Any) -> Trajectories:
    given = yaml.safe_load((CONF / "trajectories.yaml").read_text())
    own = {key: value for key, value in given.items() if key != "_target_"}
    return Trajectories(**{**own, "val_fraction": 0.34, **changes, "path": str(path)})


def rows_of(given: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    return {name: [values[i] for i in rows] for name, values in given.items()}


@pytest.mark.parametrize("fixed", [False, True], ids=["lists", "lists of a size"])
def test_episodes_are_cut_and_ordered_by_their_columns(tmp_path: Path, fixed: bool) -> None:
    """In whatever order the rows are."""
    given, shuffled = columns(), [7, 0, 5, 3, 2, 6, 4, 1]
    types = {"action": FIXED, "observation_state": FIXED} if fixed else {}
    found = trajectories(write(tmp_path / "steps.parquet", rows_of(given, shuffled), **types)).episodes
    assert found.offsets.tolist() == [0, 3, 4, 8]
    torch.testing.assert_close(found.observations, torch.tensor(given["observation.state"]))
    torch.testing.assert_close(found.actions, torch.tensor(given["action"]))
    torch.testing.assert_close(found.rewards, torch.tensor(given["next.reward"], dtype=torch.double))


def test_a_dataset_is_a_folder_of_files(tmp_path: Path) -> None:
    """The observation may be several columns, in the order that is asked for; without rewards these are 0."""
    given = columns()
    del given["next.reward"]
    for number, rows in enumerate(([0, 1, 2, 3], [4, 5, 6, 7])):
        write(tmp_path / "data" / f"chunk-00{number}" / "episode.parquet", rows_of(given, rows))
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"codebase_version": "v2.1"}))
    names = ["observation.environment_state", "observation.state"]
    found = trajectories(tmp_path, observations=names).episodes
    expected = torch.cat([torch.tensor(given[name]) for name in names], dim=1)
    torch.testing.assert_close(found.observations, expected)
    assert found.offsets.tolist() == [0, 3, 4, 8] and not found.rewards.any()


@pytest.mark.parametrize(
    ("key", "values", "problem"),
    [
        ("frame_index", [0, 1, 3, 0, 0, 1, 2, 3], "episode 0: frame_index is 3, where 2 follows"),
        ("action", [[0.0]] * 7 + [[0.0, 1.0]], "action has steps of unequal sizes"),
        ("action", [None] + [[0.0]] * 7, "action lacks 1 values"),
        ("action", [[None, 1.0]] + [[0.0, 1.0]] * 7, "action lacks 1 values"),
        ("action", ["left"] * 8, "actions holds .*, not numbers"),
        ("episode_index", None, "has no episode_index; it has observation.state"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, key: str, values: Any, problem: str) -> None:
    given = {name: column for name, column in {**columns(), key: values}.items() if column is not None}
    with pytest.raises(UserError, match=problem):
        trajectories(write(tmp_path / "steps.parquet", given))


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    given = columns()
    file = write(tmp_path / "data" / "a.parquet", rows_of(given, [0, 1, 2]))
    del given["next.reward"]
    write(tmp_path / "data" / "b.parquet", rows_of(given, [3]))
    with pytest.raises(UserError, match=r"a.parquet has next.reward, and .*b.parquet has not"):
        read_lerobot(tmp_path, None)
    with pytest.raises(InvalidValue, match="observations=.* must name one or several columns, each once"):
        read_lerobot(file, [])
    with pytest.raises(InvalidValue, match="is not there"):
        trajectories(tmp_path / "nothing.parquet")
    with pytest.raises(UserError, match=r"empty.parquet has no steps"):
        trajectories(write(tmp_path / "empty.parquet", rows_of(given, [])))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"broken.parquet cannot be read"):
        trajectories(tmp_path / "broken.parquet")
    (tmp_path / "steps.npz").write_bytes(b"")
    with pytest.raises(InvalidValue, match="observations=.* names columns of Parquet files"):
        trajectories(tmp_path / "steps.npz", observations=["observation.state"])
    with pytest.raises(InvalidValue, match="env_options=.* are of an environment, and there is none"):
        trajectories(file, env_options={"obs_type": "state"})


def test_options_of_an_environment_are_its_own() -> None:
    pytest.importorskip("gymnasium", reason="needs mmtx[rl]")
    made = gym_environment.make_env("FrozenLake-v1", {"map_name": "8x8"})
    assert made.observation_space.n == 64
    with pytest.raises(InvalidValue, match="env=FrozenLake-v1 cannot be made"):
        gym_environment.make_env("FrozenLake-v1", {"nothing": 1})


def test_an_environment_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium", reason="needs mmtx[rl]")
    monkeypatch.setitem(gym_environment.PACKAGES, "no_such_package", "pip install 'mmtx[pusht]'")
    with pytest.raises(UserError, match=r"environments of no_such_package need its package .*: pip install 'mmtx"):
        gym_environment.check_env("no_such_package/Thing-v0")


@pytest.mark.parametrize("keypoints", [False, True], ids=["state", "keypoints"])
def test_pusht(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, keypoints: bool) -> None:
    """A flow learns from episodes that were recorded in the environment, whose goal none reached, and acts in it."""
    pytest.importorskip("gym_pusht", reason="needs mmtx[pusht]")
    options = {"obs_type": "environment_state_agent_pos"} if keypoints else {}
    env, drawn = gym_environment.make_env("gym_pusht/PushT-v0", options), numpy.random.default_rng(0)
    given: dict[str, Any] = {key: [] for key in ("episode_index", "frame_index", "action", "next.reward")}
    given |= {"observation.state": []} | ({"observation.environment_state": []} if keypoints else {})
    for episode in range(4):
        seen, _ = env.reset(seed=episode)
        for frame in range(5):
            action = drawn.uniform(0, 512, size=2).astype(numpy.float32)
            given["observation.state"].append((seen["agent_pos"] if keypoints else seen).tolist())
            if keypoints:
                given["observation.environment_state"].append(seen["environment_state"].tolist())
            seen, reward, *_ = env.step(action)
            step = {"episode_index": episode, "frame_index": frame, "action": action.tolist(), "next.reward": reward}
            for key, value in step.items():
                given[key].append(value)
    env.close()
    write(tmp_path / "pusht.parquet", given)
    monkeypatch.chdir(tmp_path)
    made = [f"data.env_options={{obs_type: {options['obs_type']}}}"] if keypoints else []
    made += ["data.observations=[observation.state,observation.environment_state]"] if keypoints else []
    small = ["backbone.dim=16", "backbone.num_layers=1", "backbone.num_heads=2", "logger=[]", "callbacks=[]"]
    small += ["trainer.max_steps=2", "trainer.max_epochs=null", "trainer.val_every_steps=2", "data.max_steps=6"]
    small += ["objective.act_by_flow.val_episodes=1", "objective.act_by_flow.num_steps=1", "data.val_fraction=0.25"]
    words = ["data=trajectories", "data.path=pusht.parquet", "data.env=gym_pusht/PushT-v0", "data.context=1"]
    words += ["modality=[state,action]", "objective=[act_by_flow]"]
    assert main(["train", *words, *made, *small, "run_dir=run"]) == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    (success,) = {value for row in rows for key, value in row.items() if key == "val/success_rate"}
    assert success == 0
    capsys.readouterr()
    assert main(["generate", "run", "episodes=1", "out=episode.gif"]) == 0
    assert Path("episode.gif").stat().st_size > 1000
