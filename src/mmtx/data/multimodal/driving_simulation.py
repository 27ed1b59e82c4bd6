"""The simulation of `mmtx.data.Driving`: road, traffic and vehicle, the driver's decision, and the five sensors.

Axes: N moments, P points of the map, E echoes, H rows and W columns of the picture. Metres, seconds and radians; left
is positive.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mmtx.batch import Sample

VEHICLES = ("car", "van", "lorry", "sports car")
ACCELERATION = torch.tensor([1.5, 1.1, 0.7, 2.5])
"""Usual acceleration of each vehicle, m/s²."""
BRAKING = torch.tensor([2.0, 1.6, 1.2, 3.0])
"""Comfortable braking of each vehicle, m/s²."""
CORNERING = torch.tensor([3.0, 2.2, 1.5, 4.5])
"""Lateral acceleration of each vehicle in a curve, m/s²."""
HEADWAY_S = torch.tensor([1.2, 1.6, 2.2, 0.9])
"""Time gap to the car in front, of each vehicle."""

LIMITS = torch.tensor([50.0, 80.0, 100.0, 130.0]) / 3.6
POINTS_M = torch.arange(12) * 10.0
"""Distances of the points of the map."""
STANDSTILL_M, PREVIEW_S = 2.0, 1.5
LANE_M = 3.5

ROWS, COLUMNS, HORIZON = 16, 32, 4
CAMERA_HEIGHT_M, FOCAL_PIXELS = 1.4, 24.0

SPEEDS = ("brake", "", "accelerate")
SIDES = ("left", "", "right")
LABELS = tuple(" ".join(filter(None, pair)) or "keep" for pair in ((s, d) for s in SPEEDS for d in SIDES))


@dataclass(frozen=True)
class _State:
    """The true state. `gap` and `closing` speed are those of the car in front and of one in the next lane, on
    `side`."""

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


def draw_moments(count: int, generator: torch.Generator) -> tuple[Sample, Int[Tensor, " N"]]:
    """The readings of the sensors and the label of many moments; and how many of the 4 echoes of each are there."""
    state = _draw_state(count, generator)
    echoes, num_echoes = _radar(state, generator)
    moments = {
        "camera": {"pixels": _camera(state, generator)},
        "radar": {"values": echoes},
        "map": {"values": _map(state)},
        "vehicle": {"class": state.vehicle},
        "speed": {"values": state.speed[:, None] / 20},
        "label": {"class": _drive(state)},
    }
    return moments, num_echoes


def _draw_state(count: int, generator: torch.Generator) -> _State:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def normal(std: float, *shape: int) -> Tensor:
        return std * torch.randn(count, *shape, generator=generator)

    limit = LIMITS[torch.randint(len(LIMITS), (count,), generator=generator)]
    # one curve after another, with a normally distributed lateral acceleration at the speed limit
    here, ahead, turn = normal(1.5), normal(3.5), uniform(0.0, 120.0)
    share = ((POINTS_M - turn[:, None]) / 30).sigmoid()
    return _State(
        vehicle=torch.randint(len(VEHICLES), (count,), generator=generator),
        speed=limit * uniform(0.5, 1.15),
        limit=limit,
        curvature=(here[:, None] * (1 - share) + ahead[:, None] * share) / limit[:, None] ** 2,
        offset=normal(0.5),
        heading=normal(0.03),
        gap=uniform(math.log(6), math.log(150), 2).exp(),
        closing=normal(4.0, 2),
        width=uniform(1.6, 2.6, 2),
        side=(2 * torch.randint(2, (count,), generator=generator) - 1).float(),
        beside=uniform(0.0, 1.0) < 0.7,
    )


# --- the driver -------------------------------------------------------------------------------------------------------


def _drive(state: _State) -> Int[Tensor, " N"]:
    """The index in `LABELS` of the driver's decision."""
    acceleration, sideways = _intelligent_driver(state), _steer(state)
    speeds = (acceleration > -0.5).long() + (acceleration > 0.3).long()
    sides = (sideways < 0.7).long() + (sideways < -0.7).long()
    return 3 * speeds + sides


def _intelligent_driver(state: _State) -> Float[Tensor, " N"]:
    """Acceleration, m/s²."""
    own, braking = ACCELERATION[state.vehicle], BRAKING[state.vehicle]
    in_curve = (CORNERING[state.vehicle, None] / state.curvature.abs().clamp(min=1e-5)).sqrt()
    now = (in_curve**2 + 2 * braking[:, None] * POINTS_M).sqrt().amin(1)  # from which it can still brake for each point
    desired = torch.minimum(now, state.limit)
    gap, closing = state.gap[:, 0], state.closing[:, 0]
    desired_gap = state.speed * HEADWAY_S[state.vehicle] + state.speed * closing / (2 * (own * braking).sqrt())
    desired_gap = STANDSTILL_M + desired_gap.clamp(min=0)
    return own * (1 - (state.speed / desired) ** 4 - (desired_gap / gap) ** 2)


