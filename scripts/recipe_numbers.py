"""The numbers of every recipe on tiny data: initial weights, the first 20 losses, final metrics.

``python scripts/recipe_numbers.py FILE`` records them, and with ``--against EARLIER`` prints what differs from an
earlier record and ends with exit code 1 if anything does. Numbers are equal bit for bit on one machine, with the same
packages and thread count; names of parameters are part of them. What a change of code must leave alone is recorded
before it and compared after.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": ""}
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import lightning.pytorch as pl
import pytest
import torch
from test_every_yaml import BEGUN, OPTIONS, small_data_of

from mmtx.commands.main import main
from mmtx.config.compose import compose

STEPS = 20
SHORT = [
    "trainer.max_epochs=null",
    f"trainer.max_steps={STEPS}",
    f"trainer.val_every_steps={STEPS}",
    "log_every_steps=1",
    "loader.batch_size=4",
]
PLAIN = ["trainer.accelerator=cpu", "trainer.devices=1", "logger=[]", "callbacks=[]", "backbone.compile=false"]
FEW_EPISODES = ["objective.action.val_episodes=2", "objective.action.test_episodes=2"]
CLOCKS = ("time", "tokens_per_second", "data_wait")


def numbers(recipe: str, folder: Path) -> dict[str, dict[str, str]]:
    """What a recipe gives, as ``{"weights": {name: hash}, "losses": {step: value}, "metrics": {name: value}}``."""
    weights: dict[str, str] = {}
    fit = pl.Trainer.fit

    def remembered(trainer: pl.Trainer, module: pl.LightningModule, *rest: object, **more: object) -> None:
        weights.update({name: _hash(value) for name, value in module.state_dict().items()})
        fit(trainer, module, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        words = [word for word in small_data_of(recipe, folder, patch) if not word.startswith("init_from=")]
        words += ["init_from=null"] if recipe.startswith("finetune") or recipe in BEGUN else []
        acts = "action" in compose([f"experiment={recipe}", *words])["objective"]
        words += FEW_EPISODES if acts else []
        patch.setattr(pl.Trainer, "fit", remembered)
        run, said = folder / "run", io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(["train", f"experiment={recipe}", *SHORT, *PLAIN, *words, f"run_dir={run}"])
    if code:
        raise SystemExit(f"{recipe} ended with exit code {code}:\n{said.getvalue()}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {f"{row['step']}": repr(row["train/loss"]) for row in rows if "train/loss" in row}
    if len(losses) != STEPS:
        raise SystemExit(f"{recipe} has logged the losses of {len(losses)} steps, and not of {STEPS}")
    metrics = json.loads((run / "metrics.json").read_text())
    return {"weights": weights, "losses": losses, "metrics": {k: repr(v) for k, v in metrics.items() if _kept(k)}}


def _kept(name: str) -> bool:
    return not any(clock in name for clock in CLOCKS)


def _hash(value: torch.Tensor) -> str:
    content = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode() + content).hexdigest()[:16]


def differences(earlier: dict, later: dict) -> list[str]:
    """One line per recipe and kind of number that differs."""
    lines = [f"{name}: only one of the two has it" for name in sorted(earlier.keys() ^ later.keys())]
    for recipe in sorted(earlier.keys() & later.keys()):
        for kind, old in earlier[recipe].items():
            new = later[recipe][kind]
            unequal = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
            if unequal:
                first = unequal[0]
                lines.append(
                    f"{recipe}: {len(unequal)} of {len(old)} {kind} differ, the first {first}: "
                    f"{old.get(first)}, now {new.get(first)}"
                )
    return lines


def record(recipes: list[str]) -> dict:
    """`numbers` of each."""
    found = {}
    for recipe in recipes:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found[recipe] = numbers(recipe, Path(folder))
        print(f"{recipe}: {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--recipes", nargs="+", default=list(OPTIONS["experiment"]))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = record(options.recipes)
    options.file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if options.against:
        lines = differences({k: v for k, v in json.loads(options.against.read_text()).items() if k in found}, found)
        print("\n".join(lines) or f"{len(found)} recipes: the same numbers")
        raise SystemExit(1 if lines else 0)
