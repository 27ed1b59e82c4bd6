"""Prompts of linear regression: estimators against NumPy and scikit-learn, growing prompts, pools, refusals."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy
import pytest
import torch
from contracts import check_source
from sklearn.linear_model import Ridge

from mmtx.batch import Batch, Sample
from mmtx.data.algorithmic.growing_order import GrowingOrder
from mmtx.data.algorithmic.linear_estimators import gradient_step, least_squares, pool_posterior, ridge
from mmtx.data.algorithmic.linear_regression import LinearRegression, PromptCurriculum
from mmtx.data.collate import collate
from mmtx.data.sampler import Draw
from mmtx.errors import UserError

NONE = PromptCurriculum(samples=0, dims=1, examples=1)
GROWING = PromptCurriculum(samples=60, dims=2, examples=3)


def made(**changes: Any) -> LinearRegression:
    keys = {"dims": 3, "examples": 5, "noise_variance": 0.25, "nonzero": None, "tasks": None, "curriculum": NONE}
    return LinearRegression(**{**keys, "num_train": 90, "num_val": 20, "num_test": 20, "split_seed": 0, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"tasks": 4}, {"noise_variance": 0.0}, {"nonzero": 1}, {"curriculum": GROWING}]
)
def test_contract(changes: dict[str, Any]) -> None:
    check_source(made(**changes))


def prompts() -> tuple[numpy.ndarray, numpy.ndarray]:
    generator = numpy.random.default_rng(0)
    x = generator.normal(size=(6, 8, 3))
    return x, (x @ generator.normal(size=(6, 3, 1)))[..., 0] + generator.normal(size=(6, 8)) / 2


def by_loops(answer: Any) -> numpy.ndarray:
    """What a function of (examples, their answers, input) gives at each step of each prompt, one after the other."""
    x, y = prompts()
    return numpy.array([[answer(x[i, :n], y[i, :n], x[i, n]) for n in range(8)] for i in range(6)])


def test_least_squares_is_numpys_of_minimum_norm() -> None:
    expected = by_loops(lambda x, y, query: query @ numpy.linalg.lstsq(x, y)[0] if len(x) else 0.0)
    found = least_squares(*map(torch.tensor, prompts()))
    numpy.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_ridge_is_that_of_scikit_learn() -> None:
    def answer(x: numpy.ndarray, y: numpy.ndarray, query: numpy.ndarray) -> float:
        return Ridge(alpha=0.25, fit_intercept=False).fit(x, y).predict(query[None])[0] if len(x) else 0.0

    found = ridge(*map(torch.tensor, prompts()), penalty=0.25)
    numpy.testing.assert_allclose(found.numpy(), by_loops(answer), rtol=1e-7, atol=1e-9)


def test_the_posterior_of_a_pool_weighs_tasks_by_their_likelihood() -> None:
    """By Bayes' rule on densities of the normal distribution."""
    tasks = numpy.random.default_rng(1).normal(size=(5, 3))

    def answer(x: numpy.ndarray, y: numpy.ndarray, query: numpy.ndarray) -> float:
        densities = numpy.prod([numpy.exp(-((b - tasks @ a) ** 2) / 0.5) for a, b in zip(x, y, strict=True)], axis=0)
        weights = numpy.broadcast_to(densities, 5) / numpy.broadcast_to(densities, 5).sum()
        return weights @ tasks @ query

    found = pool_posterior(*map(torch.tensor, prompts()), torch.tensor(tasks), noise_variance=0.25)
    numpy.testing.assert_allclose(found.numpy(), by_loops(answer), rtol=1e-7, atol=1e-9)


def test_one_layer_of_linear_attention_is_a_step_of_gradient_descent() -> None:
    """With the published weights (von Oswald et al. 2022, arXiv 2212.07677, prop. 1): of tokens (x, y), keys and
    queries are x, values are w0'x - y with w0 = 0, and the projection is the size of the step."""
    x, y = (torch.tensor(each) for each in prompts())
    tokens = torch.cat([x, y[..., None]], -1)
    keys = torch.diag(torch.tensor([1.0, 1, 1, 0], dtype=torch.double))
    values = torch.diag(torch.tensor([0, 0, 0, -1.0], dtype=torch.double))
    for step in range(8):
        query = torch.cat([x[:, step], torch.zeros(6, 1)], -1)
        projection = torch.eye(4, dtype=torch.double) / (step + 3 + 1 + 0.25)
        given = tokens[:, :step]
        scores = torch.einsum("bnd,bd->bn", given @ keys.T, query @ keys.T)
        updated = query + torch.einsum("bn,bnd->bd", scores, given @ values.T) @ projection.T
        torch.testing.assert_close(-updated[:, 3], gradient_step(x, y, 0.25)[:, step], atol=1e-6, rtol=0)


