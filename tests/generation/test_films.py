"""Films that go on, by the commands of a user."""

import numpy
import pytest
from PIL import Image

from mmtx.commands.main import main

TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "trainer.max_steps=1", "callbacks=[]"]
TINY += ["trainer.val_every_steps=1", "loader.batch_size=4", "logger=[]", "trainer.accelerator=cpu"]
TINY += ["data.num_train=8", "data.num_val=4", "data.num_test=4", "data.max_frames=6", "data.min_frames=6"]
FORCED = ["objective=[forced_frames]", "backbone/norm=adaptive", "objective.forced_frames.num_steps=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that make frames, by a squared error and out of noise, both hardly trained; and the beginning of a film."""
    folder = tmp_path_factory.mktemp("films")
    assert main(["train", "experiment=next_digits", *TINY, f"run_dir={folder / 'next'}"]) == 0
    assert main(["train", "experiment=next_digits", *FORCED, *TINY, f"run_dir={folder / 'forced'}"]) == 0
    begun = numpy.array([100, 128], numpy.uint8)[:, None, None]
    numpy.save(folder / "begun.npy", numpy.broadcast_to(begun, (2, 16, 16)))
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


@pytest.mark.parametrize("run", ["next", "forced"])
def test_a_film_goes_on(run, mmtx, folder):
    assert mmtx("generate", run, "index=0", "out=film.gif") == (0, "written: film.gif\n")
    film = Image.open(folder / "film.gif")
    assert film.n_frames == 6 and film.size == (98, 96), "16 pixels, six times as large, and a line"
    assert mmtx("generate", run, "frames=begun.npy", "length=4", "out=film.gif") == (0, "written: film.gif\n")
    film = Image.open(folder / "film.gif")
    assert film.n_frames >= 3, "two that are made may be equal, and then one that stays"
    assert set(film.convert("L").crop((0, 0, 96, 96)).getdata()) == {100}, "what is given comes first"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("next index=0 out=film.png", "out=film.png must be a .gif file in a folder that exists"),
        ("next out=film.gif", "a film goes on from frames=FILE, or from those of a sample, index=N; give one of them"),
        ("next index=0 frames=begun.npy out=film.gif", "give one of them"),
        ("next frames=none.npy out=film.gif", "frames=none.npy is not a file"),
        ("next index=0 length=9 out=film.gif", "length=9 must lie in 6..6"),
        ("next index=0 num_steps=2 out=film.gif", "num_steps=2"),
        ("forced index=0 num_steps=0 out=film.gif", "num_steps=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_one_line(words, problem, mmtx):
    code, printed = mmtx("generate", *words.split())
    assert code == 2 and problem in printed and len(printed.splitlines()) == 1, printed
