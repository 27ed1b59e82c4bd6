"""A tokenizer from outside that turns its tokens back into pictures, as docs/extending.md shows it."""

import pytest
import torch
from builders import image_spec
from contracts import check_tokenizer
from matplotlib.image import imread
from outside_module import outside_module
from packages import train, unpack
from run_cli import mmtx, text_of
from wandb_file import read_wandb_file

from mmtx.batch import fake_batch

SHOWN = ["logger=[wandb]", "callbacks=[samples]"]
OFFLINE = {"WANDB_MODE": "offline", "WANDB_API_KEY": None}


@pytest.fixture(scope="module")
def tokenizer():
    return outside_module("own_picture/rows.py").Rows(spec=image_spec(), dim=24, clock=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, and a run of it of 20 steps that W&B logged offline."""
    folder = unpack("own_picture", tmp_path_factory.mktemp("outside"))
    done = mmtx(*train("own_picture"), *SHOWN, "run_dir=run", cwd=folder, env={**OFFLINE, "HOME": str(folder)})
    assert done.returncode == 0, text_of(done)
    return folder


def test_it_keeps_the_contract_of_tokenizers(tokenizer):
    check_tokenizer(tokenizer)


def test_its_tokens_are_turned_back(tokenizer):
    batch = fake_batch({"image": tokenizer.spec}, 3)
    with torch.no_grad():
        tokens = tokenizer(batch["image"], batch.lengths["image"], True)
    assert tokenizer.invert(tokens)["pixels"].equal(batch["image"]["pixels"])


def test_it_is_seen(folder):
    """In a panel of the tokenizer's, three rows of four; its tokens hold nothing else, which would stand beneath."""
    picture = imread(folder / "run" / "samples" / "classify_step000020.png")
    assert picture.shape[:2] == (round(3 * 2.4 * 110), round(4 * 2.0 * 110))
    (file,) = (folder / "run").glob("wandb/offline-run-*/run-*.wandb")
    assert any("samples/classify_picture" in key for row in read_wandb_file(file).media for key in row)
