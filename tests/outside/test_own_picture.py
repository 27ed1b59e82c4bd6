"""A tokenizer from outside that turns its tokens back into pictures, as docs/extending.md shows it."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from builders import image_spec
from contracts import check_tokenizer
from matplotlib.image import imread
from run_cli import TINY, mmtx, text_of
from test_resume import assert_same_run, play
from wandb_file import read_wandb_file

from mmtx.batch import fake_batch

PACKAGE = Path(__file__).parent / "own_picture"
GUIDE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
LAB = ["plugins=[rows]"]
WORDS = [
    *("train", *LAB, "data=digits", "modality=[rows]", "objective=[classify]", *TINY, "trainer.max_steps=20"),
    *("trainer.val_every_steps=10", "data.num_val=24", "loader.batch_size=8", "checkpoint.every_steps=7"),
]
OFFLINE = {"WANDB_MODE": "offline", "WANDB_API_KEY": None}


@pytest.fixture(scope="module")
def tokenizer():
    spec = importlib.util.spec_from_file_location("rows", PACKAGE / "rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Rows(spec=image_spec(), dim=24, clock=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, and a run of it of 20 steps that W&B logged offline."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(PACKAGE, folder, dirs_exist_ok=True)
    done = mmtx(*WORDS, "run_dir=run", cwd=folder, env={**OFFLINE, "HOME": str(folder)})
    assert done.returncode == 0, text_of(done)
    return folder


def test_the_guide_shows_the_package():
    for file in ("rows.py", "conf/modality/rows.yaml"):
        assert (PACKAGE / file).read_text().split('"""\n\n', 1)[-1] in GUIDE, file


def test_it_keeps_the_contract_of_tokenizers(tokenizer):
    check_tokenizer(tokenizer)


def test_its_tokens_are_turned_back(tokenizer):
    batch = fake_batch({"image": tokenizer.spec}, 3)
    with torch.no_grad():
        tokens = tokenizer(batch["image"], batch.lengths["image"], True)
    assert tokenizer.invert(tokens)["pixels"].equal(batch["image"]["pixels"])


def test_it_resumes_bit_for_bit(folder):
    words = [*WORDS, "logger=[]", "callbacks=[]"]
    whole, stopped = play(
        [
            {"cwd": str(folder), "words": [*words, "run_dir=whole"]},
            {"cwd": str(folder), "words": [*words, "run_dir=stopped"], "at": "step.before_update", "nth": 12},
        ]
    )
    assert whole["code"] == 0 and stopped["code"] == -9, (whole, stopped)
    done = mmtx("resume", "stopped", *LAB, cwd=folder)
    assert done.returncode == 0, text_of(done)
    assert_same_run(folder / "stopped", folder / "whole")


def test_it_is_seen(folder):
    """Each picture above what its tokens hold: as high as two panels of the tokenizer's, three rows of four."""
    picture = imread(folder / "run" / "samples" / "classify_step000020.png")
    assert picture.shape[:2] == (round(3 * 2 * 2.4 * 110), round(4 * 2.0 * 110))
    (file,) = (folder / "run").glob("wandb/offline-run-*/run-*.wandb")
    assert any("samples/classify_picture" in key for row in read_wandb_file(file).media for key in row)


def test_on_two_ranks_packed(folder):
    words = ["trainer.devices=2", "trainer.accelerator=cpu", "loader.packing=true", "logger=[]", "callbacks=[]"]
    done = mmtx(*WORDS, *words, "run_dir=two", cwd=folder, timeout=300)
    assert done.returncode == 0, text_of(done)
