"""Sums of scores, over batches, ranks and parts of the data."""

from __future__ import annotations

import pytest
from learners import batch_of_samples, made_learner

from mmtx.errors import UserError
from mmtx.evaluate import Evaluation


def test_ranks_give_the_metrics_of_one_process_also_where_one_lacks_a_part() -> None:
    """The second of two ranks has no batch of the part ``b``."""
    learner, sent = made_learner("classify").eval(), []
    alone, first = Evaluation(learner, "val"), Evaluation(learner, "val", lambda value: [value, *sent])
    second = Evaluation(learner, "val", lambda value: sent.append(value) or sent)  # type: ignore[func-returns-value]
    for rank, part, samples in ((first, "a", (0, 1)), (first, "b", (2,)), (second, "a", (3, 5))):
        for evaluation in (rank, alone):
            evaluation.add(part, [batch_of_samples(*samples)])
    second.metrics(max_bad_share=0.0)
    metrics = first.metrics(max_bad_share=0.0)
    assert metrics == pytest.approx(alone.metrics(max_bad_share=0.0))
    assert set(metrics) == {"val/a/loss", "val/a/accuracy", "val/b/loss", "val/b/accuracy", "val/loss"}


def test_skipped_samples_are_counted_up_to_a_share() -> None:
    learner = made_learner("classify").eval()
    batch = batch_of_samples(0, 1, 2)
    batch.ids[1] = -2  # type: ignore[index]
    evaluation = Evaluation(learner, "test")
    evaluation.add("", [batch])
    assert evaluation.metrics(max_bad_share=0.5)["test/skipped_samples"] == 1
    with pytest.raises(UserError, match="1 of 3 samples"):
        evaluation.metrics(max_bad_share=0.1)
