"""Bits per dimension of pictures with a few grey levels, against closed forms of a Gaussian."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import image, image_spec, model, series
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue
from mmtx.objectives.flow import Flow
from mmtx.objectives.grey_levels import bits_per_dim

LEVELS = 17
MEAN, DEVIATION = 0.2, 0.5
"""Of numbers, which lie within -1..1: 9.6 and 4 in levels of 0..16."""
IN_LEVELS = torch.distributions.Normal(torch.tensor(9.6).double(), torch.tensor(4.0).double())


def gaussian(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, Flow]:
    """A flow whose velocity is the optimal one of independent Gaussian numbers."""
    specs = {"image": image_spec(1, 4, 4)}
    whole = model({"image": image(specs["image"])})
    keys = {"weight": 1.0, "names": ["image"], "times": "uniform", "likelihood_steps": None, **changes}
    objective = Flow(specs=specs, model=whole, **keys).eval()

    def velocity(_: Any, batch: Batch, mixed: dict[str, Tensor], moment: Tensor) -> dict[str, Tensor]:
        t = moment[:, None, None]
        slope = (t * DEVIATION**2 - (1 - t)) / ((1 - t) ** 2 + (t * DEVIATION) ** 2)
        return {"image": MEAN + slope * (mixed["image"] - t * MEAN)}

    monkeypatch.setattr(objective, "velocity", velocity)
    return whole, objective


def pictures(levels: Tensor) -> Batch:
    """As scikit-learn's digits have them, whose levels are rounded to bytes."""
    pixels = (levels * 255 / (LEVELS - 1)).round().to(torch.uint8)
    return Batch({"image": {"pixels": pixels}}, {"image": torch.ones(len(pixels), dtype=torch.long)}, {"image": True})


def bits(whole: Any, flow: Flow, batch: Batch, levels: int = LEVELS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return bits_per_dim(flow, whole, batch, levels=levels, generator=generator, how=Integration(20))


def test_bits_are_those_of_the_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over numbers spread around a level k is -log N(k) + 1/12 of the variance's half, in nats."""
    levels = torch.randint(LEVELS, (300, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    found = bits(*gaussian(monkeypatch), pictures(levels))
    spread = -IN_LEVELS.log_prob(levels.double()) + 1 / 12 / (2 * 4.0**2)
    closed = (spread / math.log(2)).flatten(1).mean(1)
    assert float((found - closed).abs().max()) < 0.15, "of one draw for each number"
    assert float(found.mean()) == pytest.approx(float(closed.mean()), abs=4e-3)


def test_bits_are_no_fewer_than_those_of_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minus the logarithm of the Gaussian's mass within half a level, which the bound lies above; for a density that is
    smooth over a level, hardly. All pictures of equal levels have the same bound, but for what is drawn."""
    every = torch.arange(LEVELS).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    cells = IN_LEVELS.cdf(torch.arange(LEVELS) + 0.5) - IN_LEVELS.cdf(torch.arange(LEVELS) - 0.5)
    exact = -cells.log2()
    whole, flow = gaussian(monkeypatch)
    found = bits(whole, flow, pictures(every.repeat(30, 1, 1, 1))).view(30, LEVELS).mean(0)
    assert float((found - exact).mean()) == pytest.approx(0.0, abs=0.01)
    assert ((found - exact).abs() < 0.1).all()


def test_who_is_drawn_is_a_matter_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, flow = gaussian(monkeypatch)
    batch = pictures(torch.full((3, 1, 4, 4), 5))
    assert bits(whole, flow, batch).equal(bits(whole, flow, batch))


@pytest.mark.parametrize("levels", [5, 16, 18])
def test_pixels_between_levels_are_refused(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, flow = gaussian(monkeypatch)
    with pytest.raises(InvalidValue, match=f"levels={levels} is not how many grey levels the pictures have"):
        bits(whole, flow, pictures(torch.arange(16).view(1, 1, 4, 4)), levels)


def test_bytes_have_256_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen times as many levels are four bits more, where the density is as smooth."""
    whole, flow = gaussian(monkeypatch)
    batch = pictures(torch.full((200, 1, 4, 4), 8))
    more = bits(whole, flow, batch, 256).mean() - bits(whole, flow, batch).mean()
    assert float(more) == pytest.approx(math.log2(255 / 16), abs=0.02)


def test_what_has_no_grey_levels_is_refused() -> None:
    specs = {"x": Spec({"values": Field((2,), torch.float32)})}
    whole = model({"x": series(specs["x"])})
    flow = Flow(specs=specs, model=whole, weight=1.0, names=["x"], times="uniform", likelihood_steps=None)
    batch = Batch({"x": {"values": torch.zeros(1, 2)}}, {"x": torch.ones(1, dtype=torch.long)}, {"x": True})
    with pytest.raises(InvalidValue, match="levels=17 is of pictures alone, and this flow makes x"):
        bits(whole, flow, batch)
