"""docs/extending.md, done: a modality, a dataset and an objective from outside, without touching mmtx."""

import json
import re
from pathlib import Path

import pytest
from run_cli import mmtx, text_of

GUIDE = Path(__file__).parents[1] / "docs" / "extending.md"


def write_package(folder):
    """The files that the guide shows, each under the name that it gives."""
    text = GUIDE.read_text()
    blocks = re.findall(r"`((?:my_lab|conf)/[\w/]+\.(?:py|yaml))`.*?```(?:python|yaml)\n(.*?)```", text, re.S)
    assert len(blocks) == len(dict(blocks)) >= 8
    for name, content in blocks:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "my_lab" / "__init__.py").touch()


def test_a_package_of_the_users_trains(tmp_path):
    write_package(tmp_path)
    chosen = ["plugins=[my_lab]", "data=weather", "modality=[pressure]", "objective=[rain]"]
    done = mmtx("train", *chosen, "trainer.max_steps=4", "callbacks=[]", "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    assert "val/accuracy" in done.stdout
    for place, more in (("run", []), ("run/checkpoints/last.ckpt", []), ("run", ["plugins=[my_lab]"])):
        loaded = mmtx("evaluate", place, "split=val", *more, cwd=tmp_path)  # named when the run began
        assert loaded.returncode == 0, text_of(loaded)
    shown = mmtx("evaluate", "run", "split=val", cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path / "another")})
    assert shown.returncode == 2 and "plugins=[my_lab]" in shown.stderr, "of another user's run"
    table = mmtx("predict", "run", "split=val", "out=rain.csv", cwd=tmp_path)
    assert table.returncode == 0, text_of(table)
    header, first, *_ = (tmp_path / "rain.csv").read_text().splitlines()
    assert header == "sample,path,predicted,truth" and re.fullmatch("0,,(dry|rain),(dry|rain)", first)
    exported = mmtx("export", "run", "rain.pt2", "--format", "torch_export", cwd=tmp_path)
    assert exported.returncode == 0, text_of(exported)
    assert "on 8 samples of its data" in exported.stdout
    described = json.loads((tmp_path / "rain.pt2.json").read_text())
    assert described["inputs"] == [{"name": "pressure.values", "dtype": "float32", "shape": ["batch", 24, 1]}]
    assert described["outputs"] == [{"name": "probability", "dtype": "float32", "shape": ["batch"]}]
    refused = mmtx("check", *chosen[1:], cwd=tmp_path)
    assert refused.returncode == 2 and "plugins=[my_lab]" in refused.stderr


@pytest.mark.parametrize("packing", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_an_objective_with_copies_trains(tmp_path, packing):
    write_package(tmp_path)
    chosen = ["plugins=[my_lab]", "data=weather", "modality=[pressure]", "objective=[denoise]"]
    steps = ["trainer.max_steps=4", "callbacks=[]", f"loader.packing={packing}", "run_dir=run"]
    done = mmtx("train", *chosen, *steps, cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    assert "val/loss" in done.stdout
