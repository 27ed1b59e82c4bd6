"""The recipes reach what their headers say. Minutes each: ``pytest -m slow``."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_cli import mmtx, text_of

from mmtx.objectives.reward_frontier import least_distance

pytestmark = pytest.mark.slow
TWO_CORES = {"OMP_NUM_THREADS": "2"}


def reached(folder, *overrides, seconds):
    """Final metrics of one run, which must end in time."""
    start = time.monotonic()
    done = mmtx("train", *overrides, "run_dir=run", cwd=folder, timeout=3 * seconds, env=TWO_CORES, interpreter=True)
    assert done.returncode == 0, text_of(done)
    assert time.monotonic() - start < seconds
    return json.loads((folder / "run" / "metrics.json").read_text())


def data(*parts):
    root = os.environ.get("MMTX_DATA")
    if root is None or not Path(root, *parts).exists():
        pytest.skip(f"MMTX_DATA names no folder with {'/'.join(parts)}")
    return Path(root, *parts)


def test_quickstart(tmp_path):
    assert reached(tmp_path, seconds=240)["test/accuracy"] >= 0.8


def test_spell_digits(tmp_path):
    assert reached(tmp_path, "experiment=spell_digits", seconds=180)["test/exact_match"] >= 0.95


def test_vit_digits(tmp_path):
    accuracies = []
    for seed in (1, 2, 3):
        (tmp_path / str(seed)).mkdir()
        words = ["experiment=vit_digits", f"seed={seed}"]
        accuracies.append(reached(tmp_path / str(seed), *words, seconds=120)["test/accuracy"])
    assert statistics.mean(accuracies) >= 0.98


def test_mae_digits(tmp_path):
    """With 100 labels, pre-training adds at least 5 points."""
    (tmp_path / "before").mkdir()
    reached(tmp_path / "before", "experiment=mae_digits", seconds=300)
    accuracies = {}
    for init in (tmp_path / "before" / "run", "null"):
        for seed in (1, 2, 3):
            folder = tmp_path / f"{seed}{init == 'null'}"
            folder.mkdir()
            words = ["objective=[classify]", "data.num_train=100", f"init_from={init}", "trainer.max_steps=200"]
            found = reached(folder, "experiment=mae_digits", *words, f"seed={seed}", seconds=120)
            accuracies.setdefault(init == "null", []).append(found["test/accuracy"])
    assert statistics.mean(accuracies[False]) >= statistics.mean(accuracies[True]) + 0.05


def test_vit_mnist(tmp_path):
    words = ["experiment=vit_mnist", f"data.path={data('mnist')}"]
    assert reached(tmp_path, *words, seconds=600)["test/accuracy"] >= 0.99


def test_gpt_shakespeare(tmp_path):
    words = ["experiment=gpt_shakespeare", f"data.path={data('tinyshakespeare', 'input.txt')}"]
    assert reached(tmp_path, *words, seconds=600)["val/loss"] <= 1.53


def test_gpt_shakespeare_at_nanogpts_cpu_settings(tmp_path):
    words = ["experiment=gpt_shakespeare", f"data.path={data('tinyshakespeare', 'input.txt')}"]
    sizes = ["backbone.num_layers=4", "backbone.num_heads=4", "backbone.dim=128", "data.context=64"]
    metrics = reached(tmp_path, *words, *sizes, "loader.batch_size=12", "trainer.max_steps=2000", seconds=600)
    assert metrics["val/loss"] <= 1.88


def test_stream_shakespeare(tmp_path):
    """Flat to 64 times the context."""
    words = ["experiment=stream_shakespeare", f"data.path={data('tinyshakespeare', 'input.txt')}"]
    metrics = reached(tmp_path, *words, seconds=600)
    losses = [metrics[f"test/loss/place={64 << number}"] for number in range(7)]
    assert metrics["val/loss"] <= 1.85 and max(losses[1:]) - min(losses[1:]) <= 0.1


def test_recall_notes(tmp_path):
    """At 64 times the longest text of training."""
    metrics = reached(tmp_path, "experiment=recall_notes", seconds=300)
    assert metrics["test/accuracy/length=2048"] >= 0.99 and metrics["test/loss/of=without_notes"] >= 2


def test_t_maze_notes(tmp_path):
    """A guess at the fork is right in half of the mazes."""
    assert reached(tmp_path, "experiment=t_maze_notes", seconds=300)["test/success_rate"] >= 0.95


def test_names_by_a_transformer_and_by_the_model_of_2003(tmp_path):
    losses = {}
    for recipe in ("names", "names_2003"):
        (tmp_path / recipe).mkdir()
        words = [f"experiment={recipe}", f"data.path={data('names', 'names.txt')}"]
        losses[recipe] = reached(tmp_path / recipe, *words, seconds=600)["val/loss"]
    assert losses["names"] <= 2.06 and losses["names_2003"] <= 2.21


def test_whisper_digits(tmp_path):
    """Synthesis included."""
    cache = {**TWO_CORES, "XDG_CACHE_HOME": str(tmp_path)}
    start = time.monotonic()
    done = mmtx(
        "train", "experiment=whisper_digits", "run_dir=run", cwd=tmp_path, timeout=900, env=cache, interpreter=True
    )
    assert done.returncode == 0, text_of(done)
    assert time.monotonic() - start < 300
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/wer"] <= 0.02


def test_ctc_digits(tmp_path):
    assert reached(tmp_path, "experiment=ctc_digits", seconds=450)["test/cer"] <= 0.04


def test_whisper_fsdd(tmp_path):
    words = ["experiment=whisper_fsdd", f"data.path={data('fsdd')}"]
    assert reached(tmp_path, *words, seconds=600)["test/wer"] <= 0.02


def test_whisper_fsdd_with_speakers_held_out(tmp_path):
    accuracies = []
    for speaker in ("jackson", "lucas", "nicolas", "theo"):
        (tmp_path / speaker).mkdir()
        words = ["experiment=whisper_fsdd", f"data.path={data('fsdd')}", f"data.test_speakers=[{speaker}]"]
        words += ["backbone.dropout=0.2", "trainer.max_steps=1500"]
        accuracies.append(reached(tmp_path / speaker, *words, seconds=900)["test/exact_match"])
    assert statistics.mean(accuracies) >= 0.75


def test_g2p(tmp_path):
    assert reached(tmp_path, "experiment=g2p", seconds=900)["test/per"] <= 0.15


def test_av_digits_needs_both(tmp_path):
    """Neither suffices alone: the set of both is at least 5 points above the better one."""
    mean = {}
    for names in ("image", "audio", "image,audio"):
        accuracies = []
        for seed in (1, 2, 3):
            folder = tmp_path / names / str(seed)
            folder.mkdir(parents=True)
            words = ["experiment=av_digits", f"modality=[{names}]", f"seed={seed}"]
            accuracies.append(reached(folder, *words, seconds=240)["test/accuracy"])
        mean[names] = statistics.mean(accuracies)
    assert mean["image,audio"] >= max(mean["image"], mean["audio"]) + 0.05


def test_regress_diabetes(tmp_path):
    """Ridge regression reaches 0.467."""
    assert reached(tmp_path, "experiment=regress_diabetes", seconds=60)["test/r2"] >= 0.43


def test_label_digits(tmp_path):
    assert reached(tmp_path, "experiment=label_digits", seconds=300)["test/mAP"] >= 0.97


def test_driving_curves(tmp_path):
    """Accuracy rises with each sensor, falls as sensors fail, and less with modality dropout."""
    script = Path(__file__).parents[1] / "scripts" / "driving_curves.py"
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **TWO_CORES}, capture_output=True, text=True)
    assert done.returncode == 0, text_of(done)
    curves = json.loads(done.stdout[done.stdout.index("{\n") : done.stdout.rindex("}") + 1])
    brought = list(curves["brought"].values())
    assert all(more > fewer + 0.01 for fewer, more in itertools.pairwise(brought))
    plain, tough = curves["left"]["plain"], curves["left"]["modality dropout"]
    assert all(more > fewer for curve in (plain, tough) for more, fewer in itertools.pairwise(curve))
    assert all(a > b for a, b in zip(tough[1:], plain[1:], strict=True))
    assert (tmp_path / "curves.png").is_file()


def test_caption_digits(tmp_path):
    assert reached(tmp_path, "experiment=caption_digits", seconds=300)["test/exact_match"] >= 0.9


@pytest.mark.parametrize(
    ("recipe", "name", "least"), [("vision_language", "image", 0.9), ("speech_language", "audio", 0.7)]
)
def test_answers_need_what_is_asked_about(recipe, name, least, tmp_path):
    """At least 30 points of exact match better than its twin, which reads the question alone."""
    found = {}
    for names, more in ((f"{name},question,text", []), ("question,text", ["optim.stages=[]"])):
        (tmp_path / names).mkdir()
        words = [f"experiment={recipe}", f"modality=[{names}]", *more]
        found[names] = reached(tmp_path / names, *words, seconds=900)["test/exact_match"]
    with_it, without = found.values()
    assert with_it >= max(least, without + 0.3)


def test_clip_digits(tmp_path):
    metrics = reached(tmp_path, "experiment=clip_digits", seconds=300)
    assert min(metrics[f"test/{way}/recall@1"] for way in ("image_to_audio", "audio_to_image")) >= 0.8


LENGTHS = (40, 80, 160, 320, 500)


@pytest.mark.parametrize("mixer", ["lstm", "gru"])
def test_parity_at_every_length(tmp_path, mixer):
    metrics = reached(tmp_path, "experiment=parity", f"backbone/attention={mixer}", seconds=300)
    assert min(metrics[f"test/accuracy/length={length}"] for length in LENGTHS) >= 0.99


@pytest.mark.parametrize(
    ("recipe", "least", "options"),
    [("draw_digits", 0.92, []), ("draw_digits_diffusion", 0.95, ["drawing={guidance:{label:3}}"])],
)
def test_what_is_drawn_is_read_as_it_was_asked_for(tmp_path, recipe, least, options):
    """By a classifier that reads real pictures right; no further from them than they are from each other by half, and
    new."""
    assert reached(tmp_path, "experiment=codes_digits", seconds=300)["test/rmse"] <= 0.08
    (tmp_path / "run").rename(tmp_path / "codes")
    assert mmtx("export", "codes", "codes.safetensors", "--format", "codes", cwd=tmp_path).returncode == 0
    reached(tmp_path, f"experiment={recipe}", "data.vocabulary.path=codes.safetensors", seconds=600)
    (tmp_path / "run").rename(tmp_path / "drawing")
    assert reached(tmp_path, "experiment=vit_digits", seconds=120)["test/accuracy"] >= 0.98
    done = mmtx("evaluate", "drawing", "judge=run", *options, cwd=tmp_path, timeout=300, env=TWO_CORES)
    assert done.returncode == 0, text_of(done)
    metrics = json.loads(done.stdout)
    assert metrics["test/conditional_accuracy"] >= least and metrics["test/copied"] <= 0.1
    assert recipe != "draw_digits" or metrics["test/frechet"] <= 1.5 * metrics["test/frechet_halves"]


def test_chains_are_folded_by_their_contacts(tmp_path):
    metrics = reached(tmp_path, "experiment=fold_small", seconds=1500)
    assert metrics["test/rmsd"] <= 3.4 and metrics["test/lddt"] >= 0.7


def test_sequential_digits(tmp_path):
    assert reached(tmp_path, "experiment=sequential_digits", seconds=600)["test/accuracy"] >= 0.97


def test_names_by_preference_and_a_reward_that_is_hacked(tmp_path):
    """Beyond 0.9 of the reward that can be had at this distance from the start; and what reveals the other."""
    found = {}
    for recipe in ("made_names", "names_by_preference", "reward_hacked"):
        (tmp_path / recipe).mkdir()
        begun = [] if recipe == "made_names" else [f"init_from={tmp_path / 'made_names' / 'run'}"]
        found[recipe] = reached(tmp_path / recipe, f"experiment={recipe}", *begun, seconds=300)
    preferred, hacked = found["names_by_preference"], found["reward_hacked"]
    best = next(
        q / 1000 for q in range(999, 0, -1) if least_distance(q / 1000, 0.2) <= preferred["val/policy_gradient/kl"]
    )
    assert preferred["val/reward"] >= 0.9 * best and best > 0.8
    assert hacked["val/reward"] >= 2 and hacked["val/reward_name"] <= 0.1 and hacked["val/kl"] >= 5
