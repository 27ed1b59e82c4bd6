"""Which way a metric is better is declared once, and all that choose by it agree."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import optuna
import pytest
from learners import LEARNERS, batch_of_samples, made_learner
from run_directories import write_run
from test_subsets import config_of

from mmtx.errors import ConfigErrors, InvalidValue
from mmtx.evaluate import Evaluation, stage_directions
from mmtx.experiment import assemble
from mmtx.metric_directions import KNOWN, direction_of
from mmtx.objectives.classify import Classify
from mmtx.objectives.text_metrics import BLEU, TextMetric
from mmtx.objectives.transcripts import check_metrics
from mmtx.report.attribution import attributions
from mmtx.report.comparison import compare
from mmtx.run.checkpoint_schedule import Checkpoints
from mmtx.run.run_record import find_runs
from mmtx.sweep.optuna import goals
from mmtx.training.lightning_module import MultimodalModule

FORMS = ("val/{}", "val/objective/{}", "val/part/{}", "val/part/objective/{}")
LOWER = {"loss", "perplexity", "bits_per_byte", "wer", "cer", "per", "too_long"}
LOWER |= {"mae", "rmse", "mse", "rmsd", "squared_error", "nats", "skipped_samples", "skipped_steps", "loss_spikes"}
LOWER |= {"data_wait", "memory_gib"}
"""By their fields' definitions."""


def checkpoints(monitor: str, mode: Any = None) -> Checkpoints:
    return Checkpoints(every_steps=None, every_minutes=None, keep=1, monitor=monitor, mode=mode, asynchronous=False)


def is_better(kept: Checkpoints, value: float, best: float) -> bool:
    kept.best = best
    module = MultimodalModule.__new__(MultimodalModule)
    vars(module).update(metrics={kept.monitor: value}, validated=0, _trainer=None)
    return kept._is_best(module)


@pytest.mark.parametrize("metric", [name for name, direction in KNOWN.items() if direction is not None])
def test_all_that_choose_agree_on_every_metric(metric, tmp_path):
    best = "low" if metric in LOWER else "high"
    for number, form in enumerate(FORMS):
        name = form.format(metric)
        declared = {name: KNOWN[metric]}
        kept = checkpoints(name).choosing(declared)
        assert is_better(kept, 0.2, 0.8) == (best == "low") and is_better(kept, 0.8, 0.2) == (best == "high")
        assert list(goals(name, None, None, ("val/loss", None), declared).values()) == [KNOWN[metric]]
        for folder, value, names in (("low", 0.2, {"a": {}}), ("high", 0.8, {"a": {}, "b": {}})):
            run = write_run(tmp_path / str(number) / folder, [{"step": 1, name: value}], config={"modality": names})
            (run / "directions.json").write_text(json.dumps(declared))
        write_run(tmp_path / str(number) / "other", [{"step": 1, name: 0.5}], config={"modality": {"b": {}}})
        for monitor in ("val/loss", name):
            config = {"checkpoint": {"monitor": monitor, "mode": None}}
            records = [replace(record, config=record.config | config) for record in find_runs([tmp_path / str(number)])]
            found = compare(records, name, None)
            assert found.best_run is not None and found.best_run.path.name == best
            assert [setting.mean for setting in found.settings] == (
                [0.2, 0.5, 0.8] if best == "low" else [0.8, 0.5, 0.2]
            )
            (attribution,) = attributions(found, None)
            assert attribution.gains is not None and (attribution.gains["b"][0] > 0) == (best == "high")


def test_the_study_goes_the_way_that_the_metric_declares():
    none, median = optuna.pruners.NopPruner(), optuna.pruners.MedianPruner()
    declared = {"val/loss": "min", "val/accuracy": "max", "val/episode_length": None}
    assert goals(None, None, median, ("val/accuracy", None), declared) == {"val/accuracy": "max"}
    assert goals(["val/loss", "val/accuracy"], None, none, (None, None), declared) == {
        "val/loss": "min",
        "val/accuracy": "max",
    }
    assert goals("val/episode_length", "maximize", median, (None, None), declared) == {"val/episode_length": "max"}
    assert goals(None, None, median, ("val/episode_length", "min"), declared) == {"val/episode_length": "min"}
    for metric, direction, message in (
        (
            "val/accuracy",
            "minimize",
            "^hydra.sweeper.direction=minimize contradicts hydra.sweeper.metric=val/accuracy, which is better higher",
        ),
        (
            "val/lost",
            None,
            "^hydra.sweeper.metric=val/lost is declared by nothing in this run; did you mean 'val/loss'",
        ),
        ("val/episode_length", None, "set hydra.sweeper.direction=maximize or hydra.sweeper.direction=minimize"),
        (["val/loss", "val/accuracy"], ["minimize"], "for each of val/loss, val/accuracy"),
        (["val/loss", "val/loss"], None, "names a metric twice"),
    ):
        with pytest.raises(InvalidValue, match=message):
            goals(metric, direction, none, ("val/loss", None), declared)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="trials can be pruned by one only"):
        goals(["val/loss", "val/accuracy"], None, median, (None, None), declared)