def test_the_step_of_gradient_descent_is_that_of_autograd_and_the_best_size() -> None:
    x, y = (torch.tensor(each) for each in prompts())
    weights = torch.zeros(6, 3, dtype=torch.double, requires_grad=True)
    ((x[:, :4] @ weights[..., None])[..., 0] - y[:, :4]).square().sum().div(2).backward()
    assert weights.grad is not None
    expected = -(weights.grad * x[:, 4]).sum(-1) / (4 + 3 + 1 + 0.25)
    torch.testing.assert_close(gradient_step(x, y, 0.25)[:, 4], expected)
    source = made(num_val=1500, split_seed=3)
    drawn = source.val()
    assert drawn is not None
    whole = collate([drawn[index] for index in range(1500)], source.specs)
    given, answers = whole["x"]["values"].double(), whole["y"]["values"][..., 0].double()
    errors = [float((gradient_step(given, answers, p) - answers)[:, 3].square().mean()) for p in (-2.0, 0.25, 4.0)]
    assert errors[1] == min(errors)


def test_estimates_are_those_of_the_prompts_and_test_tasks_are_not_of_the_pool() -> None:
    source = made(tasks=2, noise_variance=1e-6)
    for split, known in ((source.val(), True), (source.test(), False)):
        assert split is not None
        sample = split[7]
        x, y = sample["x"]["values"], sample["y"]["values"][:, 0]
        expected = ridge(x[None], y[None], 1e-6).float()[0]
        torch.testing.assert_close(sample["estimates"]["ridge"][:, 0], expected)
        error = (sample["estimates"]["pool"][2:, 0] - y[2:]).abs().max()
        assert (error < 0.01) == known


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(one[name][key], other[name][key]) for name in one.fields for key in one[name]]
    return all(a.equal(b) for a, b in pairs) and all(
        one.lengths[name].equal(other.lengths[name]) for name in one.fields
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_are_those_of_single_prompts(split: str) -> None:
    source = made(curriculum=GROWING)
    prompts = getattr(source, split)()
    for indices in ([3, 1], [0, 5, 19], [80, 70]) if split == "train" else ([3, 1], [0, 5, 19]):
        samples: list[Sample] = [prompts[index] for index in indices]
        assert equal(prompts.batch(indices, source.specs), collate(samples, source.specs, ids=indices))


def test_prompts_grow_to_all_dims_and_examples_and_are_seen_in_that_order() -> None:
    source = made(curriculum=GROWING)
    train = source.train()
    sizes = [(int(train[i]["x"]["values"].any(0).sum()), len(train[i]["y"]["values"]) - 1) for i in range(90)]
    assert sizes == [(2 + i // 30, 3 + i // 20) for i in range(60)] + [(3, 5)] * 30
    order = source.order(90, 0)
    first = list(islice(order.stream(0), 150))
    assert first[:60] == [Draw(0, index) for index in range(60)]
    assert sorted(draw.index for draw in first[60:90]) == list(range(60, 90))
    assert [draw.epoch for draw in first[60:]] == [0] * 30 + [1] * 30 + [2] * 30
    for start in (0, 17, 60, 75, 130):
        assert list(islice(GrowingOrder(90, 60, 0).stream(start), 20)) == first[start : start + 20]


def test_sparse_tasks_have_as_many_weights_as_given() -> None:
    tasks = made(tasks=50, nonzero=2).pool
    assert tasks is not None and ((tasks != 0).sum(1) == 2).all() and (tasks != 0).any(0).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dims": 0}, "dims=0 must be at least 1"),
        ({"examples": 0}, "examples=0 must be at least 1"),
        ({"tasks": 0}, "tasks=0 must be at least 1"),
        ({"noise_variance": -0.1}, "noise_variance=-0.1 must be at least 0"),
        ({"nonzero": 4}, r"nonzero=4 must lie in 1..3"),
        ({"num_test": -1}, "num_test=-1 must be at least 0"),
        ({"curriculum": PromptCurriculum(90, 1, 1)}, r"curriculum.samples=90 must lie in 0..89"),
        ({"curriculum": PromptCurriculum(50, 4, 1)}, r"curriculum.dims=4 must lie in 1..3"),
        ({"curriculum": PromptCurriculum(50, 1, 0)}, r"curriculum.examples=0 must lie in 1..5"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        made(**changes)
