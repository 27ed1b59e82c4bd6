"""What writing and training cost: speed and memory in the log of a run, by a clock that the test sets."""

import json

import pytest
import torch

from mmtx.batch import fake_batch
from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training import costs

SMALL = ["backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2", "logger=[]", "callbacks=[costs]"]
SMALL += ["trainer.max_epochs=null", "trainer.max_steps=2", "trainer.val_every_steps=2"]
WRITES = ["experiment=gpt_python", "data.context=12", "data.max_chars=4000"]


def test_the_speed_is_the_tokens_over_the_median_of_three_times(monkeypatch):
    learner = assemble(compose([*WRITES, *SMALL])).learner.eval()
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 23.0, 30.0, 37.0])  # 9 s the first time, then 2, 3 and 7
    monkeypatch.setattr("mmtx.training.costs.time.perf_counter", lambda: next(clock))
    batch = fake_batch(learner.specs, 1, ragged=False)
    length = batch["text"]["ids"].shape[1]
    assert costs.written_per_second(learner, batch) == {"costs/written/tokens_per_second": (length - 1) / 3.0}


def test_what_is_written_is_what_the_best_ids_are_one_by_one():
    learner = assemble(compose([*WRITES, *SMALL])).learner.eval()
    batch, objective = fake_batch(learner.specs, 2, ragged=False), learner.objective("next_token")
    ids = batch["text"]["ids"][:, :1]
    with torch.no_grad():
        written = objective.continued(learner.model, batch)
        while ids.shape[1] < batch["text"]["ids"].shape[1]:
            lengths = torch.full((2,), ids.shape[1])
            hidden = learner.model(batch.with_name("text", {"ids": ids}, lengths)).tokens("text")
            ids = torch.cat([ids, objective.head.logits(learner.model, hidden)[:, -1:].argmax(-1)], dim=1)
    assert written == ids[:, 1:].tolist()


@pytest.mark.parametrize(("words", "writes"), [(WRITES, True), (["experiment=vit_digits"], False)], ids=["gpt", "vit"])
def test_a_run_logs_them_once(words, writes, tmp_path):
    experiment, run = assemble(compose([*words, *SMALL])), RunDirectory(tmp_path / "run")
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    found = [{name: value for name, value in row.items() if name.startswith("costs/")} for row in rows]
    (found,) = [row for row in found if row]
    assert 0.05 < found["costs/memory_gib"] < 64  # a process with torch in it
    assert ("costs/written/tokens_per_second" in found) == writes
    assert all(value > 0 for value in found.values()) and found.keys() <= experiment.directions.keys()
