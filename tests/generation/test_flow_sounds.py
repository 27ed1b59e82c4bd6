"""Sounds out of noise, and a recogniser of them, by the commands of a user."""

import json

import pytest
import soundfile

from mmtx.commands.main import main

TINY = ["backbone.dim=16", "backbone.num_layers=1", "backbone.num_heads=2", "trainer.max_steps=1", "callbacks=[]"]
TINY += ["trainer.val_every_steps=1", "loader.batch_size=8", "logger=[]", "trainer.accelerator=cpu"]
TINY += ["data.max_digits=1", "data.num_train=8", "data.num_val=0", "data.num_test=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that makes sounds, and one that writes what is said; both hardly trained."""
    folder = tmp_path_factory.mktemp("said")
    assert main(["train", "experiment=say_digits", *TINY, f"run_dir={folder / 'say'}"]) == 0
    assert main(["train", "experiment=whisper_digits", *TINY, f"run_dir={folder / 'whisper'}"]) == 0
    return folder


@pytest.fixture
def mmtx(folder, capsys, monkeypatch):
    """The exit code of a command, and what it prints."""
    monkeypatch.chdir(folder)

    def command(*words):
        capsys.readouterr()
        code = main([*map(str, words)])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return command


def test_a_flow_speaks_and_is_judged(mmtx, folder):
    words = ["out=spoken.wav", "num_steps=1", "solver=euler", "count=2"]
    assert mmtx("generate", "say", "label=7", *words) == (0, "written: spoken.wav\n")
    sound, rate = soundfile.read(folder / "spoken.wav")
    assert rate == 16_000 and len(sound) == 2 * 1.5 * rate, "two clips of a second and a half"
    assert abs(sound).max() > 0
    assert mmtx("generate", "say", "label=seven", *words)[0] == 0
    assert (soundfile.read(folder / "spoken.wav")[0] == sound).all()
    metrics = json.loads(mmtx("evaluate", "say", "judge=whisper", "drawing={num_steps: 1, solver: euler}")[1])
    assert {"test/wer", "test/judge_wer_of_spectrograms"} <= set(metrics)
    assert metrics["test/judge_wer"] == json.loads(mmtx("evaluate", "whisper")[1])["test/wer"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("generate say label=7 out=spoken.png", "out=spoken.png must be a .wav file in a folder that exists"),
        ("generate say out=spoken.wav", "this model makes 'audio' from label; give label=... or index=N"),
        ("generate say label=7 out=spoken.wav length=3", "length=3 cannot be given beside"),
        ("evaluate say judge=say", "a judge of sounds writes the text of sounds alone"),
    ],
)
def test_what_cannot_be_said_is_one_line(words, problem, mmtx):
    code, printed = mmtx(*words.split())
    assert code == 2 and problem in printed and len(printed.splitlines()) == 1, printed
