"""Regression of numbers of whole samples and of series, against scikit-learn and torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from builders import POSITIONS, backbone, batch_of, model, series
from contracts import check_objective
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from mmtx.batch import Batch, Field, Spec, fake_batch
from mmtx.data.specs import class_spec
from mmtx.errors import InvalidValue
from mmtx.evaluate import Evaluation
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.pooling import MeanPool, SummaryPool
from mmtx.objectives.regression import Regression
from mmtx.objectives.standard_scale import StandardScale

STEPS, SIZE = 6, 3
SHAPES: dict[str, tuple[int | None, ...]] = {
    "scalar": (),
    "vector": (SIZE,),
    "series": (None,),
    "series of vectors": (None, SIZE),
}


def values_spec(*shape: int | None) -> Spec:
    return Spec({"values": Field(shape, torch.float32, max_length=STEPS if None in shape else None)})


def specs_of(kind: str) -> dict[str, Spec]:
    return {
        "reading": values_spec(None, 2),
        "target": values_spec(*SHAPES[kind]),
        "speaker": class_spec(("ann", "bob")),
    }


def made(kind: str, **changes: Any) -> tuple[Regression, MultimodalTransformer]:
    torch.manual_seed(0)
    specs = specs_of(kind)
    whole = model({"reading": series(specs["reading"])}, backbone(positions=POSITIONS["learned"]))
    keys: dict[str, Any] = {
        "weight": 1.0,
        "target": "target",
        "read": "reading" if kind.startswith("series") else None,
        "pool": MeanPool(),
        "loss": "squared",
        "dropout": 0.0,
        "slices": [],
    }
    return Regression(specs=specs, model=whole, **{**keys, **changes}).eval(), whole.eval()


def same_lengths(batch: Batch) -> Batch:
    """Both names with the lengths of the readings, and the target in units of its own."""
    lengths = batch.lengths["reading"]
    values = 1e3 + 50 * batch["target"]["values"]
    if values.dim() > 1 and values.shape[1] > SIZE:
        lengths = torch.minimum(lengths, batch.lengths["target"])
        batch = replace(batch, lengths={**batch.lengths, "reading": lengths, "target": lengths})
    return batch.with_values("target", values=values)


def numbers(objective: Regression, whole: MultimodalTransformer, batch: Batch) -> list[numpy.ndarray]:
    """True and predicted numbers of all real steps, in the units of the target."""
    real = objective._real(batch)
    both = objective._true(batch)[real], objective.values(whole, batch)[real]
    return [each.detach().double().numpy() for each in both]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
def test_contract(kind: str, loss: str) -> None:
    objective, whole = made(kind, loss=loss, slices=["speaker"])
    check_objective(objective, whole, specs_of(kind))


@pytest.mark.parametrize("kind", SHAPES)
def test_metrics_are_those_of_scikit_learn_over_the_whole_split(kind: str) -> None:
    """In the target's own units, from batches of unequal sizes and on two ranks."""
    objective, whole = made(kind)
    batches = [same_lengths(fake_batch(specs_of(kind), size, seed)) for seed, size in enumerate((5, 2, 7))]
    objective.fit(batches)
    learner, sent = Learner(model=whole, objectives={"regression": objective}, specs=specs_of(kind)), []
    second = Evaluation(learner, "val", lambda value: sent.append(value) or [value])  # type: ignore[func-returns-value]
    second.add("", batches[1:])
    second.metrics(0.0)
    first = Evaluation(learner, "val", lambda value: [value, *sent])
    first.add("", batches[:1])
    metrics = first.metrics(0.0)
    pairs = [numbers(objective, whole, batch) for batch in batches]
    true, predicted = (numpy.concatenate(each) for each in zip(*pairs, strict=True))
    expected = {
        "val/mae": mean_absolute_error(true, predicted),
        "val/rmse": root_mean_squared_error(true, predicted),
        "val/r2": r2_score(true, predicted),
    }
    loss = metrics.pop("val/loss")
    assert metrics == pytest.approx(expected, rel=1e-6)
    assert loss == pytest.approx(numpy.mean((true - predicted) ** 2 / true.var(0)), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "function"), [("squared", F.mse_loss), ("absolute", F.l1_loss), ("huber", F.huber_loss)]
)
def test_the_loss_is_that_of_torch_on_standardised_numbers(loss: str, function: Any) -> None:
    objective, whole = made("vector", loss=loss)
    batch = same_lengths(fake_batch(specs_of("vector"), 8))
    objective.fit([batch])
    predicted = objective.predict(whole(batch), 1)[:, 0]
    true = batch["target"]["values"].double()
    scaled = ((true - true.mean(0)) / true.std(0, correction=0)).float()
    assert objective(whole, batch).mean_loss() == pytest.approx(function(predicted, scaled).item(), rel=1e-5)


