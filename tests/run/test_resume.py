"""A run that was stopped anywhere and goes on is, bit for bit, the run that was never stopped."""

import json
import multiprocessing
import os

import kills
import pytest
import torch
from run_cli import ENVIRONMENT, TINY, fork
from small_data import shrink_data
from whole_checkpoint import whole_checkpoint

WORDS = [
    *("train", "experiment=spell_digits", *TINY[:3], "log_every_steps=1", "logger=[]", "callbacks=[]"),
    *("objective=[classify,next_token]", "backbone.dropout=0.2", "optim.ema_decay=0.9", "optim.warmup_steps=3"),
    *("loader.batch_size=8", "data/augment=affine", "trainer.max_steps=10", "trainer.val_every_steps=5"),
    *("trainer.accumulate_grad_batches=2", "checkpoint.every_steps=3", "data.num_val=24", "loader.eval_batch_size=12"),
]
"""Pictures and texts, ragged; two objectives, dropout, an average, accumulation, augmentation."""


def play(cases, timeout=600):
    """What became of cases that `kills.py` ran one after the other."""
    result, end = multiprocessing.Pipe(duplex=False)
    process = fork(kills.run_all, cases, {**os.environ, **ENVIRONMENT}, end)
    end.close()
    try:
        assert result.poll(timeout), f"no result after {timeout} s"
        return result.recv()
    finally:
        process.kill()
        process.join()


