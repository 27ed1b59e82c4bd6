"""Average precision and F1, against scikit-learn on random data."""

import math

import numpy
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from mmtx.objectives.label_metrics import average_precision, f1_scores, mean_average_precision


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_learn(seed: int) -> None:
    """With scores that are equal, and a class that is neither true nor predicted."""
    generator = numpy.random.default_rng(seed)
    truth = generator.random((60, 5)) < [0.5, 0.1, 0.02, 0.9, 0.3]
    scores = generator.normal(size=(60, 5)).round(1 if seed % 2 else 8)
    truth[:, 1], scores[:, 1] = False, -numpy.abs(scores[:, 1]) - 1
    truth[0, :], truth[0, 1] = True, False
    own = mean_average_precision(torch.tensor(scores), torch.tensor(truth))
    positive = [0, 2, 3, 4]  # of a class without any, scikit-learn says 0 and warns
    assert own == pytest.approx(average_precision_score(truth[:, positive], scores[:, positive]))
    f1 = f1_scores(torch.tensor(scores > 0), torch.tensor(truth))
    for kind in ("micro", "macro"):
        assert f1[f"f1_{kind}"] == pytest.approx(f1_score(truth, scores > 0, average=kind, zero_division=numpy.nan))


def test_where_nothing_is_true_there_is_no_precision() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert math.isnan(average_precision(torch.tensor([0.1, 0.2]), nothing[:, 0]))
    assert math.isnan(mean_average_precision(torch.rand(2, 3), nothing))
    assert all(math.isnan(value) for value in f1_scores(nothing, nothing).values())
