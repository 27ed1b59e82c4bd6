"""Every subset of text, picture, sound and trajectory: composed, built, trained, saved, loaded, evaluated."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from four_names import NAMES, OVERRIDES
from run_cli import TINY, mmtx, text_of

from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.config.schema import Config
from mmtx.data.loaders import DataModule
from mmtx.data.sampler import Draw
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.evaluate import evaluate_learner
from mmtx.experiment import Experiment, assemble
from mmtx.run.checkpoint_content import contents, load
from mmtx.run.checkpoint_file import write_checkpoint
from mmtx.run.subset import load_set, take

SUBSETS = [
    pytest.param(list(chosen), marks=[pytest.mark.slow] * (size == 3), id="+".join(chosen))
    for size in range(1, 5)
    for chosen in combinations(NAMES, size)
]
NEEDS = {"next_token": "text", "seq2seq": "text", "ctc": "audio", "action": "state"}
"""``{objective: name}`` without which it makes no sense."""


def config_of(names: list[str], objectives: list[str], *overrides: str, num_samples: int = 30) -> Config:
    config = compose(
        [
            "data=digits",
            *TINY[:3],
            f"modality=[{','.join(names)}]",
            f"objective=[{','.join(objectives)}]",
            *(text for text in OVERRIDES if text.split(".")[1] in names),
            *overrides,
        ]
    )
    loader = {**config["loader"], "batch_size": 8, "eval_batch_size": 8}
    data = {"_target_": "four_names.FourNames", "num_samples": num_samples}
    return {**config, "data": data, "loader": loader, "plugins": ["four_names"]}


def saved(experiment: Experiment, folder: Path) -> Path:
    weights = {f"learner.{key}": value for key, value in experiment.learner.state_dict().items()}
    write_checkpoint(folder / "last.ckpt", {"mmtx": contents(experiment), "state_dict": weights})
    return folder / "last.ckpt"


def train_a_step(experiment: Experiment) -> None:
    learner = experiment.learner
    optimizer = experiment.optimisation.optimizer(learner)
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    scores = learner.train()(batches[0])
    torch.stack([score.loss_sum / score.count for score in scores.values()]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())
    optimizer.step()


@pytest.mark.parametrize("names", SUBSETS)
def test_every_subset_is_trained_saved_loaded_and_evaluated(names: list[str], tmp_path: Path) -> None:
    """With every objective that makes sense for it; half of them packed."""
    objectives = ["classify", *(objective for objective, name in NEEDS.items() if name in names)]
    ordered = [name for name in ("image", "state", "audio", "text") if name in names]  # a sound is not told its text
    packing = f"loader.packing={str(len(names) % 2 == 0).lower()}"
    experiment = assemble(config_of(ordered, objectives, packing))
    train_a_step(experiment)
    metrics = evaluate_learner(experiment.learner.eval(), experiment.data, "val")
    assert metrics is not None
    assert all(f"val/{objective}/loss" in metrics for objective in objectives) or len(objectives) == 1
    assert all(torch.tensor(value).isfinite() for value in metrics.values()), metrics
    loaded = load(saved(experiment, tmp_path), ["four_names"])
    assert evaluate_learner(loaded, experiment.data, "val") == pytest.approx(metrics, rel=1e-5)


@pytest.mark.parametrize(("objective", "name"), NEEDS.items(), ids=str)
def test_what_makes_no_sense_is_refused_with_the_reason(objective: str, name: str) -> None:
    others = [other for other in NAMES if other != name]
    with pytest.raises(ConfigErrors, match=rf"objective\.{objective}: \w+={name} names no modality of the set"):
        assemble(config_of(others, [objective]))


@pytest.fixture(scope="module")
def of_three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    experiment = assemble(config_of(["image", "audio", "text"], ["classify"]))
    train_a_step(experiment)
    return experiment, saved(experiment, tmp_path_factory.mktemp("three"))


@pytest.mark.parametrize(
    ("names", "order", "fresh"),
    [
        (["text", "image"], ["image", "text"], []),
        (["state", "text", "image", "audio"], ["image", "audio", "text", "state"], ["state"]),
    ],
    ids=["two of them", "one more"],
)
def test_a_checkpoint_of_three_names_is_loaded_for(
    of_three: tuple[Experiment, Path], names: list[str], order: list[str], fresh: list[str]
) -> None:
    experiment, file = of_three
    learner, found = load_set(file, names, experiment.data.source.specs, ["four_names"])
    assert learner.model.names == order
    assert found == fresh
    trained = experiment.learner.state_dict()
    for key, value in learner.state_dict().items():
        assert value.equal(trained[key]) if key in trained else ".state" in key or ".step." in key, key
    loader = {"batch_size": 8, "eval_batch_size": None, "num_workers": 0, "packing": False}
    loader |= {"on_bad_sample": "raise", "max_bad_share": 0.0}
    data = DataModule(source=experiment.data.source, names=list(learner.specs), seed=0, **loader)
    metrics = evaluate_learner(learner, data, "val")
    assert metrics is not None
    assert torch.tensor(metrics["val/loss"]).isfinite()


def test_what_all_names_share_must_fit(of_three: tuple[Experiment, Path]) -> None:
    learner = of_three[0].learner
    weights = learner.state_dict()
    del weights["model.backbone.final_norm.weight"]
    with pytest.raises(UserError, match=r"does not fit this set: model\.backbone\.final_norm\.weight"):
        take(learner, weights)


def test_a_set_without_what_is_predicted_is_refused(of_three: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment = assemble(config_of(["image", "text"], ["next_token"]))
    with pytest.raises(ConfigErrors, match="text=text names no modality of the set"):
        load_set(saved(experiment, tmp_path), ["image"], experiment.data.source.specs, ["four_names"])


def test_reliance_on_a_part_is_measured_by_leaving_it_out(of_three: tuple[Experiment, Path]) -> None:
    """As if no sample of the data had it; what is left is all that counts."""
    experiment, _ = of_three
    learner, data = experiment.learner.eval(), experiment.data
    whole, deaf = (evaluate_learner(learner, data, "val", drop) for drop in ([], ["audio"]))
    assert whole is not None
    assert deaf is not None
    assert whole["val/loss"] != deaf["val/loss"]
    loader = data.eval_loaders("val", rank=0, num_ranks=1)[""]
    assert loader is not None
    vectors = []
    for (batch,) in loader:
        silent = batch.with_name("audio", batch["audio"], torch.zeros_like(batch.lengths["audio"]))
        with torch.no_grad():
            vectors.append(learner(silent)["classify"].vector())
    total = torch.stack(vectors).sum(0)
    assert deaf["val/loss"] == pytest.approx(float(total[0] / total[1]), rel=1e-5)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (["radar"], r"names radar, which is not in the set"),
        (["image", "text"], "leaves nothing of the set"),
    ],
    ids=["unknown", "everything"],
)
def test_a_part_that_cannot_be_left_out_is_refused(drop: list[str], message: str) -> None:
    experiment = assemble(config_of(["image", "text"], ["classify"]))
    with pytest.raises(InvalidValue, match=message):
        evaluate_learner(experiment.learner, experiment.data, "val", drop)


def test_what_is_predicted_is_not_left_out() -> None:
    experiment = assemble(config_of(["image", "text"], ["next_token"]))
    with pytest.raises(InvalidValue, match="would leave out text, which is to be predicted"):
        evaluate_learner(experiment.learner, experiment.data, "val", ["text"])
    with pytest.raises(ConfigErrors, match=r"modality_dropout\.text=0\.5 would leave out what is to be predicted"):
        assemble(config_of(["image", "text"], ["next_token"], "modality_dropout={text: 0.5}"))


@pytest.mark.parametrize(
    ("dropout", "message"),
    [("{radar: 0.5}", r"modality_dropout\.radar=0\.5 names nothing of the set"), ("{image: 2}", "must be a share")],
    ids=["unknown", "no share"],
)
def test_modality_dropout_is_checked(dropout: str, message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        assemble(config_of(["image", "text"], ["classify"], f"modality_dropout={dropout}"))


def test_modality_dropout_is_a_pure_function_of_the_draw_and_leaves_something() -> None:
    """Shares as they were asked for where a sample has more than it may lose; the same for every cut of the stream."""
    words = ["modality_dropout={audio: 0.3, image: 0.9}"]
    data = assemble(config_of(["image", "audio", "text"], ["classify"], *words, num_samples=600)).data
    absence = data.modality_dropout
    assert absence is not None
    lost = [absence.dropped(Draw(0, i), ["image", "audio", "text"]) for i in range(2000)]
    deaf = torch.tensor(["audio" in names for names in lost]).float().mean()
    assert float(deaf) == pytest.approx(0.3, abs=0.04)
    assert lost != [absence.dropped(Draw(1, i), ["image", "audio", "text"]) for i in range(2000)]
    pairs = [absence.dropped(Draw(0, i), ["image", "audio"]) for i in range(200)]
    assert {frozenset(names) for names in pairs} == {frozenset(), frozenset(["image"]), frozenset(["audio"])}
    assert all(not absence.dropped(Draw(0, i), ["image"]) for i in range(50)), "the only part of a sample stays"
    (whole,) = data.train_loader(num_steps=1, accumulate=2, rank=0, num_ranks=1)
    parts = [next(iter(data.train_loader(num_steps=1, accumulate=1, rank=r, num_ranks=2)))[0] for r in (0, 1)]
    for one, other in zip(whole, parts, strict=True):
        assert all(one.lengths[name].equal(other.lengths[name]) for name in one.lengths)
    plain = assemble(config_of(["image", "audio", "text"], ["classify"], num_samples=600)).data
    (full,) = plain.train_loader(num_steps=1, accumulate=2, rank=0, num_ranks=1)
    for one, other in zip(whole, full, strict=True):
        present = torch.stack([one.lengths[name] > 0 for name in ("image", "audio", "text")])
        before = torch.stack([other.lengths[name] > 0 for name in ("image", "audio", "text")])
        assert (present <= before).all()
        assert present.any(0).equal(before.any(0)), "who had something still has something"
    loader = data.eval_loaders("train", rank=0, num_ranks=1)[""]
    assert loader is not None
    assert any((batch.lengths["image"] > 0).any() for (batch,) in loader), "evaluation drops nothing"


def test_the_log_says_how_full_padded_rows_would_be(tmp_path: Path) -> None:
    """Packed and padded runs learn the same, and say the same of what they were given."""
    from mmtx.run.directory import RunDirectory
    from mmtx.run.job import execute, prepare

    losses = []
    for packing in ("false", "true"):
        words = ["trainer.max_steps=2", "logger=[]", "callbacks=[]", "log_every_steps=1", "trainer.accelerator=cpu"]
        experiment = assemble(config_of(["image", "audio", "text"], ["classify"], *words, f"loader.packing={packing}"))
        run = RunDirectory(tmp_path / packing)
        prepare(experiment.config, run)
        assert execute(experiment, run) == 0
        lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
        steps = [line for line in lines if "train/loss" in line]
        losses.append([(step["train/loss"], step["train/grad_norm"], step["train/fill"]) for step in steps])
    assert torch.tensor(losses[0]).allclose(torch.tensor(losses[1]), rtol=1e-5)
    assert all(0 < fill < 1 for _, _, fill in losses[0])


def test_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed run with modality dropout; what it relies on; its weights with other sets; what makes no sense."""
    monkeypatch.chdir(tmp_path)
    words = [
        "modality=[image,text]",
        "objective=[classify]",
        "modality.image.patch_size=4",
        "modality_dropout={text: 0.5}",
    ]
    brief = ["trainer.max_steps=3", "loader.packing=true", "logger=[]", "callbacks=[]", "run_dir=run"]
    done = mmtx("train", "data=digits", *words, *brief, *TINY, cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    found = []
    for more in ([], ["drop=[text]"], ["modality=[image]"], ["modality=[text]"]):
        assert main(["evaluate", "run", "split=val", *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["val/loss"])
    whole, deaf, seeing, reading = found
    assert deaf == pytest.approx(seeing, rel=1e-5), "a part that is missing is a part that is not in the set"
    assert len({whole, deaf, reading}) == 3
    for more, said in (
        (["drop=[radar]"], "drop=['radar'] names radar, which is not in the set"),
        (["drop=text"], "drop=text is not a list of names"),
        (["drop=[text,text]"], "drop=['text', 'text'] names something twice"),
        (["modality=[]"], "modality=[] is empty"),
        (["~loader.batch_size"], "loader.batch_size is missing"),
        (["modality=[audio,image]"], "the data offers no 'audio'"),
        (["modality=[imagee]"], "modality=imagee"),
    ):
        assert main(["evaluate", "run", "split=val", *more]) == 2
        assert said in capsys.readouterr().err
