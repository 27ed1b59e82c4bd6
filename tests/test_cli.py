"""What users do, by the real command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from run_cli import TINY, mmtx, start, text_of

from mmtx.commands.help import HELP
from mmtx.commands.main import COMMANDS, main


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return {line["step"]: line["train/loss"] for line in lines(run) if "train/loss" in line}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One short run, with a batch too small to be quick and too large to be exact."""
    folder = tmp_path_factory.mktemp("finished")
    words = ["experiment=spell_digits", "trainer.max_steps=6", "checkpoint.every_steps=3"]
    done = mmtx("train", *words, *TINY, cwd=folder)
    assert done.returncode == 0, text_of(done)
    (run,) = (folder / "runs" / "spell_digits").iterdir()
    return done, run


def test_help_is_quick_and_brings_nothing_heavy(tmp_path):
    heavy = ("torch", "hydra", "lightning", "wandb", "numpy", "sklearn", "omegaconf")
    script = "import sys; from mmtx.commands.main import main; main(['--help']); "
    script += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert "mmtx train" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: mmtx {command}" in capsys.readouterr().out
    assert f"\n  mmtx {command} " in HELP


def test_the_help_of_generate_lists_what_a_run_takes(finished, capsys):
    assert main(["generate", "--help"]) == 0
    every = capsys.readouterr().out
    assert main(["generate", str(finished[1]), "--help"]) == 0
    own = capsys.readouterr().out
    options = {line.split("=")[0].strip() for line in own.splitlines() if line.startswith("  ")}
    assert options == {
        *("prompt", "image", "index", "max_new_tokens", "temperature", "top_k", "top_p", "min_p"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty", "guidance", "grammar", "schema"),
        *("device", "precision", "seed", "cache", "cache_size", "keep_first", "notes", "note_marks", "plugins"),
    }
    assert re.search(r"\n  temperature=1.0 +a number +divides the scores", own)
    assert all(f"\n  {option}=" in every for option in (*options, "audio", "beam_size", "target_return", "out"))
    assert main(["generate", "nowhere", "--help"]) == 2 and "nowhere" in capsys.readouterr().err


def test_a_text_streams_on_a_small_cache(finished, capsys):
    """Which its prompt fills already."""
    words = ["generate", str(finished[1]), "index=0", "prompt=seven", "max_new_tokens=30"]
    assert main([*words, "cache_size=3", "keep_first=1"]) == 0
    assert capsys.readouterr().out.startswith("seven")
    assert main([*words, "cache_size=99"]) == 2
    assert "cache_size=99 is more than the context of 'text', modality.text.context; nearest: at most" in (
        capsys.readouterr().err
    )


def test_the_run_directory_is_printed_first_and_last(finished):
    done, run = finished
    printed = done.stdout.splitlines()
    assert printed[0] == printed[-1] == f"run directory: {run}"
    assert any(line.startswith("samples: ") and Path(line[9:]).is_file() for line in printed)


def test_the_run_directory_holds_what_the_design_says(finished):
    _, run = finished
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "finished" and status["error"] is None and status["ended"] >= status["started"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"].startswith("mmtx train experiment=spell_digits trainer.max_steps=6")
    assert environment["versions"]["torch"] and environment["seed"] == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 6 and config["backbone"]["dim"] == 32
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"val/loss", "val/exact_match", "test/loss", "test/exact_match"} <= set(metrics)
    assert all(value is None or isinstance(value, int | float) for value in metrics.values())
    assert sorted(losses(run)) == [1, 2, 3, 4, 5, 6]
    assert all("step" in line for line in lines(run))
    assert (run / "checkpoints" / "last.ckpt").is_file() and (run / "checkpoints" / "best.ckpt").is_file()
    assert list((run / "samples").glob("*.png"))


def test_a_saved_config_repeats_the_run(finished, tmp_path):
    _, run = finished
    done = mmtx("train", "--config", str(run / "config.yaml"), "run_dir=again", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    assert losses(tmp_path / "again") == losses(run)


def test_evaluate_gives_the_metrics_of_the_run(finished, tmp_path):
    _, run = finished
    final = json.loads((run / "metrics.json").read_text())
    for split in ("test", "val"):
        done = mmtx("evaluate", str(run), f"split={split}", cwd=tmp_path)
        assert done.returncode == 0, text_of(done)
        found = json.loads(done.stdout)
        assert found and all(found[key] == pytest.approx(final[key], rel=1e-5, abs=1e-7) for key in found)
    done = mmtx("evaluate", str(run / "checkpoints" / "best.ckpt"), "loader.eval_batch_size=7", cwd=tmp_path)
    assert json.loads(done.stdout)["test/loss"] > 0


def test_generate_reads_a_picture(finished, tmp_path):
    from PIL import Image

    _, run = finished
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "picture.png")
    first = mmtx("generate", str(run), "image=picture.png", "seed=3", cwd=tmp_path)
    assert first.returncode == 0, text_of(first)
    again = mmtx("generate", str(run), "image=picture.png", "seed=3", "cache=false", cwd=tmp_path)
    assert again.stdout == first.stdout
    beyond = mmtx("generate", str(run), "index=360", cwd=tmp_path)
    assert beyond.returncode == 2 and "index=360" in beyond.stderr


def test_generate_continues_a_text_past_its_context(tmp_path):
    (tmp_path / "text.txt").write_text("ROMEO: what light through yonder window breaks?\n" * 60)
    chosen = ["data=text_file", "data.path=text.txt", "data.context=16", "modality=[text]", "objective=[next_token]"]
    done = mmtx("train", *chosen, *TINY[:3], "trainer.max_steps=5", "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    words = ["generate", "run", "prompt=ROMEO:", "max_new_tokens=60", "seed=1"]
    texts = [mmtx(*words, *more, cwd=tmp_path) for more in ([], [], ["cache=false"])]
    assert texts[0].returncode == 0, text_of(texts[0])
    assert texts[0].stdout == texts[1].stdout == texts[2].stdout
    assert texts[0].stdout.startswith("ROMEO:") and len(texts[0].stdout.rstrip("\n")) > 50
    assert mmtx(*words[:-1], "seed=2", cwd=tmp_path).stdout != texts[0].stdout
    unknown = mmtx("generate", "run", "prompt=ROMEO™", cwd=tmp_path)
    assert unknown.returncode == 2 and "'™'" in unknown.stderr
    for wrong, named in (
        ("temperature=-1", "temperature"),
        ("max_new_token=3", "max_new_tokens"),
        ("top_p=2", "top_p"),
    ):
        refused = mmtx("generate", "run", "prompt=R", wrong, cwd=tmp_path)
        assert refused.returncode == 2 and named in refused.stderr, text_of(refused)


def test_several_objectives_are_logged_by_name(tmp_path):
    chosen = ["experiment=spell_digits", "objective=[classify,next_token]", "trainer.max_steps=2", "run_dir=run"]
    done = mmtx("train", *chosen, *TINY, "callbacks=[]", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"test/loss", "test/classify/accuracy", "test/next_token/exact_match", "train/classify/loss"} <= set(metrics)
    assert metrics["test/loss"] == pytest.approx(metrics["test/classify/loss"] + metrics["test/next_token/loss"])


def test_a_sweep_runs_every_combination_in_a_process_of_its_own(tmp_path):
    words = ["experiment=spell_digits", "modality=[image],[image,text]", "objective=[classify]", "trainer.max_steps=1"]
    done = mmtx("train", "-m", *words, "run_dir=sweep", *TINY, "callbacks=[]", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    runs = sorted(file.parent for file in (tmp_path / "sweep").glob("*/config.yaml"))
    assert len(runs) == 2
    sets = [list(yaml.safe_load((run / "config.yaml").read_text())["modality"]) for run in runs]
    assert sorted(sets) == [["image"], ["image", "text"]]
    assert len({json.loads((run / "status.json").read_text())["pid"] for run in runs}) == 2


def test_a_sweep_with_a_mistake_starts_nothing(tmp_path):
    done = mmtx("train", "-m", "backbone.dim=32,33", "run_dir=sweep", *TINY[1:], "callbacks=[]", cwd=tmp_path)
    assert done.returncode == 2 and "backbone.dim=33" in done.stderr
    assert not (tmp_path / "sweep").exists()


def test_a_run_directory_is_never_overwritten(finished, tmp_path):
    _, run = finished
    before = (run / "metrics.jsonl").read_bytes()
    done = mmtx("train", f"run_dir={run}", *TINY, cwd=tmp_path)
    assert done.returncode == 2 and "already holds a run" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(number, code, tmp_path):
    words = ["data=digits", "modality=[image]", "objective=[classify]", "logger=[]", "callbacks=[]", *TINY]
    process = start("train", "run_dir=run", *words, "trainer.max_epochs=10000", cwd=tmp_path)
    try:
        log = tmp_path / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and len(log.read_text().splitlines()) > 3) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == code
    finally:
        process.kill()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    done = mmtx("evaluate", "run", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)


def test_list_knows_the_users_own(tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\n# my own recipe\nname: mine\n")
    done = mmtx("list", "experiment", cwd=tmp_path)
    assert "my own recipe" in done.stdout and "quickstart" in done.stdout
    assert mmtx("check", "experiment=mine", cwd=tmp_path).returncode == 0
    refused = mmtx("list", "experimant", cwd=tmp_path)
    assert refused.returncode == 2 and "did you mean 'experiment'?" in refused.stderr
