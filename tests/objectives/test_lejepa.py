"""LeJEPA: its statistic against SciPy's quadrature, its loss from vectors, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy
import pytest
import scipy.integrate
import torch
from builders import (
    POSITIONS,
    STEMS,
    audio,
    audio_spec,
    backbone,
    image,
    image_batch,
    image_spec,
    model,
    text,
    text_spec,
)
from contracts import check_needs, check_predictions

from mmtx.batch import fake_batch
from mmtx.data.collate import collate
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.objectives.epps_pulley import epps_pulley, random_directions
from mmtx.objectives.lejepa import LeJEPA

SPECS = {"image": image_spec(3), "audio": audio_spec(), "text": text_spec()}
TOKENIZERS: dict[str, Any] = {
    "image": partial(image, SPECS["image"], patch_size=2),
    "audio": partial(audio, SPECS["audio"], stem=STEMS["patches"]),
    "text": partial(text, SPECS["text"]),
}


def made(*names: str, **changes: Any) -> tuple[Any, LeJEPA]:
    tokenizers: dict[str, Tokenizer] = {name: TOKENIZERS[name]() for name in names or ("image",)}
    whole = model(tokenizers, backbone(positions=POSITIONS["learned"]))
    keys: dict[str, Any] = {
        "weight": 1.0,
        "names": [*tokenizers],
        "num_views": 3,
        "view_share": [0.3, 0.8],
        "view_aspect": [0.75, 1.5],
        "strength": 0.02,
        "num_directions": 64,
        "hidden": 16,
        "size": 8,
    }
    return whole, LeJEPA(specs=SPECS, model=whole, **{**keys, **changes}).eval()


def test_statistic_is_scipys_quadrature() -> None:
    """Of each column, over the rows that count, by SciPy's own trapezium rule at the same knots, and nearly by its
    adaptive one."""
    values = torch.randn(40, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)) * 1.5 + 0.3
    real = torch.arange(40) % 4 > 0
    found = epps_pulley(values, real)
    for column in range(3):
        x = values[real, column].numpy()

        def integrand(t: Any, x: Any = x) -> Any:
            empirical = numpy.exp(1j * numpy.multiply.outer(t, x)).mean(-1)
            return len(x) * numpy.abs(empirical - numpy.exp(-(t**2) / 2)) ** 2 * numpy.exp(-(t**2) / 2)

        knots = numpy.linspace(-3, 3, 33)
        assert float(found[column]) == pytest.approx(scipy.integrate.trapezoid(integrand(knots), knots), rel=1e-12)
        assert float(found[column]) == pytest.approx(scipy.integrate.quad(integrand, -3, 3)[0], rel=1e-2)


def test_statistic_of_known_vectors() -> None:
    """Of normal ones, its expectation: the integral of (1 - exp(-t²)) exp(-t² / 2); of equal ones, far more, growing
    with their number."""
    normal = torch.randn(2000, 200, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    everyone = torch.ones(2000).bool()
    expected = scipy.integrate.quad(lambda t: (1 - numpy.exp(-(t**2))) * numpy.exp(-(t**2) / 2), -3, 3)[0]
    assert float(epps_pulley(normal, everyone).mean()) == pytest.approx(expected, rel=0.1)
    assert float(epps_pulley(torch.zeros(2000, 1), everyone)[0]) > 0.3 * 2000


def test_directions_are_unit_vectors() -> None:
    directions = random_directions(5, 1000, torch.Generator().manual_seed(0), torch.zeros(1))
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(1000))
    torch.testing.assert_close(directions @ directions.T / 1000, torch.eye(5) / 5, atol=0.02, rtol=0)


def test_loss_from_vectors() -> None:
    """Sample by sample in float64; those that are absent count for nothing."""
    whole, objective = made()
    batch = objective.prepare(whole, image_batch([1, 1, 0, 1], SPECS["image"]), torch.Generator().manual_seed(0))
    vectors = objective.vectors(whole, batch).double()[:, [0, 1, 3]]
    distance = sum((view[i] - vectors[:, i].mean(0)).square().mean() for view in vectors for i in range(3)) / 9
    directions = random_directions(8, 64, torch.Generator().manual_seed(0), torch.zeros(1)).double()
    statistics = [epps_pulley(view @ directions, torch.ones(3).bool()).mean() for view in vectors]
    score = objective(whole, batch)
    metrics = objective.metrics(score)
    assert int(score.count) == int(objective.count(batch)) == 3
    assert metrics["distance"] == pytest.approx(float(distance), rel=1e-4)
    assert metrics["statistic"] == pytest.approx(float(sum(statistics)) / 3, rel=1e-4)
    assert metrics["loss"] == pytest.approx(0.98 * metrics["distance"] + 0.02 * metrics["statistic"], rel=1e-5)
    score.loss_sum.backward()
    assert all(
        p.grad is not None and p.grad.any() for p in (objective.up.weight, whole.tokenizer("image").projection.weight)
    )


def test_a_view_is_all_that_its_vector_knows() -> None:
    whole, objective = made()
    batch = objective.prepare(whole, image_batch([1], SPECS["image"]), torch.Generator().manual_seed(0))
    before, views = objective.vectors(whole, batch), batch["image"]["views"][0]
    row, column = divmod(patch := int(views.float().sum(0).argmin()), 4)
    pixels = batch["image"]["pixels"].clone()
    pixels[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] ^= 255
    after = objective.vectors(whole, batch.with_values("image", pixels=pixels))
    assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == views[:, patch].tolist()
    assert not views[:, patch].all(), "some view does not have it"


@pytest.mark.parametrize(
    ("names", "cut"), [(["image", "text"], ["image"]), (["audio"], ["audio"])], ids=["two", "sound"]
)
def test_needs_and_predictions(names: list[str], cut: list[str]) -> None:
    """What the contract of objectives has, but for sums over parts: its statistic is of a whole batch, as contrastive
    losses are."""
    whole, objective = made(*names, names=cut)
    specs = {name: SPECS[name] for name in names}
    for given in (fake_batch(specs, 4), collate([], specs, size=3)):
        check_needs(objective, whole, given)
        check_predictions(objective, whole, given)
        assert len(objective.examples(whole, given)) == len(given)


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["text"], {}, "names=text has tokens that are not made from numbers of their own"),
        (["image"], {"num_views": 1}, "num_views=1 must be at least 2"),
        (["image"], {"strength": 2.0}, r"strength=2\.0 must lie in 0\.\.1"),
        (["image"], {"view_share": [0.0, 0.5]}, r"view_share=\[0\.0, 0\.5\] must be two numbers above 0"),
    ],
)
def test_refusals(names: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(*names, **changes)
