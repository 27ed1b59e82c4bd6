"""Simulated driving."""

import math

import pytest
import torch
from contracts import check_source

from mmtx.data.multimodal import driving_simulation as simulation
from mmtx.data.multimodal.driving import SENSORS, Driving
from mmtx.data.multimodal.driving_simulation import LABELS, LANE_M
from mmtx.errors import InvalidValue

STRAIGHT = {"curvature": 0.0, "offset": 0.0, "heading": 0.0, "vehicle": 0, "limit": 36.0, "speed": 20.0}
FREE = {**STRAIGHT, "gap": 1e6, "closing": 0.0}


def source(**changes):
    return Driving(**{"num_train": 60, "num_val": 20, "num_test": 20, "failures": 0.0, "split_seed": 0, **changes})


def environment(count=1, **changes):
    """The same moment `count` times: nothing near on a straight road unless a test says otherwise."""
    values = {**FREE, **changes}
    pair = torch.ones(count, 2)
    return simulation._State(
        vehicle=torch.full((count,), values["vehicle"]),
        speed=torch.full((count,), values["speed"]),
        limit=torch.full((count,), values["limit"]),
        curvature=torch.as_tensor(values["curvature"], dtype=torch.float32).expand(count, len(simulation.POINTS_M)),
        offset=torch.full((count,), values["offset"]),
        heading=torch.full((count,), values["heading"]),
        gap=pair * values["gap"],
        closing=pair * values["closing"],
        width=pair * 2.0,
        side=torch.ones(count),
        beside=torch.full((count,), values.get("beside", False)),
    )


@pytest.mark.parametrize("failures", [0.0, 0.5])
def test_contract(failures):
    check_source(source(failures=failures))


def test_every_label_is_there():
    train = source(num_train=1000).train()
    labels = torch.stack([train[i]["label"]["class"] for i in range(1000)])
    assert labels.bincount(minlength=9).min() > 20 and LABELS[4] == "keep"


# --- the driver -------------------------------------------------------------------------------------------------------


def acceleration(**changes):
    return float(simulation._intelligent_driver(environment(**changes))[0])


def test_the_driver_is_the_intelligent_driver_model():
    """By scalars, for random moments."""
    truth = simulation._draw_state(200, torch.Generator().manual_seed(0))
    for i, given in enumerate(simulation._intelligent_driver(truth).tolist()):
        kind, v = int(truth.vehicle[i]), float(truth.speed[i])
        a, b = float(simulation.ACCELERATION[kind]), float(simulation.BRAKING[kind])
        v0 = float(truth.limit[i])
        for point, curvature in enumerate(truth.curvature[i].tolist()):
            in_curve = math.sqrt(float(simulation.CORNERING[kind]) / max(abs(curvature), 1e-5))
            v0 = min(v0, math.sqrt(in_curve**2 + 2 * b * 10 * point))
        s, dv = float(truth.gap[i, 0]), float(truth.closing[i, 0])
        wanted = 2 + max(0.0, v * float(simulation.HEADWAY_S[kind]) + v * dv / (2 * math.sqrt(a * b)))
        assert given == pytest.approx(a * (1 - (v / v0) ** 4 - (wanted / s) ** 2), rel=1e-3, abs=1e-3)


def test_the_driver_is_careful():
    assert acceleration(speed=36.0) == pytest.approx(0, abs=1e-3), "at the limit, on a free road"
    assert acceleration() > 1 > 0 > acceleration(speed=40.0)
    assert acceleration(gap=20.0, closing=5.0) < acceleration(gap=20.0) < acceleration(gap=80.0)
    curve = torch.where(simulation.POINTS_M >= 50, 1 / 30, 0.0)
    assert acceleration(curvature=curve) < 0 < acceleration(curvature=curve, speed=10.0)
    assert acceleration(gap=25.0, vehicle=2) < acceleration(gap=25.0, vehicle=3), "a lorry keeps more distance"


def sideways(**changes):
    return float(simulation._steer(environment(**changes))[0])


def test_the_driver_steers_to_the_middle_and_along_the_road():
    assert sideways() == 0
    assert sideways(offset=1.0) < 0 < sideways(offset=-1.0), "from the left of the lane to the right"
    assert sideways(heading=0.05) < 0
    assert sideways(curvature=0.01) == pytest.approx(20**2 * 0.01)
    # after 1.5 s of it the car is in the middle
    assert 1.0 + sideways(offset=1.0) * 1.5**2 / 2 == pytest.approx(0, abs=1e-5)


def test_labels_say_what_the_driver_does():
    def label(**changes):
        return LABELS[int(simulation._drive(environment(**changes))[0])]

    assert (label(), label(speed=36.0), label(speed=42.0)) == ("accelerate", "keep", "brake")
    assert (label(offset=1.5), label(offset=-1.5, speed=42.0)) == ("accelerate right", "brake left")
    assert label(speed=36.0, offset=-1.5) == "left"


