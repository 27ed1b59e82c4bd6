"""Two processes, one of which hears no sound, take the step of one."""

from __future__ import annotations

from pathlib import Path

import torch
from learners import batch_of_samples, made_learner
from run_cli import fork

from mmtx.batch import Batch

KIND = "ctc and seq2seq"
RANKS = [[0, 1, 9, 2], [4, 5, 12, 14]]
"""Samples of each rank; none of the second has a sound."""


def step(learner: torch.nn.Module, batch: Batch, counts: torch.Tensor, num_ranks: int) -> None:
    scores = learner(batch).values()
    losses = [score.loss_sum * num_ranks / count for score, count in zip(scores, counts, strict=True)]
    torch.stack(losses).sum().backward()


def rank(folder: str, number: int) -> None:
    """What each process does: its half of the batch, through DDP, which fails where a parameter has no gradient."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    learner, batch = made_learner(KIND).train(), batch_of_samples(*RANKS[number])
    counts = torch.stack([learner.objective(name).count(batch) for name in learner.objectives]).float()
    torch.distributed.all_reduce(counts)
    step(torch.nn.parallel.DistributedDataParallel(learner), batch, counts, num_ranks=2)
    torch.save({name: p.grad for name, p in learner.named_parameters()}, f"{folder}/{number}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_one_without_sound_equal_one(tmp_path: Path) -> None:
    learner, batch = made_learner(KIND).train(), batch_of_samples(*RANKS[0], *RANKS[1])
    assert not batch_of_samples(*RANKS[1]).present("audio").any()
    assert batch_of_samples(*RANKS[0]).present("audio").any()
    counts = torch.stack([learner.objective(name).count(batch) for name in learner.objectives]).float()
    step(learner, batch, counts, num_ranks=1)
    ranks = [fork(rank, str(tmp_path), number) for number in range(2)]
    for process in ranks:
        process.join(240)
    assert [process.exitcode for process in ranks] == [0, 0]
    for number in range(2):
        grads = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        for name, parameter in learner.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(grads[name], parameter.grad, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: n + m)
