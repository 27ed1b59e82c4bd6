"""Runs that an earlier mmtx made, stopped behind their third step of six: they are evaluated to the numbers that it
gave, write what it wrote, and end as they ended there."""

import json
import shutil
from pathlib import Path

import numpy
import pytest
import soundfile

from mmtx.commands.main import main

MADE = Path(__file__).parent / "made_by_6e89b8c"
GENERATED = {
    "gpt_average": ["prompt=To be", "max_new_tokens=12", "seed=1"],
    "lora": ["prompt=To be", "max_new_tokens=12", "seed=1"],
    "whisper": ["audio=sounds/3.wav"],
    "packed": ["index=0"],
}
CLOCKS = ("time", "second", "data_wait")


@pytest.fixture(params=sorted(each.name for each in MADE.iterdir() if each.is_dir()))
def name(request, tmp_path, monkeypatch):
    """Of a run, in a working directory with its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(MADE / request.param, request.param)
    shutil.copy(MADE / "text.txt", "text.txt")
    if request.param == "whisper":
        write_sounds()
    return request.param


def write_sounds():
    rows = ["path,text"]
    Path("sounds").mkdir()
    for number in range(20):
        noise = numpy.random.default_rng(number).integers(-8000, 8000, 800 + 40 * number)
        soundfile.write(f"sounds/{number}.wav", noise.astype(numpy.int16), 8000)
        rows.append(f"sounds/{number}.wav,number {number}")
    Path("sounds.csv").write_text("\n".join(rows) + "\n")


def test_it_does_what_it_did_there(name, capsys):
    want = json.loads((MADE / name / "expected.json").read_text())
    assert main(["evaluate", name, "split=val"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(want["evaluate"], rel=1e-5)
    if name in GENERATED:
        assert main(["generate", name, *GENERATED[name]]) == 0
        assert capsys.readouterr().out == want["generate"]
    assert main(["resume", name]) == 0
    rows = [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
    losses = {str(row["step"]): row["train/loss"] for row in rows if "train/loss" in row}
    assert losses == pytest.approx(want["losses"], rel=1e-5)
    metrics = json.loads(Path(name, "metrics.json").read_text())
    kept = {key: value for key, value in metrics.items() if not any(clock in key for clock in CLOCKS)}
    assert kept == pytest.approx(want["metrics"], rel=1e-4)
