"""What each sensor brings to simulated driving, and what is left when sensors fail. Trains six small models.

Left: models that learn from one sensor more each time. Right: sensors are taken from two models that know all of them,
in the test only, the mean over all choices of so many; one of the two has learnt with modality dropout.

    python scripts/driving_curves.py FOLDER [--steps 1000] [--seed 1] [--dropout 0.3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure

import mmtx
from mmtx.commands.main import main as run
from mmtx.data.loaders import DataModule
from mmtx.data.multimodal.driving import SENSORS
from mmtx.evaluate import evaluate_learner
from mmtx.learner import Learner

SETS = [SENSORS[-count:] for count in range(1, len(SENSORS) + 1)]


def trained(folder: Path, sensors: tuple[str, ...], *overrides: str) -> Learner:
    """A model of these sensors; from the folder where it is there already."""
    if not (folder / "metrics.json").is_file():
        words = ["train", "experiment=driving", f"modality=[{','.join(sensors)}]", "logger=[]", "callbacks=[]"]
        if run([*words, f"run_dir={folder}", *overrides]) != 0:
            raise SystemExit(f"no model in {folder}")
    return mmtx.load(folder)


def accuracy(learner: Learner, data: DataModule, missing: tuple[str, ...] = ()) -> float:
    """On the test, without some sensors."""
    metrics = evaluate_learner(learner, data, "test", missing)
    assert metrics is not None
    return metrics["test/accuracy"]


def without(learner: Learner, data: DataModule) -> list[float]:
    """Accuracy when 0, 1, ... sensors fail; the mean over which."""
    return [
        statistics.mean(accuracy(learner, data, missing) for missing in itertools.combinations(SENSORS, count))
        for count in range(len(SENSORS))
    ]


def draw(brought: list[float], left: dict[str, list[float]], file: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    one, other = figure.subplots(1, 2, sharey=True)
    one.plot([f"+ {sensors[0]}" if len(sensors) > 1 else sensors[0] for sensors in SETS], brought, marker="o")
    one.set_title("sensors that the model learns from")
    one.set_ylabel("accuracy in the test")
    for name, curve in left.items():
        other.plot(range(len(curve)), curve, marker="o", label=name)
    other.set_title("sensors that fail in the test")
    other.set_xticks(range(len(SENSORS)))
    other.legend()
    figure.suptitle("simulated driving")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.3)
    given = parser.parse_args()
    length = [f"trainer.max_steps={given.steps}", f"seed={given.seed}"]
    data = mmtx.build(["experiment=driving"]).data
    brought = [accuracy(trained(given.folder / "+".join(names), names, *length), data) for names in SETS]
    whole = trained(given.folder / "+".join(SENSORS), SENSORS, *length)
    dropout = [f"modality_dropout.{name}={given.dropout}" for name in SENSORS]
    tough = trained(given.folder / "dropout", SENSORS, *length, *dropout)
    left = {"plain": without(whole, data), "modality dropout": without(tough, data)}
    draw(brought, left, given.folder / "curves.png")
    print(json.dumps({"brought": dict(zip(SENSORS[::-1], brought, strict=True)), "left": left}, indent=2))
    print(f"curves: {given.folder / 'curves.png'}")


if __name__ == "__main__":
    main()
