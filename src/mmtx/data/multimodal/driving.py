"""Simulated driving: what five sensors measure of a car on a road, and what a careful driver does next.

Nothing is recorded. A small physical model draws road, traffic and vehicle, and each sensor shows a part of them: the
camera sees lanes and cars and is poor at distances, the radar measures distances and speeds and sees no lanes, the map
has the road ahead and no cars.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.multimodal.driving_simulation import COLUMNS, LABELS, POINTS_M, ROWS, VEHICLES, draw_moments
from mmtx.errors import InvalidValue, check_fraction

SENSORS = ("camera", "radar", "map", "vehicle", "speed")


class Driving(Source):
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
            "vehicle": Spec({"class": Field((), torch.long, num_classes=len(VEHICLES))}, class_names=VEHICLES),
            "speed": Spec({"values": Field((1,), torch.float32)}),
            "label": Spec({"class": Field((), torch.long, num_classes=len(LABELS))}, class_names=LABELS),
        }

    def train(self) -> Split:
        return self._split("train")

    def val(self) -> Split:
        return self._split("val")

    def test(self) -> Split:
        return self._split("test")

    def _split(self, split: str) -> Split:
        return Samples(len(self._works[split]), partial(self._sample, split))

    def _sample(self, split: str, i: int) -> Sample:
        moments = self._moments[split]
        sample = {
            "camera": {"pixels": moments.pixels[i]},
            "radar": {"values": moments.echoes[i, : moments.num_echoes[i]]},
            "map": {"values": moments.points[i]},
            "vehicle": {"class": moments.vehicle[i]},
            "speed": {"values": moments.speed[i]},
        }
        working = {
            name: sample[name] for name, works in zip(SENSORS, self._works[split][i].tolist(), strict=True) if works
        }
        return {**working, "label": {"class": moments.label[i]}}


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(random.Random(f"{seed} {part}").getrandbits(63))


def _working(count: int, failures: float, generator: torch.Generator) -> Bool[Tensor, "N sensors"]:
    draws = torch.rand(count, len(SENSORS), generator=generator)
    return (draws >= failures) | (draws == draws.amax(1, keepdim=True))
