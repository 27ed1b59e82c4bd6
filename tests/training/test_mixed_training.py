"""A mixture is trained, saved, loaded, evaluated and acted in, and cut as one likes."""

import json

import pytest
import torch
from run_cli import mmtx, text_of
from small_data import small_trajectories

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble
from mmtx.run.checkpoint_content import load
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare

RECIPE = """
# @package _global_
defaults:
  - /data@data.parts.prose: text_file
  - /data@data.parts.digits: digits
  - /data@data.parts.steps: trajectories
  - override /data: mixture
  - override /data/augment@data.parts.digits.augment: none
  - override /modality: [text, image, state, action]
  - override /objective: [next_token, classify, action]
loader: {batch_size: 8}
data:
  names: {digits: {text: name}}
  weights: {prose: 1, digits: 2, steps: 1}
  parts: {prose: {path: text.txt, context: 16}, steps: {path: steps.npz, val_fraction: 0.25}}
modality: {image: {patch_size: 4}}
backbone: {dim: 24, num_layers: 1, num_heads: 2}
optim: {warmup_steps: 0}
trainer: {max_steps: 3, max_epochs: null, accelerator: cpu}
log_every_steps: 1
callbacks: {progress: null, samples: {num_samples: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a text, trajectories and the recipe `mixed`."""
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "text.txt").write_text("To be, or not to be, that is the question.\n" * 50)
    small_trajectories(folder / "steps.npz")
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mixed.yaml").write_text(RECIPE.strip() + "\n")
    return folder


@pytest.fixture
def mixed(folder, monkeypatch):
    """The config of `mixed` with more overrides."""
    monkeypatch.chdir(folder)
    return lambda *words: compose(["experiment=mixed", "logger=[]", *words])


def result_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    compared = ("train/loss", "train/tokens/", "train/grad_norm")
    keys = {key for step in steps for key in step if key.startswith(compared) or key.endswith("/loss")}
    return {key: [step.get(key, 0.0) for step in steps] for key in sorted(keys)}, weights


def assert_equal_runs(one, other):
    for key, values in one[0].items():
        assert other[0][key] == pytest.approx(values, rel=1e-5), key
    for key, value in one[1].items():
        torch.testing.assert_close(other[1][key], value, rtol=1e-4, atol=1e-4)


def train_here(config, folder):
    experiment, run = assemble(config), RunDirectory(folder)
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    return result_of(run.path)


@pytest.fixture(scope="module")
def trained(folder):
    """A run by the command line, with its samples."""
    done = mmtx("train", "experiment=mixed", "logger=[]", "run_dir=run", cwd=folder)
    assert done.returncode == 0, text_of(done)
    return folder / "run"


def test_every_part_is_trained_evaluated_and_shown(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"val/prose/perplexity", "val/digits/accuracy", "val/steps/loss", "val/loss", "test/digits/accuracy"} <= set(
        metrics
    )
    assert metrics["val/loss"] == pytest.approx(sum(metrics[f"val/{p}/loss"] for p in ("prose", "digits", "steps")))
    assert {"train/next_token/loss", "train/classify/loss", "train/action/loss"} <= set(metrics)
    assert None not in metrics.values()
    found = {path.name.partition("_step")[0] for path in (trained / "samples").glob("*.jsonl")}
    assert found == {"prose_next_token", "digits_classify", "steps_action"}


def test_training_logs_each_part(trained):
    """Here each part has an objective of its own, so that its loss is the part's."""
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    of = {"prose": "next_token", "digits": "classify", "steps": "action"}
    for step in (line for line in lines if "train/loss" in line):
        losses = {part: step[f"train/{part}/loss"] for part in of if f"train/{part}/loss" in step}
        assert losses == {part: step[f"train/{of[part]}/loss"] for part in losses}
        assert step["train/loss"] == pytest.approx(sum(losses.values()))
        assert step["train/tokens/image"] == 0 or step["train/digits/accuracy"] == step["train/classify/accuracy"]


def test_what_was_saved_gives_the_same_evaluation(trained):
    done = mmtx("evaluate", "run", cwd=trained.parent)
    assert done.returncode == 0, text_of(done)
    metrics, found = json.loads((trained / "metrics.json").read_text()), json.loads(done.stdout)
    assert "val/digits/accuracy" in found or "test/digits/accuracy" in found
    assert all(metrics[key] == pytest.approx(value, rel=1e-5) for key, value in found.items())
    assert load(trained).model.names == ["text", "image", "state", "action"]


@pytest.mark.parametrize(
    "words",
    [
        ["loader.batch_size=2", "trainer.accumulate_grad_batches=4"],
        ["loader.batch_size=4", "trainer.devices=2"],
        ["loader.batch_size=1", "trainer.devices=2", "trainer.accumulate_grad_batches=4"],
    ],
    ids=["accumulated", "two-ranks", "two-ranks-accumulated"],
)
def test_ranks_and_accumulation_change_nothing(words, trained, tmp_path):
    place = tmp_path / "run"
    words = ["experiment=mixed", "logger=[]", "callbacks=[]", f"run_dir={place}", *words]
    done = mmtx("train", *words, cwd=trained.parent, timeout=300)
    assert done.returncode == 0, text_of(done)
    assert_equal_runs(result_of(trained), result_of(place))


def test_a_step_without_a_part_has_no_nan_and_leaves_it_out(mixed, tmp_path):
    """One sample a step: each has one objective."""
    config = mixed("loader.batch_size=1", "trainer.max_steps=6", "callbacks=[]")
    train_here(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    seen = [[name for name in ("next_token", "action", "classify") if f"train/{name}/loss" in step] for step in steps]
    assert len(steps) == 6 and all(len(keys) == 1 for keys in seen) and len({key for (key,) in seen}) > 1
    assert all(value is not None for step in steps for value in step.values())


APART = "objective=[next_token,classify,action,ctc]"


@pytest.mark.parametrize(
    "words, message",
    [
        (["objective=[classify,next_token]"], "data.parts.steps gives objective=[classify,next_token] nothing"),
        (["modality=[text,image]", "objective=[next_token,classify]"], "data.parts.steps offers none of modality="),
        (["data.weights.prose=-1"], "data.weights.prose=-1 must be"),
        (["data.weights={prose: 0, digits: 0, steps: 0}"], "are all 0"),
        (["data.parts.prose.context=0"], "data.parts.prose.context=0 must be at least 1"),
        (["data.parts.prose.contxt=3"], "unknown key data.parts.prose.contxt=3; did you mean 'context'"),
        (["data.names.digits.text=text"], "prose and digits both offer 'text'"),
        ([APART, "objective.ctc.source=text", "objective.ctc.text=name"], "ctc needs name, text, which no part"),
        (["trainer.strategy=fsdp2", "trainer.devices=2"], "trainer.strategy=fsdp2 needs as many batches"),
    ],
    ids=["objective", "set", "negative", "zero", "nested", "unknown", "clash", "apart", "fsdp2"],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(words, message, mixed):
    with pytest.raises(ConfigErrors) as raised:
        assemble(mixed(*words))
    assert message in str(raised.value)