def test_the_scale_is_that_of_all_parts_together_also_far_from_zero() -> None:
    generator = numpy.random.default_rng(0)
    whole = generator.normal(1e9, [0.5, 2e3], (1000, 2))
    scale = StandardScale(2)
    scale.fit([torch.tensor(part) for part in numpy.split(whole, [1, 300, 300])])
    numpy.testing.assert_allclose(scale.mean.numpy(), whole.mean(0), rtol=1e-14)
    numpy.testing.assert_allclose(scale.deviation.numpy(), whole.std(0), rtol=1e-6)
    torch.testing.assert_close(scale.back(scale(torch.tensor(whole))), torch.tensor(whole))
    scale.fit([torch.ones(3, 2)])
    assert scale.deviation.tolist() == [1.0, 1.0]


def test_a_constant_truth_has_the_r2_of_scikit_learn() -> None:
    objective, whole = made("scalar")
    batch = fake_batch(specs_of("scalar"), 4).with_values("target", values=torch.full((4,), 0.1))
    (true, predicted), score = numbers(objective, whole, batch), objective(whole, batch)
    assert objective.metrics(score)["r2"] == r2_score(true, predicted) == 0.0


@pytest.mark.parametrize("kind", ["scalar", "series of vectors"])
def test_padded_packed_and_single_samples_are_the_same(kind: str) -> None:
    objective, whole = made(kind)
    batch = same_lengths(fake_batch(specs_of(kind), 5))
    assert not batch.full["reading"]
    expected = objective(whole, batch).vector()
    torch.testing.assert_close(objective(whole, batch.packed()).vector(), expected, rtol=1e-5, atol=1e-4)
    single = sum(objective(whole, batch.select(slice(i, i + 1))).vector() for i in range(5))
    torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-4)


def test_a_series_is_read_step_by_step() -> None:
    """What a later step reads does not reach an earlier one in a causal set, and its target is its own."""
    objective, whole = made("series")
    batch = same_lengths(fake_batch(specs_of("series"), 3, ragged=False))
    before = objective.values(whole, batch)
    changed = batch["reading"]["values"].clone()
    changed[:, 4] += 1
    after = objective.values(whole, batch.with_values("reading", values=changed))
    same = (before == after).all(0).squeeze(-1).tolist()
    assert same == [True] * 4 + [False] * 2


def test_learns_a_linear_map_as_well_as_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 1, 2, generator=generator)
    target = 300 + 40 * inputs[:, 0, 0] - 10 * inputs[:, 0, 1] + torch.randn(200, generator=generator)
    fields = {"reading": {"values": inputs}, "target": {"values": target}}
    batch = batch_of(fields, {"reading": [1] * 200, "target": [1] * 200})
    objective, whole = made("scalar")
    objective.fit([batch])
    parameters = [*objective.parameters(), *whole.parameters()]
    optimizer = torch.optim.AdamW(parameters, 5e-3)
    for _ in range(60):
        score = objective(whole, batch)
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
    ridge = Ridge().fit(inputs[:, 0], target)
    metrics = objective.metrics(objective(whole, batch))
    assert metrics["r2"] > ridge.score(inputs[:, 0], target) - 0.01


def test_predictions_are_shown_as_numbers_and_as_a_plot(tmp_path: Path) -> None:
    objective, whole = made("series of vectors")
    batch = same_lengths(fake_batch(specs_of("series of vectors"), 4))
    examples = objective.examples(whole, batch)
    first = batch["target"]["values"][0, 0]
    assert examples[0].truth.split("; ")[0] == " ".join(f"{value:.4g}" for value in first.tolist())
    objective.plot(whole, batch, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("scalar", {"target": "goal"}, "target=goal names no part of the data; there is reading, target, speaker"),
        ("scalar", {"target": "speaker"}, "target=speaker has no field 'values' of numbers"),
        (
            "scalar",
            {"target": "reading", "read": "reading"},
            "target=reading is in the set, and would only be read off",
        ),
        (
            "series",
            {"read": None},
            "read=null predicts one value of a sample, and target has one a step; nearest: read=",
        ),
        ("scalar", {"read": "reading"}, "read=reading predicts a value a step, and target has one of a sample"),
        ("series", {"read": "sound"}, "read=sound names no modality of the set; there is reading"),
        ("scalar", {"pool": SummaryPool(name="reading")}, "has no summary token of that name"),
        ("scalar", {"slices": ["speaker", "speaker"]}, r"slices=\['speaker', 'speaker'\] names speaker twice"),
        ("scalar", {"slices": ["speker"]}, "names speker, which the data lacks; did you mean 'speaker'"),
        ("scalar", {"slices": ["target"]}, "names target, which has no class for each sample"),
    ],
)
def test_what_cannot_work_is_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(kind, **changes)


def test_a_series_has_as_many_steps_as_what_is_read() -> None:
    specs = specs_of("series")
    specs["target"] = Spec({"values": Field((None,), torch.float32, max_length=STEPS + 1)})
    whole = model({"reading": series(specs["reading"])})
    keys: dict[str, Any] = {"pool": MeanPool(), "loss": "squared", "dropout": 0.0, "slices": [], "weight": 1.0}
    with pytest.raises(InvalidValue, match="read=reading has up to 6 steps in the data, and target 7"):
        Regression(specs=specs, model=whole, target="target", read="reading", **keys)
