"""The Fréchet distance, against scipy's square root of a matrix and closed forms."""

import pytest
import torch
from scipy.linalg import sqrtm

from mmtx.judging.copying import copied_share
from mmtx.judging.frechet import frechet_distance


@pytest.mark.parametrize("count", [200, 6])
def test_equal_to_the_formula_by_scipy(count: int) -> None:
    """With fewer samples than features, covariances are singular."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(count, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    other = torch.randn(count + 3, 8, generator=generator) + 0.5
    s, t = (each.double().T.cov().numpy() for each in (one, other))
    means = (one.double().mean(0) - other.double().mean(0)).square().sum()
    expected = float(means) + s.trace() + t.trace() - 2 * sqrtm(s @ t).real.trace()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-5 * s.trace())


def test_a_shift_and_a_scale_are_closed_forms() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    x = x - x.mean(0)
    assert frechet_distance(x, x + 2) == pytest.approx(3 * 4)
    assert frechet_distance(x, 3 * x) == pytest.approx(4 * float(x.T.cov().trace()))  # (3 - 1)^2 of each variance


def test_copies_are_told_from_what_is_new() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test, new = (torch.randn(400, 5, generator=generator) for _ in range(3))
    assert copied_share(test, test, train) == pytest.approx(0.05, abs=0.003)
    assert copied_share(new, test, train) < 0.1
    assert copied_share(train[:100] + 0.001, test, train) == 1.0