def _steer(state: _State) -> Float[Tensor, " N"]:
    """Lateral acceleration that follows the road and brings the car to the middle of its lane, m/s²."""
    away = state.offset + PREVIEW_S * state.speed * state.heading
    return state.speed**2 * state.curvature[:, 0] - 2 * away / PREVIEW_S**2


# --- sensors ----------------------------------------------------------------------------------------------------------


def _map(state: _State) -> Float[Tensor, "N P 3"]:
    """For each point: distance (100 m), curvature (1 / 100 m), speed limit (30 m/s)."""
    ahead, limit = (POINTS_M / 100).expand_as(state.curvature), (state.limit / 30)[:, None]
    return torch.stack([ahead, state.curvature * 100, limit.expand_as(ahead)], dim=2)


def _radar(state: _State, generator: torch.Generator) -> tuple[Float[Tensor, "N 4 3"], Int[Tensor, " N"]]:
    """For each echo, in random order: distance (50 m), closing speed (10 m/s), strength (20 dB); and their number. Up
    to two are clutter."""
    count = len(state.speed)

    def normal(std: float) -> Tensor:
        return std * torch.randn(count, 4, generator=generator)

    clutter = math.log(6) + math.log(150 / 6) * torch.rand(count, 2, generator=generator)
    distance = torch.cat([state.gap, clutter.exp()], dim=1)
    strength = (-40 * (distance / 30).log10() + normal(5.0)) / 20
    closing = torch.cat([state.closing, normal(8.0)[:, :2]], dim=1)
    echoes = torch.stack([(distance + normal(0.5)) / 50, (closing + normal(0.3)) / 10, strength], dim=2)
    visible = torch.rand(count, 4, generator=generator) < 0.25
    visible[:, 0], visible[:, 1] = True, state.beside
    order = (torch.rand(count, 4, generator=generator) + (~visible).float()).argsort(dim=1)
    return echoes.gather(1, order[..., None].expand(-1, -1, 3)), visible.sum(1)


def _camera(state: _State, generator: torch.Generator) -> UInt8[Tensor, "N 1 H W"]:
    """Road, lane markings and cars in perspective, in good and bad light."""
    count = len(state.speed)
    rows = torch.arange(ROWS) + 0.5
    columns = (COLUMNS / 2 - torch.arange(COLUMNS) - 0.5) / FOCAL_PIXELS  # sideways at 1 m, to the left
    light = 0.25 + 0.75 * torch.rand(count, 1, 1, generator=generator)
    noise = 0.06 * torch.randn(count, ROWS, COLUMNS, generator=generator)
    ahead = FOCAL_PIXELS * CAMERA_HEIGHT_M / (rows - HORIZON).clamp(min=0.4)  # metres of road that a row shows
    middle = _middle(state, ahead)
    sideways = columns * ahead[:, None] - middle[..., None]  # N H W, metres from the middle of the own lane
    width = (ahead / FOCAL_PIXELS).clamp(min=0.2)[:, None]
    scene = torch.full((count, ROWS, COLUMNS), 0.35)
    for line in (-1.5, -0.5, 0.5, 1.5):
        visible = torch.ones(count) if abs(line) < 1 else (state.side * line > 0).float()  # marking of the next lane
        scene += 0.6 * visible[:, None, None] * (1 - (sideways - line * LANE_M).abs() / width).clamp(min=0)
    scene[:, :HORIZON] = 0.8
    for car in (1, 0):  # the car in front occludes the other
        lane = state.side * LANE_M * car
        centre = (_middle(state, state.gap[:, car, None]) + lane[:, None])[:, 0] / state.gap[:, car]
        half = state.width[:, car] / 2 / state.gap[:, car]
        foot = HORIZON + FOCAL_PIXELS * CAMERA_HEIGHT_M / state.gap[:, car]
        across = _overlap(columns, 1 / FOCAL_PIXELS, centre - half, centre + half)
        down = _overlap(rows, 1.0, foot - 2 * half * FOCAL_PIXELS * 0.8, foot)
        cover = down[:, :, None] * across[:, None, :]
        cover = cover * state.beside[:, None, None] if car else cover
        scene = scene * (1 - cover) + 0.05 * cover
    return ((scene * light + noise) * 255).round().clamp(0, 255).to(torch.uint8)[:, None]


def _middle(state: _State, ahead: Float[Tensor, "*N K"]) -> Float[Tensor, "N K"]:
    """Lateral position of the middle of the own lane, some metres ahead."""
    return -state.offset[:, None] - state.heading[:, None] * ahead + state.curvature[:, :1] * ahead**2 / 2


def _overlap(
    centres: Float[Tensor, " K"], size: float, low: Float[Tensor, " N"], high: Float[Tensor, " N"]
) -> Float[Tensor, "N K"]:
    """The share of each pixel that lies between two bounds."""
    inside = torch.minimum(centres + size / 2, high[:, None]) - torch.maximum(centres - size / 2, low[:, None])
    return inside.clamp(min=0) / size
