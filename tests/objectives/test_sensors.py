"""A set of sensors: six vectors and a picture in every step, and one action. No modality of it is a special one."""

from __future__ import annotations

from typing import Any

import torch
from builders import POSITIONS, action, backbone, image, model, pictures_spec, series, series_spec, steps_batch

from mmtx.batch import Batch
from mmtx.nn.positions import Learned
from mmtx.tokens import Clock

NUM_ACTIONS, STEPS = 4, 3
SENSORS = {f"sensor_{size}": series_spec(size) for size in range(1, 7)}
SPECS = {**SENSORS, "camera": pictures_spec(), "action": series_spec(num_classes=NUM_ACTIONS)}


def drive(count: int, seed: int) -> Batch:
    """Steps whose action follows from one sensor, and from whether the picture of the same step is bright."""
    batch = steps_batch(SPECS, [STEPS] * count, seed=seed)
    bright = torch.randint(0, 2, (count, STEPS), generator=torch.Generator().manual_seed(seed))
    batch["camera"]["pixels"].copy_((255 * bright)[:, :, None, None, None].expand_as(batch["camera"]["pixels"]))
    batch["action"]["class"].copy_(2 * bright + (batch["sensor_3"]["values"][..., 0] > 0))
    return batch


def test_sensors_and_a_picture_are_learned_by_the_same_objective(unchecked: None) -> None:
    torch.manual_seed(0)
    tokenizers: dict[str, Any] = {name: series(spec) for name, spec in SENSORS.items()}
    tokenizers["camera"] = image(SPECS["camera"], clock="step")
    tokenizers["action"] = series(SPECS["action"])
    clocks = {"step": Clock(embedding=Learned)}
    whole = model(tokenizers, backbone(positions=POSITIONS["learned"]), clocks=clocks)
    objective = action(whole, SPECS, read="camera")
    optimiser = torch.optim.Adam([*whole.parameters(), *objective.parameters()], lr=3e-3)
    for step in range(80):
        score = objective(whole, drive(64, step))
        optimiser.zero_grad()
        (score.loss_sum / score.count).backward()
        optimiser.step()
    right = objective.metrics(objective(whole, drive(200, 1000)))["accuracy"]
    assert right > 0.9, f"{right:.2f} of the actions; chance is {1 / NUM_ACTIONS}"
