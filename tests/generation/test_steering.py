"""Options that steer what a run writes, on a recipe."""

import re

import pytest

from mmtx.commands.main import main

FEW = ["trainer.max_steps=2", "trainer.val_every_steps=2", "loader.batch_size=8"]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """Of digits, in which pictures are left out at times."""
    run = tmp_path_factory.mktemp("captions") / "run"
    words = [
        "experiment=caption_digits",
        "callbacks=[]",
        "modality_dropout={image: 0.1}",
        *FEW,
        "backbone.dim=32",
        "backbone.num_layers=1",
    ]
    assert main(["train", *words, f"run_dir={run}"]) == 0
    return run


@pytest.fixture
def generate(capsys):
    """The exit code, and what the command prints."""

    def generate(run, *options):
        capsys.readouterr()
        code = main(["generate", str(run), *options])
        printed = capsys.readouterr()
        return code, (printed.err if code else printed.out).removesuffix("\n")

    return generate


def test_a_caption_is_guided_by_its_picture(captions, generate):
    plain = generate(captions, "index=0", "max_new_tokens=12")
    assert plain[0] == 0
    assert generate(captions, "index=0", "max_new_tokens=12", "guidance={image: 1}") == plain
    code, guided = generate(captions, "index=0", "max_new_tokens=12", "guidance={image: 400}")
    assert code == 0
    assert guided != plain[1]


def test_a_caption_follows_a_grammar(captions, generate):
    options = ["index=0", "temperature=1", "grammar=(a|the) (one|two|three)"]
    written = {generate(captions, *options, f"seed={seed}")[1] for seed in range(4)}
    assert all(re.fullmatch("(a|the) (one|two|three)", each) for each in written)
    assert len(written) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["guidance={text: 2}"], "guidance.text=2 names nothing that 'text' is written from"),
        (["guidance=2"], "guidance=2 is not a mapping"),
        (["guidance={image: much}"], "guidance.image=much must be a number"),
        (["grammar=a", "beam_size=2"], "grammar=a cannot be used in beam search .*; nearest: beam_size=1"),
        (["temperature=0.5", "beam_size=2"], "temperature=0.5 cannot be used in beam search"),
        (["top_p=0.5"], "top_p=0.5 changes nothing beside temperature=0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message, captions, generate):
    code, error = generate(captions, "index=0", *options)
    assert code == 2
    assert re.search(message, error)


def test_a_name_that_training_never_left_out_is_refused(captions, generate, monkeypatch):
    """The same model, had it always had its picture."""
    from mmtx.generation import generate as ways

    read = ways.read_checkpoint

    def without_dropout(path):
        checkpoint = read(path)
        return {**checkpoint, "mmtx": {**checkpoint["mmtx"], "config": {"modality_dropout": {}}}}

    monkeypatch.setattr(ways, "read_checkpoint", without_dropout)
    code, error = generate(captions, "index=0", "guidance={image: 1.5}")
    assert code == 2
    assert "guidance.image=1.5 leads away from what the model computes without 'image', which it has never" in error
    assert "train with modality_dropout={image: 0.1}" in error
