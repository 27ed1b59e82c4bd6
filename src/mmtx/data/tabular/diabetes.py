"""scikit-learn's diabetes table: ten measurements of 442 patients, and how far the disease had come a year later."""

from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.specs import class_spec
from mmtx.errors import InvalidValue

SEXES = ("1", "2")
"""As the table has them; its authors do not say which is which."""


class Diabetes(ItemSource):
    """Names: ``measurements`` (age, sex, body mass index, blood pressure, six of blood serum), ``target`` (progression,
    25 to 346), ``sex``, for slices (Efron et al. 2004, Least angle regression, Ann. Statist. 32, 407).

    A measurement is a vector: its value, standardised by the training part, at its own place of ten, and a 1 at its own
    place of ten more. A linear map of it is a slope and an offset for each measurement (Gorishniy et al. 2021, arXiv
    2106.11959, section 3.3).

    Args:
        num_val: validation patients.
        num_test: test patients.
        split_seed: of the choice.
    """

    def __init__(self, *, num_val: int, num_test: int, split_seed: int) -> None:
        from sklearn.datasets import load_diabetes

        values, target = load_diabetes(return_X_y=True, scaled=False)
        for key, number in (("num_val", num_val), ("num_test", num_test)):
            if number < 1 or num_val + num_test >= len(target):
                raise InvalidValue(key, number, f"must be at least 1, and leave some of {len(target)} to train on")
        order = torch.randperm(len(target), generator=torch.Generator().manual_seed(split_seed)).tolist()
        test, val, train = order[:num_test], order[num_test : num_test + num_val], order[num_test + num_val :]
        self.items = {"train": train, "val": val, "test": test}
        raw = torch.tensor(values)
        mean, deviation = self.fitted.statistic(
            "measurements",
            "mean and standard deviation",
            lambda: torch.stack([raw[train].mean(0), raw[train].std(0, correction=0)]),
        )
        self._measurements = _placed(((raw - mean) / deviation).float())
        self._target, self._sex = torch.tensor(target).float(), raw[:, 1].long() - 1

    @property
    def specs(self) -> Mapping[str, Spec]:
        count, size = self._measurements.shape[1:]
        return {
            "measurements": Spec({"values": Field((None, size), torch.float32, max_length=count)}),
            "target": Spec({"values": Field((), torch.float32)}),
            "sex": class_spec(SEXES),
        }

    def sample(self, item: int, split: str) -> Sample:
        return {
            "measurements": {"values": self._measurements[item]},
            "target": {"values": self._target[item]},
            "sex": {"class": self._sex[item]},
        }


def _placed(values: Float32[Tensor, "N columns"]) -> Float32[Tensor, "N columns twice"]:
    """Each value at the place of its column, and a 1 beside."""
    places = torch.eye(values.shape[1])
    return torch.cat([values[..., None] * places, places.expand(len(values), -1, -1)], 2)
