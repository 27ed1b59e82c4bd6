"""An optimiser for matrices from outside, beside AdamW: docs/extending.md, done."""

import shutil
from pathlib import Path

import pytest
import torch
from run_cli import TINY, mmtx, text_of
from test_resume import assert_same_run, final_state, play

HERE = Path(__file__).parent
PACKAGE = HERE / "own_optimiser"
WORDS = [
    *("train", "experiment=spell_digits", *TINY, "logger=[]", "callbacks=[]", "plugins=[normalised]"),
    *("optim=normalised", "trainer.max_steps=20", "trainer.val_every_steps=10", "checkpoint.every_steps=6"),
    *("data.num_val=24", "optim.warmup_steps=2"),
]


def test_the_guide_shows_the_package():
    guide = (HERE.parents[1] / "docs" / "extending.md").read_text()
    files = [file for file in PACKAGE.rglob("*.*") if file.suffix in (".py", ".yaml")]
    assert len(files) == 2 and all(f"\n{file.read_text()}```" in guide for file in files)


def test_it_trains_and_goes_on_bit_for_bit(tmp_path):
    folder = shutil.copytree(PACKAGE, tmp_path / "own")
    done = play(
        [
            {"cwd": str(folder), "words": [*WORDS, "run_dir=whole"]},
            {"cwd": str(folder), "words": [*WORDS, "run_dir=run"], "at": "step.before_update", "nth": 15},
            {"cwd": str(folder), "words": ["resume", "run", "plugins=[normalised]"]},
        ]
    )
    assert [each["code"] for each in done] == [0, -9, 0], [each["output"] for each in done]
    assert_same_run(folder / "run", folder / "whole")
    state = {key: value for key, value in final_state(folder / "run").items() if "qkv" in key and "steps" in key}
    assert list(state.values()) == [20, 20, 20], "of query, key and value"


def test_two_ranks_are_one(tmp_path):
    folder, ended = shutil.copytree(PACKAGE, tmp_path / "own"), []
    for ranks, size in ((1, 16), (2, 8)):
        several = [f"trainer.devices={ranks}", "trainer.accelerator=cpu", f"loader.batch_size={size}"]
        done = mmtx(*WORDS, *several, "trainer.max_steps=4", f"run_dir={ranks}", cwd=folder, timeout=240)
        assert done.returncode == 0, text_of(done)
        ended.append(torch.load(folder / str(ranks) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    for name, value in ended[0].items():
        torch.testing.assert_close(ended[1][name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("optim", ["muon", "schedule_free"])
def test_shards_are_refused(optim, tmp_path):
    shards = ["trainer.strategy=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = mmtx("check", "experiment=spell_digits", *TINY, f"optim={optim}", *shards, cwd=tmp_path)
    assert done.returncode == 2 and "steps whole parameters" in done.stderr, text_of(done)
