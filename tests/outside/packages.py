"""The outside packages: the words that train each for 20 steps, and a working directory to do so."""

import json
import shutil
from pathlib import Path

from run_cli import TINY

HERE = Path(__file__).parent
TEXT = ["data=text_file", "data.path=text.txt", "data.context=11", "modality=[text]", *TINY[:3]]
SPELL = ["experiment=spell_digits", "data.num_val=24", *TINY[:3], "data/augment=none"]
"""Pictures and the names of their digits, which have three to five letters: rows are padded."""
TWICE = "trainer.accumulate_grad_batches=2"
"""Masks are drawn for each micro-batch, so half of a step is one of its two."""
STEPS = [
    *("logger=[]", "callbacks=[]", "loader.batch_size=8", "optim.warmup_steps=2", "log_every_steps=1"),
    *("trainer.max_steps=20", "trainer.val_every_steps=10", "checkpoint.every_steps=6"),
]
PLUGINS = {
    "recurrent_mixer": "my_lab",
    "router": "my_lab",
    "own_optimiser": "normalised",
    "own_generator": "unmask",
    "frozen_reference": "anchored",
    "own_picture": "rows",
}
CHOICES = {
    "recurrent_mixer": [*TEXT, "objective=[next_token]", "backbone=recurrent", "backbone.num_layers=3"],
    "router": [
        *(*SPELL, "objective=[next_token,balance]", "objective.balance.weight=1.0"),
        *("backbone=experts", "backbone.num_layers=2"),
    ],
    "own_optimiser": [*SPELL, "optim=normalised"],
    "own_generator": [*TEXT, "modality.text.causal=false", "objective=[unmask]", TWICE],
    "frozen_reference": [*SPELL, "objective=[anchored]", "objective.anchored.strength=1.0"],
    "own_picture": [*("data=digits", "data.num_val=24", "modality=[rows]", "objective=[classify]"), *TINY],
}


def train(package: str) -> list[str]:
    """The words that train with a package for 20 steps."""
    return ["train", *CHOICES[package], *STEPS, *plugin(package)]


def half_of(package: str) -> list[str]:
    """What gives half of each step to a rank."""
    return ["trainer.accumulate_grad_batches=1" if TWICE in CHOICES[package] else "loader.batch_size=4"]


def plugin(package: str) -> list[str]:
    return [f"plugins=[{PLUGINS[package]}]"]


def files(package: str) -> list[Path]:
    """The files that a user has written."""
    return sorted(file for file in (HERE / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def unpack(package: str, folder: Path) -> Path:
    """A working directory with the package, and with a text to learn from."""
    shutil.copytree(HERE / package, folder, dirs_exist_ok=True)
    (folder / "text.txt").write_text("to be, or not to be, that is the question:\n" * 40)
    return folder


def logged(run: Path, metric: str = "train/loss") -> list[float]:
    """A metric in the order of its rows."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[metric] for row in rows if metric in row]
