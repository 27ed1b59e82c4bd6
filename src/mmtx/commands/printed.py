"""What is printed about a run before it starts and after it ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmtx.experiment import Experiment
    from mmtx.run.directory import RunDirectory


def summary(experiment: Experiment) -> str:
    """The four choices in one line."""
    model = experiment.learner.model
    workers = f", {experiment.data.num_workers} workers" if experiment.data.num_workers else ""
    tokens = ", ".join(f"{name} ({model.tokenizer(name).max_tokens} tokens)" for name in model.names)
    return (
        f"{experiment.config['name']}: set [{tokens}], objectives [{', '.join(experiment.learner.objectives)}], "
        f"{experiment.learner.num_parameters:,} parameters, {experiment.total_steps:,} steps of "
        f"{experiment.samples_per_step} samples, {experiment.data.num_train:,} training samples{workers}"
    )


def print_results(run: RunDirectory) -> None:
    """The final metrics of each split, and the pictures, else files, that the last step left in ``samples/``."""
    metrics = json.loads(run.metrics.read_text())
    for split in ("val", "test"):
        shown = [
            f"{key} {value:.4g}" for key, value in metrics.items() if key.startswith(f"{split}/") and value is not None
        ]
        if shown:
            print("  ".join(shown))
    # a sound of the last step is ..._step000600_7.wav
    found = {file: re.search(r"_step(\d+)", file.stem) for file in run.samples.glob("*_step*")}
    steps = {file: int(step[1]) for file, step in found.items() if step}
    drawn = [sample for sample in steps if sample.suffix == ".png"] or list(steps)
    for sample in sorted(drawn):
        if steps[sample] == max(steps.values()):
            print(f"samples: {sample}")
