"""What the log has of every name: tokens, throughput, gradient; against counting one by one."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_subsets import config_of

from mmtx.experiment import Experiment, assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training.throughput import Throughput

NAMES = ["image", "state", "audio", "text"]
WORDS = ["logger=[]", "callbacks=[]", "trainer.accelerator=cpu", "optim.warmup_steps=0", "optim.clip_norm=1.0e-3"]


def made(*words: str) -> Experiment:
    return assemble(config_of(NAMES, ["classify", "next_token"], *WORDS, *words))


def rows_of(experiment: Experiment, folder: Path) -> list[dict[str, Any]]:
    run = RunDirectory(folder)
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


@pytest.mark.parametrize("packing", ["false", "true"], ids=["padded", "packed"])
def test_tokens_are_those_in_the_set_of_the_model(packing: str, tmp_path: Path) -> None:
    """Of samples that lack parts, one by one, in each step of several micro-batches."""
    words = ["trainer.max_steps=2", "trainer.accumulate_grad_batches=2", f"loader.packing={packing}"]
    rows = rows_of(made(*words, "log_every_steps=1"), tmp_path / "run")
    experiment = made(*words)
    model = experiment.learner.model.eval()
    steps = experiment.data.train_loader(num_steps=2, accumulate=2, rank=0, num_ranks=1)
    for row, batches in zip(rows, steps, strict=True):
        counted, places = dict.fromkeys(NAMES, 0), 0
        for batch in batches:
            for i in range(len(batch)):
                alone = model.tokenize(batch.select(torch.tensor([i])))
                valid = alone.connectivity.valid[0]
                for name, span in alone.spans.items():
                    counted[name] += int(valid[span.start : span.stop].sum())
            whole = model.tokenize(batch.select(torch.arange(len(batch))))
            places += whole.connectivity.valid.numel()
        assert {name: row[f"train/tokens/{name}"] for name in NAMES} == counted
        assert row["train/fill"] == pytest.approx(sum(counted.values()) / places)
        speeds = [row[f"train/tokens_per_second/{name}"] for name in NAMES]
        assert row["train/tokens_per_second"] == pytest.approx(sum(speeds))
        assert speeds[0] / speeds[1] == pytest.approx(counted["image"] / counted["state"])


def test_throughput_is_of_all_steps_since_the_last_row() -> None:
    experiment = made()
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    throughput = Throughput(experiment.learner.model)
    throughput.count(batches)
    throughput.restart()
    before = time.perf_counter()
    for _ in range(3):
        throughput.count(batches)
        throughput.waited(0.005)
    time.sleep(0.05)
    metrics = throughput.metrics(lambda values: 2 * values)  # as of two ranks
    seconds = time.perf_counter() - before
    assert 0.015 / seconds <= metrics["train/data_wait"] <= 0.015 / 0.05
    for name in NAMES:
        tokens, speed = metrics[f"train/tokens/{name}"], metrics[f"train/tokens_per_second/{name}"]
        assert tokens == 2 * int(experiment.learner.model.count_tokens(batches[0])[NAMES.index(name), 0])
        assert 0.5 * 3 * tokens / seconds < speed <= 3 * tokens / 0.05


def test_gradient_norms_are_of_what_each_name_owns_before_clipping(tmp_path: Path) -> None:
    (row,) = rows_of(made("trainer.max_steps=1"), tmp_path / "run")
    experiment = made()
    learner = experiment.learner.train()
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    torch.stack([score.loss_sum / score.count for score in learner(batches[0]).values()]).sum().backward()
    for name in NAMES:
        own = re.compile(rf"model\.(tokenizers|type_embeddings|position_embeddings)\.{name}(\.|$)")
        squares = [float(p.grad.square().sum()) for key, p in learner.named_parameters()
                   if own.match(key) and p.grad is not None]  # fmt: skip
        assert len(squares) > 1
        assert row[f"train/grad_norm/{name}"] == pytest.approx(sum(squares) ** 0.5, rel=1e-4), name
    assert row["train/grad_norm"] > 1e-3
