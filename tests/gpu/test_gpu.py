"""Training on a GPU: every family, precision, packing, window, compilation and number of devices, in pairs.

A case trains to finite losses. In float32 they are those of the CPU; in other precisions the first is near. A run that
fails and is resumed is, bit for bit, the run that went through, with the kernels of torch that add in a fixed order.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from all_pairs import all_pairs, pairs_of
from benchmarks.gpt import TINY, gpt, random_ids
from runs import (
    FAMILIES,
    assert_same_numbers,
    in_a_fixed_order,
    killed_and_resumed,
    losses_of,
    resumed,
    rows_of,
    settle,
    straight,
    words_of,
)

from mmtx.batch import Batch
from mmtx.commands.main import main
from mmtx.decoding.generate import generate

AXES = {
    "family": list(FAMILIES),
    "precision": ["32-true", "bf16-mixed", "16-mixed", "bf16-true"],
    "packed": [False, True],
    "windowed": [False, True],
    "compiled": [False, True],
    "devices": [1, 2],
}
COMPILED = {("text", "bf16-mixed"), ("pictures", "32-true"), ("sounds", "bf16-true")}
"""Three, as each takes a compiler's time; so no trajectories are compiled, and nothing with a loss scaler."""
PLAIN = {"precision": "32-true", "packed": False, "windowed": False, "compiled": False, "devices": 1}
TOLERANCES = {"32-true": 1e-4, "bf16-mixed": 2e-2, "16-mixed": 2e-2, "bf16-true": 5e-2}


def allowed(case):
    return not case["compiled"] or (case["family"], case["precision"]) in COMPILED


def cases():
    """Each compiled pair in one case; the rest are the pairs that are left."""
    return all_pairs(AXES, allowed)


def named(case):
    marks = [name for name in ("packed", "windowed", "compiled") if case[name]]
    return "-".join([case["family"], case["precision"], *marks, f"{case['devices']}"])


def check(case, accelerator, folder, monkeypatch):
    """All that is promised of a case, on an accelerator."""
    settle(folder, monkeypatch)
    run = straight(case, accelerator, "run")
    on_cpu = straight({**case, "precision": "32-true", "compiled": False, "devices": 1}, "cpu", "on_cpu")
    compared = None if case["precision"] == "32-true" else 1
    expected, tolerance = losses_of(on_cpu)[:compared], TOLERANCES[case["precision"]]
    assert losses_of(run)[:compared] == pytest.approx(expected, rel=tolerance)
    if case["devices"] == 1 and not case["compiled"]:
        assert_same_numbers(run, resumed(case, accelerator, "resumed"))


@pytest.fixture(autouse=True)
def deterministic():
    in_a_fixed_order()
    yield
    in_a_fixed_order(False)


@pytest.fixture
def gpus():
    """How many there are."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return torch.cuda.device_count()


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases(), ids=named)
def test_a_case_trains_as_on_a_cpu(case, gpus, tmp_path, monkeypatch):
    check({**case, "devices": min(case["devices"], gpus)}, "gpu", tmp_path, monkeypatch)
    if case["devices"] > gpus:
        pytest.skip(f"passed on {gpus} GPU; {case['devices']} are not here")


@pytest.mark.gpu
def test_a_killed_run_goes_on_to_the_same_numbers(gpus, tmp_path, monkeypatch):
    settle(tmp_path, monkeypatch)
    case = {"family": "text", **PLAIN}
    assert_same_numbers(straight(case, "gpu", "run"), killed_and_resumed(case, "gpu", "killed"))


@pytest.mark.gpu
@pytest.mark.parametrize("words", [[], ["backbone.compile=true"], ["backbone/positions=rotary", "backbone.window=5"]])
@pytest.mark.usefixtures("gpus")
def test_a_recorded_step_writes_the_same(words):
    """As a CPU and, beyond the context, as without a cache. A second text is written with a graph of its own."""
    shape = replace(TINY, context=32, vocabulary=11)
    learner, ids = gpt(shape, *words).eval(), random_ids(shape)[:, :5]
    expected = [written(learner, batch, cache=False) for batch in (ids, ids.flip(0))]
    learner.to("cuda")
    assert [written(learner, batch.to("cuda")) for batch in (ids, ids.flip(0))] == expected


def written(learner, ids, cache=True):
    logits = partial(learner.objective("next_token").head.logits, learner.model)
    batch = Batch({"text": {"ids": ids}}, {"text": torch.full((len(ids),), ids.shape[1], device=ids.device)}, {})
    return generate(learner.model, logits, batch, "text", max_new_tokens=40, cache=cache)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpus")
def test_a_run_knows_how_well_its_gpu_is_used(tmp_path, monkeypatch):
    """A tiny model leaves nearly all of it idle."""
    settle(tmp_path, monkeypatch)
    words = [*words_of({"family": "text", **PLAIN, "precision": "bf16-mixed"}, "gpu"), "trainer.profile=true"]
    assert main(["train", *words, "trainer.max_steps=8", "trainer.val_every_steps=8", "run_dir=run"]) == 0
    *_, row = rows_of(Path("run"))
    assert 0 < row["train/mfu"] < 0.5 and 0 < row["train/memory_gib"] < 8 and 0 <= row["train/data_wait"] < 1
    assert "by time of the device\n" in Path("run", "profile", "table.txt").read_text()


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=[pytest.mark.slow] * (family != "text")) for family in FAMILIES]
)
def test_the_same_on_a_cpu(family, tmp_path, monkeypatch, unchecked):
    check({"family": family, **PLAIN, "packed": True, "windowed": True}, "cpu", tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_killed_run_on_a_cpu(tmp_path, monkeypatch, unchecked):
    settle(tmp_path, monkeypatch)
    case = {"family": "text", **PLAIN}
    assert_same_numbers(straight(case, "cpu", "run"), killed_and_resumed(case, "cpu", "killed"))


def test_cases_are_few_and_cover_all_pairs():
    chosen = cases()
    assert len(chosen) + 1 <= 24 and sum(case["compiled"] for case in chosen) <= 3
    met = set().union(*map(pairs_of, chosen))
    every = {frozenset({(a, x), (b, y)}) for a in AXES for b in AXES if a < b for x in AXES[a] for y in AXES[b]}
    lacking = [("family", "episodes"), ("precision", "16-mixed")]
    assert every - met == {frozenset({("compiled", True), value}) for value in lacking}


def test_all_pairs_of_two_axes_are_all_cases():
    assert len(all_pairs({"a": [1, 2, 3], "b": [1, 2]})) == 6
    assert len(all_pairs({"a": [0, 1], "b": [0, 1], "c": [0, 1]})) == 4  # the smallest orthogonal array
