"""A mixture against its single-task twins: how much each part loses by sharing one backbone.

A twin has the same backbone, learning rate and number of steps, and in each step as many samples of its one part as the
mixture has there on average; so both have learnt from the same number of them. Twins stay under RUN/twins; one that is
there already is not trained again.

    mmtx train experiment=generalist run_dir=RUN
    python scripts/generalist_twins.py RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

import mmtx
from mmtx.commands.main import main as run
from mmtx.config.stored import read_config
from mmtx.experiment import construct_source

METRICS = ("success_rate", "return", "perplexity", "accuracy")
"""The first of these that a part has is what it is judged by; on the test, or where there is none, on validation."""


def twin_of(config: dict[str, Any], part: str, names: list[str], objectives: list[str]) -> dict[str, Any]:
    """The config of the run, with one part only."""
    data, weights = config["data"], config["data"]["weights"]
    alone = {
        "parts": {part: data["parts"][part]},
        "weights": {part: 1},
        "names": {part: data["names"].get(part, {})},
    }
    batch_size = round(config["loader"]["batch_size"] * weights[part] / sum(weights.values()))
    loader = {**config["loader"], "batch_size": batch_size}
    chosen = {
        key: {name: config[key][name] for name in taken}
        for key, taken in (("modality", names), ("objective", objectives))
    }
    changed = {"data": {**data, **alone}, "loader": loader, "callbacks": {}, "logger": {}, "run_dir": None}
    return {**config, **chosen, **changed}


def trained(folder: Path, config: dict[str, Any]) -> None:
    """Trains a twin, where it is not there yet."""
    if (folder / "metrics.json").is_file():
        return
    folder.parent.mkdir(exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    if run(["train", "--config", str(file), f"run_dir={folder}"]) != 0:
        raise SystemExit(f"no twin in {folder}")


def judged(metrics: dict[str, float], part: str) -> tuple[str, float]:
    """What a part is judged by, and its value."""
    names = [f"{split}/{part}/{metric}" for metric in METRICS for split in ("test", "val")]
    name = next(name for name in names if name in metrics)
    return name, metrics[name]


def minutes(folder: Path) -> float:
    status = json.loads((folder / "status.json").read_text())
    return (status["ended"] - status["started"]) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of the mixture's run, which has ended")
    folder = parser.parse_args().run
    config = read_config(folder / "config.yaml")
    together, learner = json.loads((folder / "metrics.json").read_text()), mmtx.load(folder)
    rows = []
    for part, source in construct_source(config).parts.items():
        names = [name for name in learner.model.names if name in source.specs]
        twin = folder / "twins" / part
        config_of_twin = twin_of(config, part, names, learner.applying(source.specs))
        trained(twin, config_of_twin)
        metric, alone = judged(json.loads((twin / "metrics.json").read_text()), part)
        samples = config["trainer"]["max_steps"] * config_of_twin["loader"]["batch_size"]
        rows.append(f"| {part} | {samples:,} | {metric} | {together[metric]:.3f} | {alone:.3f} | {minutes(twin):.1f} |")
    print("| part | samples | metric | mixture | twin | minutes of the twin |\n|---|---|---|---|---|---|")
    print("\n".join(rows))
    print(f"\nthe mixture took {minutes(folder):.1f} minutes")


if __name__ == "__main__":
    main()
