"""Packed equals padded, for every objective; and what a sample lacks changes no other sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import POSITIONS
from four_names import NAMES
from learners import LEARNERS, batch_of_samples, made_learner
from torch import Tensor

from mmtx.batch import Batch
from mmtx.learner import Learner

RAGGED = batch_of_samples(0, 3, 12, 5, 16, 8, 14)
"""Of unequal lengths, and most lack something."""

kinds = pytest.mark.parametrize("kind", LEARNERS)


def result(learner: Learner, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sums and counts of every objective, and the gradient of every parameter."""
    learner.zero_grad()
    torch.manual_seed(0)
    scores = learner(batch)
    torch.stack([score.loss_sum / score.count.clamp(min=1) for score in scores.values()]).sum().backward()
    grads = {}
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, f"{name} is not in the graph"
        assert parameter.grad.isfinite().all(), name
        grads[name] = parameter.grad.clone()
    vectors = {name: score.vector() for name, score in scores.items()}
    assert all(vector.isfinite().all() for vector in vectors.values())
    return vectors, grads


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("batch", [RAGGED, batch_of_samples(0, 15)], ids=["some lack something", "all have all"])
@kinds
def test_losses_and_gradients_are_those_of_padded_rows(kind: str, batch: Batch) -> None:
    """With samples that skip layers, too: both draw the same."""
    learner = made_learner(kind, drop_path=0.3).train()
    (padded, padded_grads), (packed, packed_grads) = result(learner, batch), result(learner, batch.packed())
    assert_close(packed, padded)
    assert_close(packed_grads, padded_grads)


@kinds
def test_predictions_are_those_of_padded_rows(kind: str) -> None:
    learner = made_learner(kind).eval()
    with torch.no_grad():
        padded, packed = learner(RAGGED), learner(RAGGED.packed())
    for name in learner.objectives:
        torch.testing.assert_close(packed[name].vector(), padded[name].vector(), atol=1e-4, rtol=1e-5)
        objective = learner.objective(name)
        assert objective.examples(learner.model, RAGGED.packed()) == objective.examples(learner.model, RAGGED)


@pytest.mark.parametrize("positions", ["rotary", "alibi", "t5"])
def test_positions_are_those_of_padded_rows(positions: str) -> None:
    """In both stacks, with local layers."""
    changes: dict[str, Any] = {"positions": POSITIONS[positions], "window": 3, "layers": "LG"}
    learner = made_learner("seq2seq, encoded", **changes).train()
    (padded, padded_grads), (packed, packed_grads) = result(learner, RAGGED), result(learner, RAGGED.packed())
    assert_close(packed, padded)
    assert_close(packed_grads, padded_grads)


def test_the_backbone_computes_real_tokens_only() -> None:
    learner, seen = made_learner("classify").eval(), []
    learner.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with torch.no_grad():
        learner(RAGGED.packed())
        learner(RAGGED)
    real, places = learner.model.count_tokens(RAGGED).sum(0).tolist()
    assert seen[0][:2] == (1, real)
    assert seen[1][0] * seen[1][1] == places
    assert real < places


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@kinds
def test_a_name_that_all_lack_leaves_every_parameter_in_the_graph(kind: str, packed: bool) -> None:
    learner = made_learner(kind).train()
    for lacking in (*([name] for name in learner.model.names), list(learner.model.names)):
        batch = RAGGED.without({name: torch.ones(len(RAGGED), dtype=torch.bool) for name in lacking})
        result(learner, batch.packed() if packed else batch)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@kinds
def test_a_sample_does_not_depend_on_what_its_neighbours_lack(kind: str, packed: bool) -> None:
    """The loss of the first, with neighbours that have all, and with some that lack one name after the other."""
    learner = made_learner(kind).eval()
    batch = batch_of_samples(15, 0, 30)
    others = batch.lengths["image"].new_tensor([0, 1, 1]).bool()

    def first(given: Batch) -> Tensor:
        given = given.packed() if packed else given
        hidden = learner.model(given).hidden[0]
        return hidden[hidden.any(-1)]

    with torch.no_grad():
        expected = first(batch)
        for name in set(NAMES) & set(learner.model.names):
            torch.testing.assert_close(first(batch.without({name: others})), expected, atol=1e-5, rtol=1e-5)
