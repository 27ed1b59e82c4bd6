"""The notebooks run from their first cell to their last, with few steps, and hold what they gave when they were run."""

import importlib.util
import sys

import notebooks
import pytest
from run_cli import mmtx, text_of

NAMES = sorted(file.stem for file in notebooks.FOLDER.glob("*.ipynb"))
LONG = ("which_modalities_help",)
FEW = {"STEPS": 2, "CLIPS": 20, "TESTS": 20}


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def shell(tmp_path):
    def run(words):
        assert words[0] == "mmtx"
        done = mmtx(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, text_of(done)
        return done.stdout

    return run


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in NAMES])
def test_a_notebook_runs(name, shell, tmp_path, monkeypatch):
    if importlib.util.find_spec("espeakng_loader") is None and name == "which_modalities_help":
        pytest.skip("needs mmtx[speech]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    notebook = notebooks.read(name)
    notebooks.run(notebook, shell, FEW)
    sys.modules.pop("wrist", None)
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    again = code(notebooks.read(name))
    assert [len(cell["outputs"]) for cell in again] == [len(cell["outputs"]) for cell in code(notebook)]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_its_cells_are_in_order(name):
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < 100_000
    cells = code(notebooks.read(name))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_what_a_cell_gives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = ["N = 5\nprint(N)", "%%writefile b.txt\nline\n", "!show a {N} \\\n  'b c'\n!end", "N + 1", "x = 2"]
    notebook = {"cells": [{"cell_type": "code", "source": [source]} for source in sources]}
    notebooks.run(notebook, lambda words: f"{words}\n", {"N": 7})
    assert (tmp_path / "b.txt").read_text() == "line\n"
    printed, written, shown, last, nothing = (cell["outputs"] for cell in notebook["cells"])
    assert "".join(printed[0]["text"]) == "7\n" and written == nothing == []
    assert "".join(shown[0]["text"]) == "['show', 'a', '7', 'b c']\n['end']\n"
    assert last[0]["data"] == {"text/plain": ["8"]}