def lines(run):
    """The log and the final metrics, without times."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found.append(json.loads((run / "metrics.json").read_text()))
    return [{key: v for key, v in line.items() if not by_a_clock(key)} for line in found]


def by_a_clock(key):
    return key == "time" or key.startswith(("train/tokens_per_second", "train/data_wait"))


def learnt(run):
    """The same, without what depends on how a step is cut into batches."""
    return [{key: value for key, value in line.items() if key != "train/fill"} for line in lines(run)]


def final_state(run, name="last"):
    """Every value of the state that a run ended with, or was best with, less times."""
    checkpoint = whole_checkpoint(run / "checkpoints" / f"{name}.ckpt")
    flat = {}

    def walk(node, path):
        if isinstance(node, dict):
            for key, child in node.items():
                if key != "config" and not by_a_clock(key):
                    walk(child, f"{path}/{key}")
        elif isinstance(node, list | tuple):
            for index, child in enumerate(node):
                walk(child, f"{path}/{index}")
        else:
            flat[path] = node

    walk(checkpoint, "")
    return flat


def assert_same_run(one, other):
    assert lines(one) == lines(other)
    for name in ("last", "best"):
        mine, theirs = final_state(one, name), final_state(other, name)
        assert mine.keys() == theirs.keys()
        different = [
            key
            for key, value in mine.items()
            if not (torch.equal(value, theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key])
        ]
        assert not different, f"{name}.ckpt: {different}"
    assert json.loads((one / "status.json").read_text())["state"] == "finished"


WORKERS = ["loader.num_workers=2"]
TWO_RANKS = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.accumulate_grad_batches=1"]

STOPS = {
    "in a step": ({"at": "step.after_backward", "nth": 8}, -9),
    "between a save and the validation behind it": (
        {"at": "val.step", "nth": 1, "more": ["checkpoint.every_steps=5"]},
        -9,
    ),
    "half of a checkpoint": ({"at": "ckpt.half", "nth": 900}, -9),
    "with workers": ({"at": "step.before_update", "nth": 7, "more": WORKERS}, -9),
    "requested in a step": ({"at": "step.start", "nth": 4, "do": "term"}, 143),
    "not a number": ({"at": "step.after_backward", "nth": 6, "do": "nan"}, 2),
}
BY_CLOCK = ["checkpoint.every_steps=null", "checkpoint.every_minutes=0.0001"]
MORE_STOPS = {
    "before the first checkpoint": ({"at": "step.before_update", "nth": 2}, -9),
    "written, without any name": ({"at": "ckpt.before_link", "nth": 3}, -9),
    "requested in the last step": ({"at": "step.start", "nth": 10, "do": "term"}, 143),
    "saved by the clock": ({"at": "step.before_update", "nth": 8, "more": BY_CLOCK}, -9),
    "before the update": ({"at": "step.before_update", "nth": 9}, -9),
    "in validation": ({"at": "val.step", "nth": 2}, -9),
    "requested in validation": ({"at": "val.step", "nth": 1, "do": "term"}, 143),
    "requested in the last validation": ({"at": "val.step", "nth": 4, "do": "term"}, 143),
    "in the last validation": ({"at": "val.step", "nth": 4}, -9),
    "opening the first": ({"at": "ckpt.open", "nth": 1}, -9),
    "half of the first": ({"at": "ckpt.half", "nth": 20}, -9),
    "opening the second": ({"at": "ckpt.open", "nth": 2}, -9),
    "written, not renamed": ({"at": "ckpt.synced", "nth": 2}, -9),
    "named, not in place": ({"at": "ckpt.renamed", "nth": 3}, -9),
    "renamed, not on disk": ({"at": "ckpt.renamed", "nth": 4}, -9),
    "the best has its name, the last has not": ({"at": "ckpt.before_link", "nth": 7}, -9),
    "before the last names": ({"at": "ckpt.before_link", "nth": 8}, -9),
    "before the names of the first": ({"at": "ckpt.before_link", "nth": 1}, -9),
    "before pruning": ({"at": "ckpt.before_prune", "nth": 3}, -9),
    "written while training goes on": (
        {"at": "ckpt.half", "nth": 900, "more": ["checkpoint.asynchronous=true"]},
        -9,
    ),
    "in the test": ({"at": "test.step", "nth": 1}, -9),
    "requested in a save": ({"at": "ckpt.half", "nth": 20, "do": "term"}, 143),
    "requested while data is made": ({"at": "data.batch", "nth": 11, "do": "term"}, 143),
    "requested in the test": ({"at": "test.step", "nth": 3, "do": "term"}, 143),
    "requested by a terminal": ({"at": "step.start", "nth": 4, "do": "interrupt"}, 130),
    "requested as a terminal is closed": ({"at": "step.start", "nth": 4, "do": "hang_up"}, 129),
    "requested by SLURM": ({"at": "step.start", "nth": 4, "do": "requeue"}, 138),
    "the whole group requested, with workers": ({"at": "step.start", "nth": 4, "do": "term_all", "more": WORKERS}, 143),
    "out of memory": ({"at": "step.start", "nth": 5, "do": "out_of_memory"}, 2),
    "out of memory before the update": ({"at": "step.before_update", "nth": 7, "do": "out_of_memory"}, 2),
    "out of memory when the best is saved": ({"at": "ckpt.open", "nth": 5, "do": "out_of_memory"}, 2),
    "out of memory before the best is saved": ({"at": "ckpt.begin", "nth": 5, "do": "out_of_memory"}, 2),
    "out of memory in a save": ({"at": "ckpt.before_link", "nth": 3, "do": "out_of_memory"}, 2),
    "a worker dies": ({"at": "data.batch", "nth": 4, "more": WORKERS}, 1),
    "a worker hangs": (
        {"at": "data.batch", "nth": 4, "do": "hang", "more": [*WORKERS, "trainer.data_timeout_s=3"]},
        1,
    ),
    "the disk is full at every save": ({"at": "ckpt.synced", "nth": 2, "do": "no_space", "times": 3}, 2),
}
QUIET = ["log_every_steps=7"]
"""The host reads whether a step counts when the next one is computed, unless it is logged, validated or saved."""
QUIET_RANK_STOPS = {
    "rank 1 has not a number": ({"at": "step.after_backward", "nth": 4, "do": "nan", "rank": 1}, 2),
    "rank 1 requested": ({"at": "step.start", "nth": 4, "do": "term", "rank": 1}, 143),
}
QUIET_STOPS = {
    "not a number, read in the next step": ({"at": "step.after_backward", "nth": 4, "do": "nan"}, 2),
    "not a number, read before a validation": ({"at": "step.after_backward", "nth": 5, "do": "nan"}, 2),
    "not a number, read before a save": ({"at": "step.after_backward", "nth": 6, "do": "nan"}, 2),
    "not a number in the last step": ({"at": "step.after_backward", "nth": 10, "do": "nan"}, 2),
    "requested in a step": ({"at": "step.start", "nth": 4, "do": "term"}, 143),
    "out of memory in the next step": ({"at": "step.after_backward", "nth": 5, "do": "out_of_memory"}, 2),
    "in a step": ({"at": "step.before_update", "nth": 9}, -9),
}
RANK_STOPS = {
    "saved by the clock of rank 0": ({"at": "step.before_update", "nth": 8, "rank": 1, "more": BY_CLOCK}, 1),
    "rank 1 in a step": ({"at": "step.after_backward", "nth": 8, "rank": 1}, 1),
    "rank 0 in a save": ({"at": "ckpt.half", "nth": 900}, 1),
    "rank 1 requested": ({"at": "step.start", "nth": 4, "do": "term", "rank": 1}, 143),
    "all requested": ({"at": "step.start", "nth": 4, "do": "term_all"}, 143),
    "rank 1 requested in the last step": ({"at": "step.start", "nth": 10, "do": "term", "rank": 1}, 143),
    "the parent is killed": ({"at": "step.start", "nth": 4, "do": "kill_parent"}, -9),
    "rank 1 requested in validation": ({"at": "val.step", "nth": 1, "do": "term", "rank": 1}, 143),
    "rank 1 requested in the test": ({"at": "test.step", "nth": 8, "do": "term", "rank": 1}, 143),
    "rank 1 has not a number": ({"at": "step.after_backward", "nth": 6, "do": "nan", "rank": 1}, 2),
}


def stop_and_resume(folder, stops, more=()):
    """One run that nobody stops, and for every stop one that was stopped there and resumed."""
    cases = [{"words": [*WORDS, *more, "run_dir=whole"]}]
    for index, (point, _) in enumerate(stops.values()):
        words = [*WORDS, *more, *point.get("more", []), f"run_dir=run{index}"]
        point = {key: value for key, value in point.items() if key != "more"}
        cases += [{"words": words, **point}, {"words": ["resume", f"run{index}"]}]
    done = play([{"cwd": str(folder), **case} for case in cases], timeout=1800)
    assert done[0]["code"] == 0, done[0]["output"]
    return folder, {name: done[1 + 2 * i : 3 + 2 * i] for i, name in enumerate(stops)}


def assert_resumed(name, stops, stopped_and_resumed):
    folder, done = stopped_and_resumed
    stopped, resumed = done[name]
    assert stopped["code"] == stops[name][1], stopped["output"]
    assert resumed["code"] == 0, resumed["output"]
    assert_same_run(folder / f"run{list(stops).index(name)}", folder / "whole")
    return stopped


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return stop_and_resume(tmp_path_factory.mktemp("stopped"), STOPS)


@pytest.fixture(scope="module")
def quiet_stopped(tmp_path_factory):
    return stop_and_resume(tmp_path_factory.mktemp("quiet"), QUIET_STOPS, QUIET)


@pytest.fixture(scope="module")
def more_stopped(tmp_path_factory):
    return stop_and_resume(tmp_path_factory.mktemp("more"), MORE_STOPS)


@pytest.fixture(scope="module")
def ranks_stopped(tmp_path_factory):
    return stop_and_resume(tmp_path_factory.mktemp("ranks"), RANK_STOPS, TWO_RANKS)


def test_every_step_has_one_line(stopped):
    folder, _ = stopped
    *logged, _ = lines(folder / "whole")
    assert [line["step"] for line in logged if "train/loss" in line] == list(range(1, 11))
    validated = {line["step"]: line["val/loss"] for line in logged if "val/loss" in line}
    best = final_state(folder / "whole", "best")
    assert list(validated) == [5, 10]
    assert (best["/mmtx/step"], best["/mmtx/metrics/val/loss"]) == min(validated.items(), key=lambda one: one[1])


@pytest.mark.parametrize("name", STOPS)
def test_stopped_and_resumed_is_the_same_run(name, stopped):
    assert_resumed(name, STOPS, stopped)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUIET_STOPS)
def test_a_step_that_nobody_has_read_is_the_same_run(name, quiet_stopped):
    stopped = assert_resumed(name, QUIET_STOPS, quiet_stopped)
    if name.startswith("not a number"):
        bad = QUIET_STOPS[name][0]["nth"]
        assert f"not finite at step {bad}: loss nan" in stopped["output"], stopped["output"]
        assert f"step {bad - 1} is saved: mmtx resume" in stopped["output"], stopped["output"]


@pytest.mark.slow
def test_ranks_that_have_not_read_a_step_are_the_same_run(tmp_path):
    stopped = stop_and_resume(tmp_path, QUIET_RANK_STOPS, [*TWO_RANKS, *QUIET])
    for name in QUIET_RANK_STOPS:
        assert_resumed(name, QUIET_RANK_STOPS, stopped)


def test_what_is_not_a_number_is_told_and_kept(stopped):
    folder, done = stopped
    output = done["not a number"][0]["output"]
    assert "not finite at step 6: loss nan" in output and "step 5 is saved: mmtx resume" in output, output
    ids = json.loads(output[output.index("samples [") + 8 : output.index("], saved") + 1])
    (file,) = (folder / f"run{list(STOPS).index('not a number')}" / "not_finite").iterdir()
    kept = torch.load(file, weights_only=True)
    assert sorted(int(i) for batch in kept for i in batch["ids"]) == ids and len(ids) == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_STOPS)
def test_stopped_anywhere_else_and_resumed_is_the_same_run(name, more_stopped):
    messages = {
        "out of memory": "out of memory: ",
        "a worker dies": "it was on sample ",
        "a worker hangs": "timed out",
        "the disk is full at every save": "No space left on device",
    }
    stopped = assert_resumed(name, MORE_STOPS, more_stopped)
    assert messages.get(name, "") in stopped["output"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RANK_STOPS)
def test_two_ranks_stopped_and_resumed_are_the_same_run(name, ranks_stopped):
    stopped = assert_resumed(name, RANK_STOPS, ranks_stopped)
    if stopped["code"] == 1:
        assert " was killed by SIGKILL" in stopped["output"]


SHARDED = [*TWO_RANKS, "trainer.strategy=fsdp2", "backbone.dropout=0"]
SHARDED_STOPS = {
    "in a step": ({"at": "step.after_backward", "nth": 8}, 1),
    "rank 1 has not begun to write": ({"at": "shards.begin", "nth": 2, "rank": 1}, 1),
    "rank 1 has written, and nobody knows": ({"at": "shards.written", "nth": 2, "rank": 1}, 1),
    "all shards are written, and nothing holds them": ({"at": "ckpt.open", "nth": 3}, 1),
    "named, not in place": ({"at": "ckpt.renamed", "nth": 3}, 1),
    "before older ones are removed": ({"at": "ckpt.before_prune", "nth": 3}, 1),
    "written while training goes on": (
        {"at": "shards.written", "nth": 2, "rank": 1, "more": ["checkpoint.asynchronous=true"]},
        1,
    ),
    "rank 1 requested in validation": ({"at": "val.step", "nth": 1, "do": "term", "rank": 1}, 143),
    "the disk of rank 1 is full once": ({"at": "shards.written", "nth": 1, "do": "no_space", "rank": 1}, 0),
}


@pytest.fixture(scope="module")
def shards_stopped(tmp_path_factory):
    return stop_and_resume(tmp_path_factory.mktemp("shards"), SHARDED_STOPS, SHARDED)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED_STOPS)
def test_ranks_that_write_their_shards_go_on_as_the_same_run(name, shards_stopped):
    stopped = assert_resumed(name, SHARDED_STOPS, shards_stopped)
    assert ("No space left on device; checkpoints from before are kept" in stopped["output"]) is (stopped["code"] == 0)
    checkpoints = shards_stopped[0] / f"run{list(SHARDED_STOPS).index(name)}" / "checkpoints"
    assert len(list(checkpoints.glob("*.shards"))) <= 3, "the newest two, and the best"


@pytest.mark.slow
def test_shards_are_cut_for_another_number_of_ranks(tmp_path):
    steps = ["loader.batch_size=4", "trainer.accumulate_grad_batches=3"]
    cases = [{"words": [*WORDS, *SHARDED, *steps, "run_dir=whole"]}]
    for ranks in (1, 2, 3):
        cases += [
            {"words": [*WORDS, *SHARDED, *steps, f"run_dir=run{ranks}"], "at": "step.after_backward", "nth": 8},
            {"words": ["resume", f"run{ranks}", f"trainer.devices={ranks}"]},
        ]
    alone = [
        "trainer.accelerator=cpu",
        "backbone.dropout=0",
        "loader.batch_size=4",
        "trainer.accumulate_grad_batches=6",
    ]
    cases += [  # a checkpoint that has all in its file, as those of earlier sharded runs have
        {"words": [*WORDS, *alone, "run_dir=old"], "at": "step.after_backward", "nth": 8},
        {"words": ["resume", "old", "trainer.devices=2", "trainer.strategy=fsdp2"]},
    ]
    done = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert [each["code"] for each in done] == [0, *(1, 0) * 3, -9, 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run2", tmp_path / "whole")
    for name in ("run1", "run3", "old"):
        for one, other in zip(learnt(tmp_path / name), learnt(tmp_path / "whole"), strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_one_rank_goes_on_where_two_were(tmp_path):
    """With the same global batches; without dropout, which differs by rank."""
    more = [*TWO_RANKS, "backbone.dropout=0"]
    stop = {"at": "step.after_backward", "nth": 8}
    done = play(
        [
            {"cwd": str(tmp_path), "words": [*WORDS, *more, "run_dir=whole"]},
            {"cwd": str(tmp_path), "words": [*WORDS, *more, "run_dir=run"], **stop},
            {"cwd": str(tmp_path), "words": ["resume", "run", "trainer.devices=1"]},
            {"cwd": str(tmp_path), "words": [*WORDS, *more, "run_dir=odd"], **stop},
            {"cwd": str(tmp_path), "words": ["resume", "odd", "trainer.devices=3"]},
        ]
    )
    assert [each["code"] for each in done] == [0, 1, 0, 1, 2], [each["output"] for each in done]
    for one, other in zip(learnt(tmp_path / "run"), learnt(tmp_path / "whole"), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert "cannot make steps of 16 samples of batches of 8; nearest: 1, 2" in done[-1]["output"]


def test_skipped_steps_are_the_same_whoever_reads_them(tmp_path):
    """And whenever: right away where each step is logged, else a step later."""
    words = [*WORDS, "trainer.nonfinite=skip", "trainer.max_skips=2", "checkpoint.every_steps=null"]
    bad = {"cwd": str(tmp_path), "at": "step.after_backward", "nth": 3, "do": "nan", "times": 2}
    runs = {"early": [], "late": ["log_every_steps=10"]}
    done = play([{"words": [*words, *more, f"run_dir={name}"], **bad} for name, more in runs.items()])
    assert [each["code"] for each in done] == [0, 0], [each["output"] for each in done]
    early, late = ({k: v for k, v in final_state(tmp_path / name).items() if "log_" not in k} for name in runs)
    assert early["/module/watch/skipped"] == 2 and early["/average/updates"] == 8
    assert [k for k, v in early.items() if not (torch.equal(v, late[k]) if torch.is_tensor(v) else v == late[k])] == []


SHARDS = [*TWO_RANKS, "trainer.strategy=fsdp2", "optim.ema_decay=null"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], TWO_RANKS, SHARDS], ids=["one process", "two ranks", "shards"])
def test_steps_that_are_no_numbers_are_skipped_up_to_a_limit(more, tmp_path):
    words = [*WORDS, *more, "trainer.nonfinite=skip", "trainer.max_skips=2"]
    bad = {"cwd": str(tmp_path), "at": "step.after_backward", "nth": 4, "do": "nan", "rank": 1 if more else 0}
    some, many = play([{"words": [*words, f"run_dir=run{times}"], "times": times, **bad} for times in (2, 3)])
    assert some["code"] == 0 and "step 4 is skipped" in some["output"] and "step 5 is skipped" in some["output"]
    assert many["code"] == 2 and "2 steps before it were skipped (trainer.max_skips=2)" in many["output"]
    *logged, _ = lines(tmp_path / "run2")
    assert [line["step"] for line in logged if "train/loss" in line] == [1, 2, 3, 6, 7, 8, 9, 10]
    state = final_state(tmp_path / "run2")
    assert state["/mmtx/step"] == 10 and state["/module/watch/skipped"] == 2
    assert {float(v) for key, v in state.items() if key.startswith("/optimizer") and key.endswith("/step")} == {8.0}


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], [*TWO_RANKS, "trainer.strategy=fsdp2"]], ids=["one process", "shards"])
def test_gradients_that_overflow_are_left_to_the_loss_scaler(more, tmp_path):
    """Also where one rank alone has them in its shards: all leave the step out."""
    words = [*WORDS, *more, "trainer.precision=16-mixed", "run_dir=run"]
    bad = {"at": "step.before_update", "nth": 4, "do": "overflow", "rank": 1 if more else 0}
    (done,) = play([{"cwd": str(tmp_path), "words": words, **bad}])
    assert done["code"] == 0, done["output"]
    state = final_state(tmp_path / "run")
    assert {float(v) for key, v in state.items() if key.startswith("/optimizer") and key.endswith("/step")} == {9.0}
    assert state["/scaler/scale"] == 2.0**15 and state["/mmtx/step"] == 10
    assert all(v.isfinite().all() for key, v in state.items() if key.startswith("/state_dict"))


BASIC = [
    *("train", *TINY[:3], "log_every_steps=1", "logger=[]", "callbacks=[]", "backbone.dropout=0.1"),
    *("loader.batch_size=4", "trainer.max_steps=8", "trainer.val_every_steps=4", "checkpoint.every_steps=3"),
]
RESAMPLED = ["data.sample_rate_hz=16000", "data.resample=true"]
DATA = {
    "text": ("text_file", ["modality=[text]", "objective=[next_token]", "data.val_fraction=0.1"]),
    "sound": ("audio_manifest", ["modality=[audio]", "objective=[ctc]"]),
    "pictures, augmented on the device": (
        "digits",
        [
            *("data.num_val=24", "modality.image.patch_size=4", "objective.classify.mixup=0.4"),
            "modality/picture_augment@modality.image.augment=random",
        ],
    ),
    "trajectories": ("trajectories", ["modality=[return,state,action]", "objective=[action]"]),
    "sound and its text": ("fsdd", ["modality=[audio,text]", "objective=[next_token]", *RESAMPLED]),
    "a table": ("manifest", ["modality=[image,text]", "objective=[next_token]", "data.shuffle_mb=1"]),
    "a mixture": (
        "mixture",
        [
            *("modality=[text,image,state,action]", "objective=[next_token,classify,action]"),
            *("data.names={digits:{text:name}}", "modality.image.patch_size=4", "trainer.accumulate_grad_batches=2"),
        ],
    ),
}
PARTS = {"prose": "text_file", "digits": "digits", "steps": "trajectories"}


def small_data(name, folder, monkeypatch):
    if name != "mixture":
        return shrink_data(name, folder, monkeypatch)
    words = ["data.parts.digits.num_val=24"]
    for part, source in PARTS.items():
        small = shrink_data(source, folder, monkeypatch)
        words += [f"+data@data.parts.{part}={source}"]
        words += [word.replace("data.", f"data.parts.{part}.", 1) for word in small]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", DATA)
def test_any_data_goes_on_as_it_was(kind, workers, tmp_path, monkeypatch):
    name, chosen = DATA[kind]
    (tmp_path / "data").mkdir()
    words = [*BASIC, f"data={name}", *chosen, *small_data(name, tmp_path / "data", monkeypatch)]
    words = [word for word in words if not word.startswith("loader.num_workers")]
    words.append(f"loader.num_workers={workers}")
    done = play(
        [
            {"cwd": str(tmp_path), "words": [*words, "run_dir=whole"]},
            {"cwd": str(tmp_path), "words": [*words, "run_dir=run"], "at": "step.before_update", "nth": 8},
            {"cwd": str(tmp_path), "words": ["resume", "run"]},
        ]
    )
    assert [each["code"] for each in done] == [0, -9, 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run", tmp_path / "whole")
