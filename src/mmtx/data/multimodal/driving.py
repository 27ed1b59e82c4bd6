"""Simulated driving: what five sensors measure of a car on a road, and what a careful driver does next.

Nothing is recorded. A small physical model draws road, traffic and vehicle, and each sensor shows a part of them: the
camera sees lanes and cars and is poor at distances, the radar measures distances and speeds and sees no lanes, the map
has the road ahead and no cars.
"""

import random
from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.multimodal.driving_simulation import COLUMNS, LABELS, POINTS_M, ROWS, VEHICLES, draw_moments
from mmtx.data.specs import class_spec
from mmtx.errors import InvalidValue, check_fraction

SENSORS = ("camera", "radar", "map", "vehicle", "speed")


class Driving(ItemSource):
    """Names: ``camera`` (a picture, 1 x 16 x 32), ``radar`` (1 to 4 echoes), ``map`` (12 points of the road ahead),
    ``vehicle`` (its type), ``speed``; ``label``: brake, keep speed or accelerate, and steer left, straight or right.

    How fast to go is the intelligent driver model (Treiber et al. 2000, Phys. Rev. E 62, 1805), whose desired speed
    keeps to the limit and falls in time for the curves ahead; the steering brings the car to the middle of its lane in
    1.5 s. The label is a function of the true state, which the sensors measure with noise.

    Args:
        num_train: training moments.
        num_val: validation moments.
        num_test: test moments.
        failures: probability of each sensor to be missing in a sample, in all splits; at least one is present.
        split_seed: of the moments and the failures.
    """

    def __init__(self, *, num_train: int, num_val: int, num_test: int, failures: float, split_seed: int) -> None:
        counts = {"train": num_train, "val": num_val, "test": num_test}
        for split, count in counts.items():
            if count < 1:
                raise InvalidValue(f"num_{split}", count, "must be at least 1", "1")
        check_fraction("failures", failures)
        self.items = {split: range(count) for split, count in counts.items()}
        self._moments = {split: draw_moments(count, _generator(split_seed, split)) for split, count in counts.items()}
        self._works = {
            split: _working(count, failures, _generator(split_seed, f"{split} failures"))
            for split, count in counts.items()
        }

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "camera": Spec({"pixels": Field((1, ROWS, COLUMNS), torch.uint8)}),
            "radar": Spec({"values": Field((None, 3), torch.float32, max_length=4)}),
            "map": Spec({"values": Field((None, 3), torch.float32, max_length=len(POINTS_M))}),
            "vehicle": class_spec(VEHICLES),
            "speed": Spec({"values": Field((1,), torch.float32)}),
            "label": class_spec(LABELS),
        }

    def sample(self, item: int, split: str) -> Sample:
        moments, num_echoes = self._moments[split]
        sample = {name: {key: values[item] for key, values in fields.items()} for name, fields in moments.items()}
        sample["radar"]["values"] = sample["radar"]["values"][: num_echoes[item]]
        failed = [name for name, works in zip(SENSORS, self._works[split][item].tolist(), strict=True) if not works]
        return {name: fields for name, fields in sample.items() if name not in failed}


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(random.Random(f"{seed} {part}").getrandbits(63))


def _working(count: int, failures: float, generator: torch.Generator) -> Bool[Tensor, "N sensors"]:
    draws = torch.rand(count, len(SENSORS), generator=generator)
    return (draws >= failures) | (draws == draws.amax(1, keepdim=True))