@pytest.mark.parametrize("kind", LEARNERS)
def test_every_objective_declares_what_it_reports(kind):
    learner = made_learner(kind)
    for stage, training in (("train", True), ("val", False)):
        evaluation = Evaluation(learner.train(training), stage)
        evaluation.add("", [batch_of_samples(0, 1, 2, 3, 5)])
        reported = evaluation.metrics(max_bad_share=0.0)
        declared = stage_directions(learner, stage, list(learner.objectives))
        assert set(reported) <= set(declared)
        assert stage == "train" or set(declared) == set(reported)


class Own(Classify):
    """Reports a metric that mmtx knows nothing of."""

    directions = {"accuracy": "max", "regret": "min", "spread": None}


class Silent(Classify):
    """Declares nothing."""

    directions = {}


class Odd(Classify):
    directions = {"regret": "lower"}  # type: ignore[dict-item]


def made(monitor: str, mode: str | None = None, kind: str = "Own") -> Any:
    config = config_of(["image"], ["classify"])
    config["objective"]["classify"]["_target_"] = f"test_metric_directions.{kind}"
    checkpoint = {**config["checkpoint"], "monitor": monitor, "mode": mode}
    return assemble({**config, "checkpoint": checkpoint, "plugins": ["four_names", "test_metric_directions"]})


def test_a_metric_of_the_users_is_declared_once():
    directions = made("val/regret").directions
    assert checkpoints("val/regret").choosing(directions).mode == "min"
    assert goals("test/regret", None, None, (None, None), directions) == {"test/regret": "min"}
    assert made("val/spread", "max").directions["train/spread"] is None


@pytest.mark.parametrize(
    ("monitor", "mode", "kind", "message"),
    [
        (
            "val/regret",
            "max",
            "Own",
            "checkpoint.mode=max contradicts checkpoint.monitor=val/regret, which is better lower",
        ),
        (
            "val/accuracy",
            "min",
            "Own",
            "checkpoint.mode=min contradicts checkpoint.monitor=val/accuracy, which is better higher",
        ),
        (
            "val/spread",
            None,
            "Own",
            "checkpoint.monitor=val/spread is not better for being more or less; set checkpoint.mode=max",
        ),
        ("val/regret", None, "Silent", "checkpoint.monitor=val/regret is declared by nothing in this run"),
        ("val/regret", "min", "Silent", "an objective of your own declares what it reports: directions = "),
        ("val/acuracy", None, "Own", "did you mean 'val/accuracy'"),
        (
            "test/accuracy",
            None,
            "Own",
            "checkpoint.monitor=test/accuracy is known when the run has ended, and the best is chosen before",
        ),
        ("val/loss", None, "Odd", "objective.classify.directions.regret=lower must be 'min', 'max' or None"),
    ],
)
def test_what_contradicts_or_is_not_declared_is_refused(monitor, mode, kind, message):
    with pytest.raises(ConfigErrors) as raised:
        made(monitor, mode, kind)
    (message,) = raised.value.findings
    assert message in message


def test_a_metric_of_texts_declares_its_own(tmp_path):
    class Length(TextMetric):
        def score(self, hypotheses, references):
            return {"length": (float(sum(map(len, hypotheses))), float(len(hypotheses)))}

        def value(self, stats):
            return stats["length"][0]

    with pytest.raises(
        InvalidValue, match="^metrics.length=Length declares no direction; its class needs direction = "
    ):
        check_metrics({"length": Length()})
    check_metrics({"quality": BLEU()})


def test_runs_that_declare_another_way_are_not_ranked_together(tmp_path):
    for name, way in (("a", "min"), ("b", "max")):
        run = write_run(tmp_path / name, [{"step": 1, "val/regret": 1.0}])
        (run / "directions.json").write_text(json.dumps({"val/regret": way}))
    with pytest.raises(InvalidValue, match="is declared in different ways by these runs"):
        compare(find_runs([tmp_path]), "val/regret", None)
    assert not compare(find_runs([tmp_path / "a"]), "val/regret", None).maximise


def test_what_nobody_declares_is_never_guessed(tmp_path):
    run = write_run(tmp_path / "a", [{"step": 1, "val/regret": 1.0}])
    for written in ({}, {"val/loss": "min"}):
        (run / "directions.json").write_text(json.dumps(written))
        with pytest.raises(InvalidValue, match="^metric=val/regret is declared by nothing in these runs"):
            compare(find_runs([tmp_path]), "val/regret", None)
        assert compare(find_runs([tmp_path]), "val/regret", "max").maximise
    with pytest.raises(InvalidValue, match="^monitor=val/regret is declared by nothing"):
        direction_of("val/regret", "max", {}, keys=("monitor", "mode"))
