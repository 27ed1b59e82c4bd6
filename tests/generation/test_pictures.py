"""Pictures in codes, from their codec to a judge, by the commands of a user."""

import json
import re

import pytest
import torch
from PIL import Image
from small_codec import small_codec_file

from mmtx.codes.stored_codec import read_codec
from mmtx.commands.main import main
from mmtx.run.checkpoint_content import load

TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "trainer.max_steps=2", "callbacks=[]"]
TINY += ["trainer.val_every_steps=2", "loader.batch_size=8", "logger=[]", "trainer.accelerator=cpu"]
WAYS = ["draw_digits", pytest.param("draw_digits_diffusion", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that draws from a class, and one that judges; both hardly trained."""
    folder = tmp_path_factory.mktemp("drawn")
    train(folder, "draw_digits", "experiment=draw_digits")
    train(folder, "vit_digits", "experiment=vit_digits", "trainer.max_epochs=null")
    return folder


def train(folder, name, *words):
    """A run of two steps; one that draws has codes from a file that is gone afterwards."""
    draws = [f"data.vocabulary.path={small_codec_file(folder)}", "data.pictures.num_val=1000"]
    draws *= "draw_digits" in words[0]
    assert main(["train", *words, *draws, *TINY, f"run_dir={folder / name}"]) == 0
    (folder / "codes.safetensors").unlink(missing_ok=True)


@pytest.fixture
def recipe(request, folder):
    """The name of a run that draws."""
    if not (folder / request.param).is_dir():
        train(folder, request.param, f"experiment={request.param}")
    return request.param


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


@pytest.mark.parametrize("recipe", WAYS, indirect=True)
def test_a_class_becomes_pictures(recipe, mmtx, folder):
    assert mmtx("generate", recipe, "label=7", "count=5", "out=grid.png") == (0, "written: grid.png\n")
    grid = Image.open(folder / "grid.png")
    assert grid.size == (3 * 97, 2 * 97)  # five pictures of 8 x 8, twelve times as large, in rows of three
    (folder / "grid.png").rename(folder / "first.png")
    assert mmtx("generate", recipe, "label=seven", "count=5", "out=grid.png")[0] == 0
    assert (folder / "grid.png").read_bytes() == (folder / "first.png").read_bytes()
    assert mmtx("generate", recipe, "index=3", "temperature=0.5", "out=other.png")[0] == 0


@pytest.mark.slow
def test_a_word_becomes_pictures(mmtx, folder):
    train(folder, "words", "experiment=draw_digits", "modality=[text,codes]")
    assert mmtx("generate", "words", "prompt=seven", "count=2", "out=words.png")[0] == 0
    assert Image.open(folder / "words.png").size == (2 * 97, 97)
    code, printed = mmtx("generate", "words", "out=words.png")
    assert code == 2 and "this model makes 'codes' from text; give prompt=... or index=N" in printed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["label=ten"], "label=ten is no class of 'label'"),
        (["label=10"], "label=10 is no class of 'label'"),
        ([], "this model makes 'codes' from label; give label=... or index=N"),
        (["label=1", "index=2"], "index=2 cannot be given beside label=1"),
        (["label=1", "count=0"], "count=0 must lie in 1..1024"),
        (["label=1", "out=grid.jpg"], "out=grid.jpg must be a .png file"),
        (["label=1", "prompt=one"], "prompt=one cannot be given beside out=grid.png"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(options, problem, mmtx):
    code, printed = mmtx("generate", "draw_digits", "out=grid.png", *options)
    assert code == 2 and re.search(re.escape(problem), printed), printed


def test_help_names_what_a_run_takes(mmtx):
    code, printed = mmtx("generate", "draw_digits", "--help")
    assert code == 0 and "Pictures, given" in printed and "label=null" in printed


@pytest.mark.parametrize("recipe", WAYS, indirect=True)
def test_a_judge_reads_what_is_drawn(recipe, mmtx):
    code, printed = mmtx("evaluate", recipe, "judge=vit_digits")
    assert code == 0, printed
    metrics = json.loads(printed)
    shares = ("conditional_accuracy", "judge_accuracy", "judge_accuracy_of_codes", "copied")
    assert all(0 <= metrics[f"test/{name}"] <= 1 for name in shares)
    assert all(metrics[f"test/{name}"] > 0 for name in ("frechet", "frechet_halves", "frechet_of_codes"))
    assert metrics["test/judge_accuracy"] == json.loads(mmtx("evaluate", "vit_digits")[1])["test/accuracy"]


@pytest.mark.parametrize(
    ("run", "judge", "problem"),
    [
        ("draw_digits", "draw_digits", "a judge classifies pictures alone"),
        ("vit_digits", "vit_digits", "nothing of this run draws pictures, or makes sounds"),
        ("draw_digits", "[1]", "is no place of a run"),
        ("draw_digits", "vit_digits drawing=1", "drawing=1 is no mapping of options"),
        ("draw_digits", "vit_digits drawing={temprature:1}", "temprature=1 is no option; did you mean 'temperature'?"),
        ("draw_digits", "vit_digits drawing={temperature:-1}", "temperature=-1.0 must be at least 0"),
    ],
)
def test_what_cannot_judge_is_refused(run, judge, problem, mmtx):
    code, printed = mmtx("evaluate", run, *f"judge={judge}".split())
    assert code == 2 and problem in printed, printed


REWARDED = [
    *("experiment=draw_digits", "data.pictures.num_val=1000", "init_from=draw_digits", *TINY),
    *("objective=[policy_gradient]", "objective.policy_gradient.text=codes", "objective.policy_gradient.group=2"),
    "objective/reward@objective.policy_gradient.rewards=[judged_picture]",
]
PLACE = "objective.policy_gradient.rewards.judged_picture.judge"


def test_a_judge_rewards_what_is_drawn(mmtx, folder):
    assert mmtx("train", *REWARDED, f"{PLACE}=vit_digits", "run_dir=rewarded")[0] == 0
    key, logged = "test/reward_judged_picture", json.loads((folder / "rewarded/metrics.json").read_text())
    assert 0 < json.loads(mmtx("evaluate", "rewarded")[1])[key] == logged[key] < 1
    kept = load(folder / "rewarded").state_dict()
    assert all(key.startswith("model.") for key in kept), "the judge is not kept with it"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["vit"], "vit cannot be read: vit does not exist"),
        (["draw_digits"], "a judge classifies pictures alone"),
        (["vit_digits", "modality=[codes]"], "reads 'label', which nothing is drawn from: the set is codes"),
    ],
)
def test_what_cannot_reward_is_refused(words, problem, mmtx):
    judge, *rest = words
    code, printed = mmtx("check", *REWARDED, f"{PLACE}={judge}", *rest)
    assert code == 2 and f"{PLACE}={judge}" in printed and problem in printed, printed


def test_codes_that_were_learnt_are_exported(mmtx, folder):
    assert mmtx("train", "experiment=codes_digits", *TINY, "run_dir=codes")[0] == 0
    assert mmtx("export", "codes", "learnt.safetensors", "--format", "codes")[0] == 0
    own, pixels = load(folder / "codes").model.tokenizer("image"), torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    again = read_codec(str(folder / "learnt.safetensors"))
    present = torch.ones(4, dtype=torch.long)
    assert again.ids({"pixels": pixels}, present).equal(own.codec.ids({"pixels": pixels}, present))
    assert "data=coded_pictures" in (folder / "learnt.safetensors.md").read_text()
    code, printed = mmtx("export", "vit_digits", "none.safetensors", "--format", "codes")
    assert code == 2 and "has 0 names whose codes are learnt" in printed
