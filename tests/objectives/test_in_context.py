"""Answers in the context: metrics by the number of examples, against loops over prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import POSITIONS, backbone, model, series, series_spec
from contracts import check_objective

from mmtx.batch import Batch, Field, Spec, fake_batch
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned
from mmtx.objectives.in_context import InContext
from mmtx.tokens import Clock

STEPS = 5


def specs_of(kind: str) -> dict[str, Spec]:
    y = series_spec(num_classes=3, num_times=None) if kind == "classes" else series_spec(2, num_times=None)
    field = y.fields["class" if kind == "classes" else "values"]
    return {"x": series_spec(4, num_times=None), "y": y, "estimates": Spec({"ridge": field, "mean": field})}


def made(kind: str, specs: dict[str, Spec] | None = None, **changes: Any) -> tuple[InContext, MultimodalTransformer]:
    torch.manual_seed(0)
    specs = specs or specs_of(kind)
    tokenizers = {name: series(specs[name]) for name in ("x", "y")}
    whole = model(tokenizers, backbone(positions=POSITIONS["none"]), clocks={"step": Clock(embedding=Learned)})
    keys: dict[str, Any] = {"weight": 1.0, "target": "y", "read": "x", "dropout": 0.0, "estimates": "estimates"}
    return InContext(specs=specs, model=whole, **{**keys, **changes}).eval(), whole.eval()


def prompts(kind: str, size: int, seed: int = 0) -> Batch:
    """Of unequal lengths, the same for all names; the second lacks estimates."""
    batch = fake_batch(specs_of(kind), size, seed)
    lengths = batch.lengths["x"]
    own = torch.where(torch.arange(size) == 1, 0, lengths)
    return replace(
        batch, lengths={"x": lengths, "y": lengths, "estimates": own}, full=dict.fromkeys(batch.fields, False)
    )


@pytest.mark.parametrize(("kind", "estimates"), [("classes", "estimates"), ("vectors", "estimates"), ("vectors", None)])
def test_contract(kind: str, estimates: str | None) -> None:
    objective, whole = made(kind, estimates=estimates)
    check_objective(objective, whole, specs_of(kind))


@pytest.mark.parametrize("kind", ["classes", "vectors"])
def test_metrics_by_the_number_of_examples_are_those_of_loops(kind: str) -> None:
    objective, whole = made(kind)
    batches = [prompts(kind, 6, seed) for seed in range(3)]
    key = "class" if kind == "classes" else "values"
    found: dict[str, dict[int, list[float]]] = {"": {}, "/of=ridge": {}, "/of=mean": {}}
    for batch in batches:
        answers = {"": objective.choose(objective.predict(whole(batch), batch["y"][key].shape[1])).detach()}
        answers |= {f"/of={name}": batch["estimates"][name] for name in ("ridge", "mean")}
        for row, length in enumerate(batch.lengths["y"].tolist()):
            for step in range(length):
                for name, own in answers.items():
                    if not name or row != 1:
                        gap = own[row, step].double() - batch["y"][key][row, step].double()
                        value = float(gap == 0) if kind == "classes" else float(gap.square().mean())
                        found[name].setdefault(step, []).append(value)
    first, second, third = (objective(whole, batch).totals() for batch in batches)
    metrics = objective.metrics(first + second + third)
    metric = "accuracy" if kind == "classes" else "squared_error"
    expected: dict[str, float] = {}
    for name, of_steps in found.items():
        expected[f"{metric}{name}"] = numpy.mean([value for values in of_steps.values() for value in values])
        expected |= {f"{metric}{name}/examples={step}": numpy.mean(values) for step, values in of_steps.items()}
    for step, values in found[""].items():
        error = numpy.std(values, ddof=1) / len(values) ** 0.5
        expected |= {f"{metric}/standard_error/examples={step}": error} if len(values) > 1 else {}
    loss = metrics.pop("loss")
    assert metrics == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert set(metrics) <= set(objective.directions)
    assert kind == "classes" or loss == pytest.approx(expected["squared_error"], rel=1e-5)
    better = {"max"} if kind == "classes" else {"min"}
    assert {way for name, way in objective.directions.items() if "standard_error" not in name} == better


def test_a_step_of_training_has_the_mean_alone() -> None:
    objective, whole = made("vectors")
    objective.train()
    assert set(objective.metrics(objective(whole, prompts("vectors", 4)))) == {"loss", "squared_error"}


def test_an_answer_is_predicted_from_the_examples_before_it_alone() -> None:
    objective, whole = made("vectors")
    batch = fake_batch(specs_of("vectors"), 2, ragged=False)
    before = objective.predict(whole(batch), STEPS)
    answers = batch["y"]["values"].clone()
    answers[:, 2] += 1
    after = objective.predict(whole(batch.with_values("y", values=answers)), STEPS)
    assert (after != before).any(-1).tolist() == [[False, False, False, True, True]] * 2


def test_the_metric_is_drawn_beside_the_estimators(tmp_path: Path) -> None:
    for kind in ("classes", "vectors"):
        objective, whole = made(kind)
        for size in (1, 6):  # one alone has no spread
            objective.plot(whole, prompts(kind, size), tmp_path / f"{kind}{size}.png")
            assert (tmp_path / f"{kind}{size}.png").stat().st_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "z"}, "target=z names no part of the data"),
        ({"read": "y"}, "read=y attends to 'y' of its own step"),
        ({"estimates": "lines"}, "estimates=lines names no part of the data"),
        ({"estimates": "x"}, r"estimates=x has a field 'values' of \(None, 4\).* and 'y' is \(None, 2\)"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("vectors", **changes)


def test_estimates_of_other_lengths_are_refused() -> None:
    specs = specs_of("vectors")
    longer = Spec({"ridge": Field((None, 2), torch.float32, max_length=STEPS + 1)})
    with pytest.raises(InvalidValue, match="nearest: null"):
        made("vectors", {**specs, "estimates": longer})
