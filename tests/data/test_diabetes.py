"""scikit-learn's diabetes table."""

import pytest
import torch
from contracts import check_source
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

from mmtx.data.tabular.diabetes import Diabetes
from mmtx.errors import InvalidValue


def source(**changes):
    return Diabetes(**{"num_val": 42, "num_test": 100, "split_seed": 0, **changes})


def test_contract():
    check_source(source())


def test_every_patient_is_in_one_split_with_the_values_of_the_table():
    made = source()
    rows = [row for split in ("train", "val", "test") for row in made.items[split]]
    assert sorted(rows) == list(range(442)) and len(made.items["test"]) == 100
    values, target = load_diabetes(return_X_y=True, scaled=False)
    scaler = StandardScaler().fit(values[made.items["train"]])
    expected = torch.tensor(scaler.transform(values[made.items["test"]])).float()
    samples = [made.test()[i] for i in range(100)]
    measured = torch.stack([sample["measurements"]["values"] for sample in samples])
    torch.testing.assert_close(measured[..., :10].sum(2), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(measured[7, :, 10:], torch.eye(10))
    assert torch.equal(measured[7, :, :10], torch.diag(measured[7, :, :10].diagonal()))
    assert [float(sample["target"]["values"]) for sample in samples] == target[made.items["test"]].tolist()


@pytest.mark.parametrize("changes", [{"num_val": 0}, {"num_test": 0}, {"num_val": 342}])
def test_splits_that_leave_nothing_are_refused(changes):
    with pytest.raises(InvalidValue, match="must be at least 1, and leave some of 442 to train on"):
        source(**changes)
