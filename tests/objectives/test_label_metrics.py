"""Average precision and F1, against scikit-learn on random data."""

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
    assert own == pytest.approx(average_precision_score(truth[:, positive], scores[:, positive]) * 4 / 5)
    f1 = f1_scores(torch.tensor(scores > 0), torch.tensor(truth))
    for kind in ("micro", "macro"):
        assert f1[f"f1_{kind}"] == pytest.approx(f1_score(truth, scores > 0, average=kind, zero_division=0))


def test_a_class_without_any_has_an_average_precision_of_0() -> None:
    with pytest.warns(UserWarning, match="No positive class"):
        expected = average_precision_score([False, False], [0.1, 0.2])
    assert average_precision(torch.tensor([0.1, 0.2]), torch.tensor([False, False])) == expected == 0.0
