"""An objective from outside that corrupts its batch and generates by its own sampler, as docs/extending.md shows it."""

import json

import pytest
import torch
from builders import Letters, model, text, text_spec
from contracts import check_objective
from outside_module import outside_module
from packages import plugin, train, unpack
from run_cli import mmtx, text_of
from wandb_file import read_wandb_file

from mmtx.batch import fake_batch
from mmtx.learner import Learner

UNMASK = outside_module("own_generator/unmask.py").Unmask
LAB, SHOWN = plugin("own_generator"), ["logger=[wandb]", "callbacks=[samples]"]
OFFLINE = {"WANDB_MODE": "offline", "WANDB_API_KEY": None}


def made():
    """The objective on a small model, whose vocabulary has letters alone."""
    specs = {"text": text_spec(9, vocabulary=Letters(marks=False))}
    whole = model({"text": text(specs["text"], causal=False)})
    objective = UNMASK(specs=specs, model=whole, weight=1.0, text="text")
    return objective, whole, specs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, and a run of it of 20 steps that W&B logged offline."""
    folder = unpack("own_generator", tmp_path_factory.mktemp("outside"))
    done = mmtx(*train("own_generator"), *SHOWN, "run_dir=run", cwd=folder, env={**OFFLINE, "HOME": str(folder)})
    assert done.returncode == 0, text_of(done)
    return folder


def test_it_keeps_the_contract_of_objectives():
    objective, whole, specs = made()
    check_objective(objective, whole, specs)


def test_packed_rows_are_padded_ones():
    objective, whole, specs = made()
    learner = Learner(model=whole, objectives={"unmask": objective}, specs=specs).eval()
    batch = fake_batch(specs, 5, seed=3)
    padded, packed = (learner(each)["unmask"].vector() for each in (batch, batch.packed()))
    torch.testing.assert_close(packed, padded)


def test_what_is_corrupted_is_known_before_it_is_counted():
    """The masks of a step are a function of the generator; in evaluation they are the same every time."""
    objective, whole, specs = made()
    learner, batch = Learner(model=whole, objectives={"unmask": objective}, specs=specs), fake_batch(specs, 5)

    def masked(generator=None):
        return learner.prepare(batch, generator)["unmask"]["text"]["masked"]

    assert masked().equal(masked()) and masked().any() and not masked().all()
    first, again, other = (masked(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    assert "masked" not in batch["text"]


def test_it_generates(folder):
    listed = mmtx("generate", "run", *LAB, "--help", cwd=folder)
    assert "A text that is unmasked in a few passes" in listed.stdout, text_of(listed)
    assert "num_passes=8  an integer  forward passes, each of which writes as many ids" in listed.stdout
    assert not any(option in listed.stdout for option in ("temperature=", "index=", "image="))
    one, again, other = (
        mmtx("generate", "run", *LAB, "num_passes=3", f"seed={seed}", cwd=folder).stdout for seed in (1, 1, 2)
    )
    assert one == again != other and len(one.strip("\n")) <= 12 and "_" not in one
    refused = mmtx("generate", "run", *LAB, "num_pass=3", cwd=folder)
    assert refused.returncode == 2 and "did you mean 'num_passes'?" in refused.stderr


def test_it_is_seen(folder):
    """In samples/ and in W&B: predictions beside the truth, and what it shows itself."""
    samples = folder / "run" / "samples"
    assert {"unmask_step000020.jsonl", "passes_unmask_step000020.jsonl"} <= {file.name for file in samples.iterdir()}
    passes = [
        json.loads(line)["text"] for line in (samples / "passes_unmask_step000020.jsonl").read_text().splitlines()
    ]
    assert [text.count("_") for text in passes] == [9, 6, 3, 0]
    for before, after in zip(passes, passes[1:], strict=False):
        assert all(old in ("_", new) for old, new in zip(before, after, strict=True)), "what is written stays"
    (file,) = (folder / "run").glob("wandb/offline-run-*/run-*.wandb")
    media = {key for row in read_wandb_file(file).media for key in row}
    assert {key.split("/")[1] for key in media if key.startswith("samples/")} >= {"unmask", "passes_unmask"}
