"""Pictures out of noise, and a judge of them, by the commands of a user."""

import json

import pytest
from PIL import Image

from mmtx.commands.main import main

TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "trainer.max_steps=2", "callbacks=[]"]
TINY += ["trainer.val_every_steps=2", "loader.batch_size=8", "logger=[]", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that draw from a class, one of which was never without it, and one that judges; all hardly trained."""
    folder = tmp_path_factory.mktemp("drawn")
    for run, words in {
        "flow": ["experiment=draw_digits_flow", "modality_dropout={label: 0.5}"],
        "always": ["experiment=draw_digits_flow", "modality_dropout={label: 0.0}"],
        "vit_digits": ["experiment=vit_digits", "trainer.max_epochs=null"],
    }.items():
        assert main(["train", *words, *TINY, f"run_dir={folder / run}"]) == 0
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


def test_a_flow_draws_and_is_judged(mmtx, folder):
    few = ["num_steps=2", "count=5"]
    assert mmtx("generate", "flow", "label=7", "out=flow.png", *few) == (0, "written: flow.png\n")
    first = (folder / "flow.png").read_bytes()
    assert Image.open(folder / "flow.png").size == (3 * 97, 2 * 97)
    for words, same in (
        (["label=seven"], True),
        (["label=7", "guidance={label: 1}"], True),
        (["label=7", "seed=1"], False),
    ):
        assert mmtx("generate", "flow", *words, "out=flow.png", *few)[0] == 0
        assert ((folder / "flow.png").read_bytes() == first) is same
    metrics = json.loads(mmtx("evaluate", "flow", "judge=vit_digits")[1])
    assert 0 <= metrics["test/conditional_accuracy"] <= 1 and "test/frechet_of_codes" not in metrics
    assert metrics["test/judge_accuracy"] == json.loads(mmtx("evaluate", "vit_digits")[1])["test/accuracy"]


def test_pictures_have_bits_per_dimension(mmtx):
    """The same every time; of so many pictures as are asked for."""
    words = ("evaluate", "flow", "bits={levels: 17, samples: 5, num_steps: 1}")
    code, printed = mmtx(*words)
    metrics = json.loads(printed)
    assert code == 0 and metrics["test/bits_of"] == 5 and metrics["test/bits_per_dim_se"] > 0
    assert mmtx(*words)[1] == printed and 0 < metrics["test/bits_per_dim"] < 100


@pytest.mark.parametrize(
    ("run", "bits", "problem"),
    [
        ("flow", "{}", "bits={} needs levels: grey levels of a pixel"),
        ("flow", "{level: 17}", "bits.level=17 is no option; did you mean 'levels'?"),
        ("flow", "{levels: 5}", "bits.levels=5 is not how many grey levels the pictures have"),
        ("flow", "{levels: 257}", "bits.levels=257 must lie in 2..256"),
        ("flow", "{levels: 17, samples: 1}", "bits.samples=1 must be at least 2"),
        ("vit_digits", "{levels: 17}", "no objective of this run gives densities (flow): it has classify"),
    ],
)
def test_bits_that_cannot_be_are_one_line(run, bits, problem, mmtx):
    code, printed = mmtx("evaluate", run, f"bits={bits}")
    assert code == 2 and problem in printed, printed


@pytest.mark.parametrize(
    ("run", "option", "problem"),
    [
        ("always", "guidance={label: 2}", "which it has never done without"),
        ("flow", "guidance={image: 2}", "names nothing that 'image' is written from"),
        ("flow", "guidance={label: -1}", "guidance.label=-1 must be a number, at least 0"),
        ("flow", "num_steps=0", "num_steps=0 must be at least 1"),
        ("flow", "solver=rk4", "solver=rk4"),
        ("flow", "seed=-1", "seed=-1 must lie in 0.."),
        ("flow", "length=3", "length=3 cannot be given beside"),
    ],
)
def test_what_a_flow_cannot_do_is_one_line(run, option, problem, mmtx):
    code, printed = mmtx("generate", run, "label=1", "out=flow.png", option)
    assert code == 2 and problem in printed and len(printed.splitlines()) == 1, printed


def test_what_was_never_left_out_guides_no_drawing_that_is_judged(mmtx):
    code, printed = mmtx("evaluate", "always", "judge=vit_digits", "drawing={guidance: {label: 2}}")
    assert code == 2 and "drawing.guidance.label=2 leads away" in printed and len(printed.splitlines()) == 1, printed