# --- sensors ----------------------------------------------------------------------------------------------------------


def picture(**changes):
    """The mean of many pictures of one moment, in all kinds of light."""
    return simulation._camera(environment(300, **changes), torch.Generator().manual_seed(0)).float().mean((0, 1))


def line_columns(**changes):
    """Where the two lines of the own lane are in the lowest row, in pixels from the middle, to the right."""
    row = picture(**changes)[-1]
    return sorted((row - row.median()).topk(2).indices.tolist())


def test_the_camera_sees_the_lane():
    straight = picture()
    assert (straight - straight.flip(1))[10:].abs().max() < 8, "near, where there is one lane, left and right are alike"
    ahead = simulation.FOCAL_PIXELS * simulation.CAMERA_HEIGHT_M / (simulation.ROWS - 0.5 - simulation.HORIZON)
    half = LANE_M / 2 / ahead * simulation.FOCAL_PIXELS
    left, right = line_columns()
    assert left == pytest.approx(15.5 - half, abs=1) and right == pytest.approx(15.5 + half, abs=1)
    assert line_columns(offset=0.5)[0] > left, "further to the left in the lane, its left line is nearer"
    far = simulation.HORIZON + 1
    middle = (picture(curvature=0.01)[far] - straight[far]).topk(2).indices.float().mean()
    assert middle < 15.5, "a curve to the left"


def test_the_camera_sees_cars():
    empty, near, far = picture(), picture(gap=10.0), picture(gap=60.0)
    assert (empty - near).sum() > 3 * (empty - far).sum() > 0
    rows, columns = torch.arange(simulation.ROWS) + 0.5, torch.arange(simulation.COLUMNS) + 0.5
    dark = (empty - near).clamp(min=3) - 3
    assert float((dark.sum(0) * columns).sum() / dark.sum()) == pytest.approx(16, abs=0.3)
    foot = simulation.HORIZON + simulation.FOCAL_PIXELS * simulation.CAMERA_HEIGHT_M / 10
    assert float(rows[dark.sum(1) > 1].max()) == pytest.approx(foot, abs=1)
    beside = (empty - picture(gap=10.0, beside=True)).clamp(min=3) - 3
    assert (beside.sum(0) * columns).sum() / beside.sum() < 13, "the other car is to the left"


def test_the_radar_measures_and_does_not_know_whom():
    truth = simulation._draw_state(400, torch.Generator().manual_seed(0))
    echoes, count = simulation._radar(truth, torch.Generator().manual_seed(1))
    first = 0
    for i in range(400):
        real = echoes[i, : count[i]]
        error = (real[:, 0] * 50 - truth.gap[i, 0]).abs() + (real[:, 1] * 10 - truth.closing[i, 0]).abs()
        assert error.min() < 4
        first += int(error.argmin() == 0)
    assert count.min() >= 1 and count.max() == 4
    assert 0.35 < first / 400 < 0.75, "the car in front is anywhere among them"


def test_the_map_knows_the_road():
    truth = simulation._draw_state(5, torch.Generator().manual_seed(0))
    points = simulation._map(truth)
    torch.testing.assert_close(points[:, :, 1] / 100, truth.curvature)
    torch.testing.assert_close(points[:, 3, 0], torch.full((5,), 0.3))
    torch.testing.assert_close(points[:, 0, 2] * 30, truth.limit)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_sensors_fail_with_their_probability_and_never_all():
    whole, broken = source(num_test=1000), source(num_test=1000, failures=0.8)
    lacks = dict.fromkeys(SENSORS, 0)
    for i in range(1000):
        sample, complete = broken.test()[i], whole.test()[i]
        assert set(complete) == {*SENSORS, "label"}
        assert "label" in sample and len(sample) >= 2
        for name in SENSORS:
            lacks[name] += name not in sample
        for name in sample:
            assert all(value.equal(complete[name][key]) for key, value in sample[name].items())
    # one stays in any case: 0.8 - 0.8^5 / 5
    assert all(count / 1000 == pytest.approx(0.8 - 0.8**5 / 5, abs=0.05) for count in lacks.values())


def test_splits_and_seeds_differ():
    made = source()
    speeds = [made.train()[0], made.val()[0], made.test()[0], source(split_seed=1).train()[0]]
    assert len({float(sample["speed"]["values"]) for sample in speeds}) == 4


@pytest.mark.parametrize(("key", "value"), [("num_train", 0), ("num_val", 0), ("failures", 1.0), ("failures", -0.1)])
def test_bad_values_are_named(key, value):
    with pytest.raises(InvalidValue, match=f"^{key}={value} must "):
        source(**{key: value})
