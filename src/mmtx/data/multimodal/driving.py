"""Moments of driving, simulated: what five sensors tell of a car on a road, and what a careful driver does next.

Nothing here was recorded. A small physical model draws the road, the traffic and the vehicle; each sensor shows a part
of them, as it would: the camera sees lanes and cars and is bad at distances, the radar measures distances and speeds
and knows no lanes, the map knows the road ahead and no cars.

Axes: N moments, P points of the map, E echoes, H rows and W columns of the picture. Metres, seconds and radians; to the
left is positive.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.errors import InvalidValue, check_fraction

SENSORS = ("camera", "radar", "map", "vehicle", "speed")
VEHICLES = ("car", "van", "lorry", "sports car")
ACCELERATION = torch.tensor([1.5, 1.1, 0.7, 2.5])
"""Of each vehicle at its usual, m/s²."""
BRAKING = torch.tensor([2.0, 1.6, 1.2, 3.0])
"""Of each vehicle where it is comfortable, m/s²."""
CORNERING = torch.tensor([3.0, 2.2, 1.5, 4.5])
"""Sideways in a curve, m/s²."""
HEADWAY_S = torch.tensor([1.2, 1.6, 2.2, 0.9])
"""To the car in front."""

LIMITS = torch.tensor([50.0, 80.0, 100.0, 130.0]) / 3.6
POINTS_M = torch.arange(12) * 10.0
"""Where the map has points, ahead."""
STANDSTILL_M, PREVIEW_S = 2.0, 1.5
LANE_M = 3.5

ROWS, COLUMNS, HORIZON = 16, 32, 4
CAMERA_HEIGHT_M, FOCAL_PIXELS = 1.4, 24.0

SPEEDS = ("brake", "", "accelerate")
SIDES = ("left", "", "right")
LABELS = tuple(" ".join(filter(None, pair)) or "keep" for pair in ((s, d) for s in SPEEDS for d in SIDES))


class Driving(Source):
    """Names: ``camera`` (a picture, 1 x 16 x 32), ``radar`` (1 to 4 echoes), ``map`` (12 points of the road ahead),
    ``vehicle`` (its type), ``speed``; ``label``: brake, keep speed or accelerate, and steer left, straight or right.

    How fast to go is the intelligent driver model (Treiber et al. 2000, Phys. Rev. E 62, 1805), whose desired speed
    keeps to the limit and comes down in time for the curves ahead; where to steer is what brings the car to the middle
    of its lane in 1.5 s. The label is a function of the whole truth; the sensors tell of it with noise.

    Args:
        num_train: moments to learn from.
        num_val: held out to watch training.
        num_test: to test on.
        failures: chance of every sensor to be missing in a sample, in all splits; one stays in any case.
        split_seed: which moments there are, and what fails.
    """

    def __init__(self, *, num_train: int, num_val: int, num_test: int, failures: float, split_seed: int) -> None:
        counts = {"train": num_train, "val": num_val, "test": num_test}
        for split, count in counts.items():
            if count < 1:
                raise InvalidValue(f"num_{split}", count, "must be at least 1", "1")
        check_fraction("failures", failures)
        self._moments = {split: _draw(count, _generator(split_seed, split)) for split, count in counts.items()}
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


@dataclass(frozen=True)
class _Moments:
    """What the sensors tell, and what is right."""

    pixels: UInt8[Tensor, "N 1 H W"]
    echoes: Float[Tensor, "N 4 3"]
    num_echoes: Int[Tensor, " N"]
    points: Float[Tensor, "N P 3"]
    vehicle: Int[Tensor, " N"]
    speed: Float[Tensor, "N 1"]
    label: Int[Tensor, " N"]


@dataclass(frozen=True)
class _World:
    """The truth. `gap` and `closing` are those of the car in front and of one in the lane beside, on `side`."""

    vehicle: Int[Tensor, " N"]
    speed: Float[Tensor, " N"]
    limit: Float[Tensor, " N"]
    curvature: Float[Tensor, "N P"]
    offset: Float[Tensor, " N"]
    heading: Float[Tensor, " N"]
    gap: Float[Tensor, "N 2"]
    closing: Float[Tensor, "N 2"]
    width: Float[Tensor, "N 2"]
    side: Float[Tensor, " N"]
    beside: Bool[Tensor, " N"]


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(random.Random(f"{seed} {part}").getrandbits(63))


def _working(count: int, failures: float, generator: torch.Generator) -> Bool[Tensor, "N sensors"]:
    draws = torch.rand(count, len(SENSORS), generator=generator)
    return (draws >= failures) | (draws == draws.amax(1, keepdim=True))


def _draw(count: int, generator: torch.Generator) -> _Moments:
    world = _world(count, generator)
    echoes, num_echoes = _radar(world, generator)
    return _Moments(
        pixels=_camera(world, generator),
        echoes=echoes,
        num_echoes=num_echoes,
        points=_map(world),
        vehicle=world.vehicle,
        speed=world.speed[:, None] / 20,
        label=_drive(world),
    )


def _world(count: int, generator: torch.Generator) -> _World:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def normal(std: float, *shape: int) -> Tensor:
        return std * torch.randn(count, *shape, generator=generator)

    limit = LIMITS[torch.randint(len(LIMITS), (count,), generator=generator)]
    # a curve ahead after another; at the limit, each would push sideways with some m/s²
    here, there, turn = normal(1.5), normal(3.5), uniform(0.0, 120.0)
    share = ((POINTS_M - turn[:, None]) / 30).sigmoid()
    return _World(
        vehicle=torch.randint(len(VEHICLES), (count,), generator=generator),
        speed=limit * uniform(0.5, 1.15),
        limit=limit,
        curvature=(here[:, None] * (1 - share) + there[:, None] * share) / limit[:, None] ** 2,
        offset=normal(0.5),
        heading=normal(0.03),
        gap=uniform(math.log(6), math.log(150), 2).exp(),
        closing=normal(4.0, 2),
        width=uniform(1.6, 2.6, 2),
        side=(2 * torch.randint(2, (count,), generator=generator) - 1).float(),
        beside=uniform(0.0, 1.0) < 0.7,
    )


# --- what is right ----------------------------------------------------------------------------------------------------


def _drive(world: _World) -> Int[Tensor, " N"]:
    """What the driver does, of `LABELS`."""
    acceleration, sideways = _intelligent_driver(world), _steer(world)
    speeds = (acceleration > -0.5).long() + (acceleration > 0.3).long()
    sides = (sideways < 0.7).long() + (sideways < -0.7).long()
    return 3 * speeds + sides


def _intelligent_driver(world: _World) -> Float[Tensor, " N"]:
    """Acceleration, m/s²."""
    own, braking = ACCELERATION[world.vehicle], BRAKING[world.vehicle]
    in_curve = (CORNERING[world.vehicle, None] / world.curvature.abs().clamp(min=1e-5)).sqrt()
    now = (in_curve**2 + 2 * braking[:, None] * POINTS_M).sqrt().amin(1)  # braking from here, it is slow enough there
    desired = torch.minimum(now, world.limit)
    gap, closing = world.gap[:, 0], world.closing[:, 0]
    wanted = world.speed * HEADWAY_S[world.vehicle] + world.speed * closing / (2 * (own * braking).sqrt())
    wanted = STANDSTILL_M + wanted.clamp(min=0)
    return own * (1 - (world.speed / desired) ** 4 - (wanted / gap) ** 2)


def _steer(world: _World) -> Float[Tensor, " N"]:
    """Sideways acceleration that keeps to the road and takes the car to the middle of its lane, m/s²."""
    away = world.offset + PREVIEW_S * world.speed * world.heading
    return world.speed**2 * world.curvature[:, 0] - 2 * away / PREVIEW_S**2


# --- sensors ----------------------------------------------------------------------------------------------------------


def _map(world: _World) -> Float[Tensor, "N P 3"]:
    """Of each point: how far ahead (100 m), curvature (1 / 100 m), speed limit (30 m/s)."""
    ahead, limit = (POINTS_M / 100).expand_as(world.curvature), (world.limit / 30)[:, None]
    return torch.stack([ahead, world.curvature * 100, limit.expand_as(ahead)], dim=2)


def _radar(world: _World, generator: torch.Generator) -> tuple[Float[Tensor, "N 4 3"], Int[Tensor, " N"]]:
    """Of each echo, in no order: distance (50 m), closing speed (10 m/s), strength (20 dB). Up to two are of nothing
    that matters. Also, how many there are."""
    count = len(world.speed)

    def normal(std: float) -> Tensor:
        return std * torch.randn(count, 4, generator=generator)

    nothing = math.log(6) + math.log(150 / 6) * torch.rand(count, 2, generator=generator)
    distance = torch.cat([world.gap, nothing.exp()], dim=1)
    strength = (-40 * (distance / 30).log10() + normal(5.0)) / 20
    closing = torch.cat([world.closing, normal(8.0)[:, :2]], dim=1)
    echoes = torch.stack([(distance + normal(0.5)) / 50, (closing + normal(0.3)) / 10, strength], dim=2)
    there = torch.rand(count, 4, generator=generator) < 0.25
    there[:, 0], there[:, 1] = True, world.beside
    order = (torch.rand(count, 4, generator=generator) + (~there).float()).argsort(dim=1)
    return echoes.gather(1, order[..., None].expand(-1, -1, 3)), there.sum(1)


def _camera(world: _World, generator: torch.Generator) -> UInt8[Tensor, "N 1 H W"]:
    """Road, lines and cars in perspective, in good and bad light."""
    count = len(world.speed)
    rows = torch.arange(ROWS) + 0.5
    columns = (COLUMNS / 2 - torch.arange(COLUMNS) - 0.5) / FOCAL_PIXELS  # sideways at 1 m, to the left
    light = 0.25 + 0.75 * torch.rand(count, 1, 1, generator=generator)
    noise = 0.06 * torch.randn(count, ROWS, COLUMNS, generator=generator)
    ahead = FOCAL_PIXELS * CAMERA_HEIGHT_M / (rows - HORIZON).clamp(min=0.4)  # metres of road that a row shows
    middle = _middle(world, ahead)
    sideways = columns * ahead[:, None] - middle[..., None]  # N H W, metres from the middle of the own lane
    width = (ahead / FOCAL_PIXELS).clamp(min=0.2)[:, None]
    scene = torch.full((count, ROWS, COLUMNS), 0.35)
    for line in (-1.5, -0.5, 0.5, 1.5):
        there = torch.ones(count) if abs(line) < 1 else (world.side * line > 0).float()  # of the lane beside
        scene += 0.6 * there[:, None, None] * (1 - (sideways - line * LANE_M).abs() / width).clamp(min=0)
    scene[:, :HORIZON] = 0.8
    for car in (1, 0):  # the one in front hides the other
        lane = world.side * LANE_M * car
        centre = (_middle(world, world.gap[:, car, None]) + lane[:, None])[:, 0] / world.gap[:, car]
        half = world.width[:, car] / 2 / world.gap[:, car]
        foot = HORIZON + FOCAL_PIXELS * CAMERA_HEIGHT_M / world.gap[:, car]
        across = _overlap(columns, 1 / FOCAL_PIXELS, centre - half, centre + half)
        down = _overlap(rows, 1.0, foot - 2 * half * FOCAL_PIXELS * 0.8, foot)
        cover = down[:, :, None] * across[:, None, :]
        cover = cover * world.beside[:, None, None] if car else cover
        scene = scene * (1 - cover) + 0.05 * cover
    return ((scene * light + noise) * 255).round().clamp(0, 255).to(torch.uint8)[:, None]


def _middle(world: _World, ahead: Float[Tensor, "*N K"]) -> Float[Tensor, "N K"]:
    """How far to the left the middle of the own lane is, some metres ahead."""
    return -world.offset[:, None] - world.heading[:, None] * ahead + world.curvature[:, :1] * ahead**2 / 2


def _overlap(
    places: Float[Tensor, " K"], size: float, low: Float[Tensor, " N"], high: Float[Tensor, " N"]
) -> Float[Tensor, "N K"]:
    """The share of each pixel that lies between two bounds."""
    inside = torch.minimum(places + size / 2, high[:, None]) - torch.maximum(places - size / 2, low[:, None])
    return inside.clamp(min=0) / size
