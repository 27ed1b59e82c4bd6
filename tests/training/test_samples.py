"""What is shown of acting, and of a set with a picture in every step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from builders import action, image, model, pictures_spec, series_spec, steps_batch
from matplotlib import image as pictures
from matplotlib.figure import Figure
from toy_environment import Toy, made_learner

from mmtx.acting.policy_eval import play
from mmtx.environment import FIRST_SEED
from mmtx.objectives.shown import show_examples
from mmtx.run.wandb.log import WandbLog
from mmtx.training.samples.episodes import show_episodes


class Known(Toy):
    mean_return = 1.5  # type: ignore[assignment]


def test_all_episodes_are_written_and_the_filmed_ones_shown(tmp_path: Path) -> None:
    source = Known()
    played = play(made_learner(target_returns=[4.0, 0.0]), source, "test", num_filmed=2)
    shown = show_episodes(tmp_path / "samples", 30, source, played)
    assert {name: file.name for name, file in shown.items()} == {
        "film": "episode_step000030.gif",
        "episode": "episode_step000030.png",
        "target_return": "target_return_step000030.png",
    }
    assert all(file.stat().st_size for file in shown.values())
    lines = [json.loads(line) for line in (tmp_path / "samples" / "episodes.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [*range(FIRST_SEED["test"], FIRST_SEED["test"] + 7)] * 2
    flat = [episode for some in played for episode in some]
    assert [(line["target_return"], line["return"], line["length"], line["success"]) for line in lines] == [
        (episode.target_return, episode.earned, episode.length, episode.success) for episode in flat
    ]


def test_what_is_not_there_is_not_shown(tmp_path: Path) -> None:
    """Neither frames nor several returns."""
    played = play(made_learner(target_returns=[4.0]), Toy(), "test")
    assert show_episodes(tmp_path, 30, Toy(), played) == {}
    assert [file.name for file in tmp_path.iterdir()] == ["episodes.jsonl"]


def test_target_returns_against_achieved_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points at the means, the diagonal through the target returns, mean and best of the data."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    played = play(made_learner(target_returns=[4.0, 0.0, 2.0]), Known(), "test")
    show_episodes(tmp_path, 30, Known(), played)
    (axes,) = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["target"] == [[0, 0], [4, 4]]
    assert [point[1] for point in lines["mean return of the data, 1.5"]] == [1.5, 1.5]
    assert [point[1] for point in lines["best return of the data, 6"]] == [6.0, 6.0]
    (container,) = axes.containers
    means = [[some[0].target_return, sum(e.earned for e in some) / 7] for some in played]
    assert container.lines[0].get_xydata() == pytest.approx(numpy.array(means))
    assert container.get_label() == "achieved, mean and sd of 7"


def test_of_a_picture_in_every_step_the_last_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {"view": pictures_spec(), "action": series_spec(num_classes=4)}
    whole = model({"view": image(specs["view"], clock="step")})
    objective = action(whole, specs, read="view")
    batch = steps_batch(specs, [2, 5])
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    shown = show_examples(whole.eval(), batch, objective.eval().examples(whole, batch), tmp_path / "a")
    assert shown == [tmp_path / "a.jsonl", tmp_path / "a.png"]
    drawn = [torch.as_tensor(axes.images[0].get_array().data) for axes in figures[0].axes]
    for index, last in enumerate((1, 4)):
        assert drawn[index].equal(batch["view"]["pixels"][index, last, 0])


def test_wandb_is_given_pictures_and_films(tmp_path: Path) -> None:
    import wandb

    class Run:
        shown: dict[str, object] = {}

        def log(self, shown: dict[str, object]) -> None:
            self.shown |= shown

    played = play(made_learner(target_returns=[4.0, 0.0]), Toy(), "test", num_filmed=1)
    shown = show_episodes(tmp_path / "samples", 3, Toy(), played)
    assert pictures.imread(shown["target_return"]).ndim == 3
    log = WandbLog(run_dir=tmp_path, config={}, project="mmtx", entity=None, tags=[], mode="offline", checkpoints=[])
    log._run = run = Run()
    log.log_samples(shown.values())
    assert not log._broken and run.shown.pop("step") == 3
    kinds = {name: type(value) for name, value in run.shown.items()}
    images = {"samples/episode": wandb.Image, "samples/target_return": wandb.Image}
    assert kinds == {"samples/episode_film": wandb.Video, **images}
