"""Each part of the GPU's benchmark runs on a CPU with tiny sizes. No number is looked at."""

import subprocess
import sys
from pathlib import Path

import benchmark_gpu
import gpu
import pytest
import torch
from benchmarks.gpt import Shape
from benchmarks.gpu.plain_gpt import PlainGPT
from benchmarks.gpu.training import flops

ROOT = Path(__file__).parents[2]
BARE = """
import importlib.machinery, importlib.metadata, runpy, sys

absent = {"jaxtyping", "wandb", "soundfile", "gymnasium", "transformers", "torchvision", "sklearn", "tokenizers",
    "safetensors", "jiwer", "sacrebleu", "beartype", "torchaudio", "PIL", "matplotlib", "scipy"}

class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in absent:  # a stand-in is found
            path = [folder for folder in sys.path if "site-packages" not in folder]
        return super().find_spec(name, path, target)

def known(name, real=importlib.metadata.version):
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

importlib.metadata.version = known
sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__name__", "") != "PathFinder"] + [Bare]
sys.path.insert(0, "scripts")
sys.argv = ["scripts/benchmark_gpu.py", "--device", "cpu", "--tiny"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "windows")) for name in benchmark_gpu.PARTS]
)
def test_a_part_runs(name, unchecked, capsys):
    assert benchmark_gpu.main([name, "--device", "cpu", "--tiny"]) == 0
    _, header, _, *rows = [row for row in capsys.readouterr().out.splitlines() if row]
    rows = [row for row in rows if row.startswith("|")]
    assert rows and all(row.count("|") == header.count("|") for row in rows)


@pytest.mark.slow
def test_what_needs_more_than_is_certain_is_skipped_and_named():
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Skipped: generation by transformers, which is not installed." in done.stdout
    assert "Skipped: augmentation of pictures by torchvision, which is not installed." in done.stdout
    assert "ours, compiled, through the Trainer" in done.stdout


def test_without_a_gpu_it_is_written_what_would_be_done(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark_gpu.main([]) == 0 and gpu.main() == 0
    written = capsys.readouterr().out
    assert all(part in written for part in benchmark_gpu.PARTS.values())
    assert "torch finds no GPU" in written and "-m gpu tests/gpu" in written


def test_a_part_that_fails_is_in_the_table_and_in_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.gpu.log_mel.plain", lambda *_: torch.zeros(1))
    assert benchmark_gpu.main(["log_mel", "--device", "cpu", "--tiny"]) == 1
    assert "| log_mel failed | AssertionError" in capsys.readouterr().out


def test_the_plain_model_is_a_gpt2():
    with torch.device("meta"):
        model = PlainGPT(Shape(layers=12, width=768, heads=12, context=1024, rows=1, vocabulary=50257))
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808  # of OpenAI's release


def test_operations_of_a_step():
    shape = Shape(layers=1, width=4, heads=1, context=2, rows=3, vocabulary=5)
    block = 4 * 12 + 12 + 4 * 4 + 4 + 4 * 16 + 16 + 16 * 4 + 4 + 4 * 4  # qkv, out, up, down, two norms
    assert flops(PlainGPT(shape), shape) == 3 * 2 * (6 * (block + 5 * 4 + 2 * 4) + 12 * 1 * 4 * 2)
