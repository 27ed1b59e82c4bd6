"""Masked diffusion: the bound by enumeration, blocks by loops, and what is given when the rest is written."""

from __future__ import annotations

import random
from itertools import permutations, product
from math import comb
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from builders import (
    Letters,
    backbone,
    image,
    image_batch,
    image_spec,
    merge,
    model,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
    text_spec,
)
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.unmask import Unmasking
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary
from mmtx.objectives.given import Given
from mmtx.objectives.masked_diffusion import MaskedDiffusion

INDEX = Positions(absolute=None, rotary=Rotary(axes=["index"], base=100.0), bias=None)
SMALL = {"text": text_spec(4, 8, Letters("abcd", marks=False))}
WITH_MARKS = {"text": text_spec(11, 12, Letters())}


def made(
    specs: dict[str, Any] | None = None,
    tokenizers: dict[str, Any] | None = None,
    whole: MultimodalTransformer | None = None,
    **changes: Any,
) -> tuple[MultimodalTransformer, MaskedDiffusion]:
    specs = specs or SMALL
    if whole is None:
        own = tokenizers or {"text": text(specs["text"], causal="block_size" in changes)}
        whole = model(own, backbone(positions=INDEX))
    keys = {"weight": 1.0, "names": ["text"], "block_size": None, "mask": None, "tied": True}
    torch.manual_seed(1)
    return whole, MaskedDiffusion(specs=specs, model=whole, **{**keys, **changes}).eval()


def exact(**changes: Any) -> tuple[MultimodalTransformer, MaskedDiffusion]:
    whole, objective = made(**changes)
    return whole.double(), objective.double()


def with_masks(batch: Batch, masked: Tensor, weights: Tensor) -> Batch:
    return batch.with_values("text", masked=masked, weights=weights)


def all_masks(length: int) -> Tensor:
    """All but none."""
    return torch.tensor([*product([False, True], repeat=length)][1:])


def repeated(ids: Tensor, rows: int) -> Batch:
    return Batch({"text": {"ids": ids.expand(rows, -1)}}, {"text": torch.full((rows,), len(ids))}, {"text": True})


def mean_of_estimates(objective: MaskedDiffusion, whole: MultimodalTransformer, ids: Tensor) -> float:
    """Over all numbers of masks and all choices of so many, by the objective itself."""
    length, masked = len(ids), all_masks(len(ids))
    count = masked.sum(1).double()
    chance = torch.tensor([1 / length / comb(length, int(k)) for k in count], dtype=torch.double)
    weights = masked * (chance * length / count)[:, None]
    return float(objective(whole, with_masks(repeated(ids, len(masked)), masked, weights)).loss_sum)


def losses_of_masks(
    objective: MaskedDiffusion, whole: MultimodalTransformer, ids: Tensor
) -> dict[tuple[bool, ...], Tensor]:
    """Of all masks, the negative log-likelihood of every id."""
    masked = all_masks(len(ids))
    batch = with_masks(repeated(ids, len(masked)), masked, masked.double())
    log_p = objective.logits(whole, batch)["text"].log_softmax(-1)
    each = -log_p.gather(-1, ids.expand(len(masked), -1)[..., None])[..., 0]
    return dict(zip(map(tuple, masked.tolist()), each, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3, 6])
def test_the_mean_of_the_estimates_is_the_bound(length: int) -> None:
    """Over all orders, the sum of each id's loss given those before it in that order (Uria et al. 2014, arXiv
    1310.1757); and the integral over time, by quadrature that is exact for polynomials."""
    whole, objective = exact()
    ids = torch.randint(4, (length,), generator=torch.Generator().manual_seed(length))
    found, losses = mean_of_estimates(objective, whole, ids), losses_of_masks(objective, whole, ids)
    of_orders = []
    for order in permutations(range(length)):
        masked, total = [True] * length, 0.0
        for place in order:
            total += float(losses[tuple(masked)][place])
            masked[place] = False
        of_orders.append(total)
    assert abs(found - sum(of_orders) / len(of_orders)) < 1e-10
    nodes, weights = numpy.polynomial.legendre.leggauss(8)
    integral = 0.0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for masked, each in losses.items():
            k = sum(masked)
            integral += weight * t**k * (1 - t) ** (length - k) / t * float(each[list(masked)].sum())
    assert abs(found - integral) < 1e-10


@torch.no_grad()
def test_true_conditionals_reach_the_entropy_of_a_markov_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an id given all that is visible, by summing over all texts; the entropy is that of the chain rule."""
    states, length = 3, 4
    first, generator = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double), torch.Generator().manual_seed(0)
    moves = (3 * torch.randn(states, states, generator=generator, dtype=torch.double)).softmax(1)
    texts = torch.tensor([*product(range(states), repeat=length)])
    chances = first[texts[:, 0]] * torch.stack([moves[texts[:, i], texts[:, i + 1]] for i in range(length - 1)]).prod(0)
    whole, objective = exact(specs={"text": text_spec(states, length)}, tied=False)
    head = objective.head("text").projection
    assert head is not None
    head.weight.copy_(torch.eye(states, 24))

    def conditionals(_: Any, batch: Batch) -> dict[str, Tensor]:
        ids, masked = batch["text"]["ids"], batch["text"]["masked"]
        fits = ((texts[None] == ids[:, None]) | masked[:, None]).all(-1) * chances  # rows, texts
        log_p = torch.einsum("rt,tiv->riv", fits, F.one_hot(texts, states).double()).log()
        return {"text": F.pad(log_p.clamp(min=-1e4), (0, 24 - states))}

    monkeypatch.setattr(objective, "_hidden", conditionals)
    bound = sum(float(p) * mean_of_estimates(objective, whole, ids) for ids, p in zip(texts, chances, strict=True))
    of_step = -(moves * moves.log()).sum(1)  # entropy of the next state
    entropy, now = -(first * first.log()).sum(), first
    for _ in range(length - 1):
        entropy, now = entropy + now @ of_step, now @ moves
    assert abs(bound - float(entropy)) < 1e-10


@torch.no_grad()
def test_blocks_of_one_are_the_autoregressive_loss() -> None:
    """A causal text through the same backbone, an id at a time, the mask in the place of the next."""
    whole, objective = exact(block_size=1)
    batch = repeated(torch.tensor([0, 3, 1, 2, 2, 0]), 2)
    prepared = objective.prepare(whole, batch, torch.Generator().manual_seed(0))
    assert prepared["text"]["masked"].all() and (prepared["text"]["weights"] == 1).all()
    ids, total = batch["text"]["ids"][:1], 0.0
    for place in range(6):
        token_set = whole.tokenize(repeated(ids[0, : place + 1], 1))
        last = torch.arange(place + 1)[None] == place
        states = whole.run(objective.head("text").with_masks(token_set, "text", last)).tokens("text")[0, -1]
        total += float(F.cross_entropy(states @ whole.tokenizer("text").embedding.weight.T, ids[0, place]))
    assert abs(float(objective(whole, prepared).loss_sum) - 2 * total) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("size", [6, 9])
def test_one_block_is_plain_diffusion(size: int) -> None:
    plain, objective = exact()
    blocks, of_blocks = exact(block_size=size)
    blocks.load_state_dict(plain.state_dict())
    of_blocks.load_state_dict(objective.state_dict())
    batch = repeated(torch.tensor([0, 3, 1, 2, 2, 0]), 7)
    one, other = (
        each.prepare(whole, batch, torch.Generator().manual_seed(0))
        for each, whole in ((objective, plain), (of_blocks, blocks))
    )
    assert one["text"]["masked"].equal(other["text"]["masked"])
    assert abs(float(objective(plain, one).loss_sum) - float(of_blocks(blocks, other).loss_sum)) < 1e-10


@torch.no_grad()
def test_a_block_is_plain_diffusion_behind_the_clean_ones() -> None:
    """Its loss, of ids of which the past is given: as a conversation's, whose answer alone is predicted."""
    blocks, objective = exact(block_size=3)
    batch = repeated(torch.tensor([0, 3, 1, 2, 2, 0]), 1)
    masked = torch.tensor([[True, False, True, False, True, True]])
    whole_loss = objective(blocks, with_masks(batch, masked, masked.double())).loss_sum
    of_first, of_second = masked.clone(), masked.clone()
    of_first[:, 3:], of_second[:, :3] = False, False
    parts = [objective(blocks, with_masks(batch, m, m.double())).loss_sum for m in (of_first, of_second)]
    torch.testing.assert_close(whole_loss, parts[0] + parts[1], atol=1e-10, rtol=0)
    changed = with_masks(batch, masked, of_first.double())
    later = changed.with_values("text", ids=torch.tensor([[0, 3, 1, 3, 3, 3]]))
    torch.testing.assert_close(objective(blocks, later).loss_sum, parts[0], atol=1e-10, rtol=0)


def test_masked_ids_are_not_seen() -> None:
    for changes in ({}, {"block_size": 4}, {"mask": 3}, {"mask": 3, "block_size": 8}):
        whole, objective = made(**changes)
        masked = torch.tensor([[False, True, True, False, True, False]])
        scores = [
            objective.logits(whole, with_masks(repeated(torch.tensor(ids), 1), masked, masked.float()))["text"][:, :3]
            for ids in ([0, 1, 2, 2, 1, 0], [0, 0, 0, 2, 0, 0])
        ]
        torch.testing.assert_close(*scores)


@pytest.mark.slow
def test_contract() -> None:
    whole, objective = made(WITH_MARKS)
    check_objective(objective, whole, WITH_MARKS)


def test_contract_of_blocks_beside_a_picture() -> None:
    specs = {**SMALL, "image": image_spec()}
    whole, objective = made(specs, {"image": image(), "text": text(SMALL["text"])}, block_size=3)
    check_objective(objective, whole, specs)


def test_contract_of_words_and_actions() -> None:
    specs = {"text": SMALL["text"], "action": series_spec(num_classes=3)}
    own = {"text": text(SMALL["text"], causal=False), "action": series(specs["action"])}
    whole, objective = made(specs, own, names=["text", "action"], tied=False)
    check_objective(objective, whole, specs)


@pytest.mark.parametrize("block_size", [None, 2])
def test_packed_rows_give_the_same_loss_and_gradients(block_size: int | None) -> None:
    specs = {**SMALL, "image": image_spec()}
    own = {"image": image(), "text": text(SMALL["text"], causal=block_size is not None)}
    whole, objective = made(specs, own, block_size=block_size)
    batch = merge(image_batch([1, 0, 1, 1]), text_batch([5, 3, 8, 0], num_classes=4))
    results = []
    for given in (batch, batch.packed()):
        prepared = objective.prepare(whole, given, torch.Generator().manual_seed(0))
        whole.zero_grad()
        objective.zero_grad()
        score = objective(whole, prepared)
        score.loss_sum.backward()
        parameters = [*whole.parameters(), *objective.parameters()]
        results.append((score.vector(), [p.grad for p in parameters if p.grad is not None]))
        if given is batch:
            rows = [objective(whole, prepared.select(slice(i, i + 1))).loss_sum for i in range(4)]
            torch.testing.assert_close(torch.stack(rows).sum(), score.loss_sum)
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_metrics_by_hand() -> None:
    whole, objective = made(WITH_MARKS)
    batch = text_batch([12, 7, 0])
    batch = batch.with_values("text", ids=batch["text"]["ids"].clamp(max=8))
    batch["text"]["ids"][0, 0], batch["text"]["ids"][0, 11] = 9, 10  # it begins and ends
    score = objective(whole, objective.prepare(whole, batch, torch.Generator().manual_seed(0)))
    metrics = objective.metrics(score)
    assert float(score.count) == 11 + 7  # what begins a text is given, what ends it is not
    assert metrics["loss"] == pytest.approx(score.loss_sum.item() / 18)
    assert metrics["bits_per_byte"] == pytest.approx(score.loss_sum.item() / numpy.log(2) / 17)  # an end has no bytes
    assert metrics["perplexity"] == pytest.approx(numpy.exp(metrics["loss"]))


def test_ids_that_are_not_predicted_are_given() -> None:
    whole, objective = made()
    batch = text_batch([8, 6], num_classes=4)
    predicted = torch.arange(8)[None] >= torch.tensor([[5], [2]])
    batch = batch.with_values("text", predicted=predicted)
    prepared = objective.prepare(whole, batch, torch.Generator().manual_seed(0))
    assert not (prepared["text"]["masked"] & ~predicted).any()
    assert int(objective.count(prepared)) == 3 + 4


def generate(specs: dict[str, Any], options: dict[str, Any], **changes: Any) -> str:
    whole, objective = made(specs, **changes)
    nobody = Batch({}, {})
    return objective.generate(whole, nobody, torch.Generator().manual_seed(0), **options)


def test_what_is_given_is_always_kept() -> None:
    """Whatever is drawn, and in whatever order."""
    draws = random.Random(0)
    for _ in range(8):
        changes = draws.choice([{}, {"block_size": 3}, {"mask": 3}])
        letters = [draws.choice("abc_") for _ in range(draws.randint(1, 8))]
        letters[draws.randrange(len(letters))] = "_"
        how = Unmasking(
            num_steps=draws.choice([None, 1, 3]),
            grid=draws.choice(["equal", "cosine"]),
            order=draws.choice(["random", "confidence"]),
            block_size=None if "block_size" in changes else draws.choice([None, 2]),
            temperature=draws.choice([0.0, 1.0]),
        )
        written = generate(SMALL, {"given": Given(infill="".join(letters)), "unmasking": how}, **changes)
        assert len(written) == len(letters) and "_" not in written
        assert all(given in (new, "_") for new, given in zip(written, letters, strict=True))


def test_a_prompt_begins_what_is_written() -> None:
    assert generate(SMALL, {"given": Given(prompt="dcb")})[:3] == "dcb"
    assert len(generate(SMALL, {})) == 8
    assert len(generate(SMALL, {"given": Given(prompt="a", length=5)})) == 5
    marked = generate(WITH_MARKS, {"given": Given(prompt="abc", length=7)})
    assert marked[:3] == "abc" and len(marked) <= 6  # one id begins the text


def test_the_rest_of_a_sample_is_written_from_what_it_has() -> None:
    specs = {"text": SMALL["text"], "action": series_spec(num_classes=3)}
    own = {"text": text(SMALL["text"], causal=False), "action": series(specs["action"])}
    whole, objective = made(specs, own, names=["text", "action"], tied=False)
    sample = merge(text_batch([5], num_classes=4), steps_batch({"action": specs["action"]}, [3]))
    generator = torch.Generator().manual_seed(0)
    both = objective.generate(whole, sample, generator)
    one = objective.generate(whole, sample, generator, given=Given(write=["action"]))
    assert [line.partition(": ")[0] for line in both.splitlines()] == ["text", "action"]
    assert one.startswith("action: ") and len(one.split()) == 1 + 3
    assert set(one.split()[1:]) <= {"0", "1", "2"}, "scores of words are not drawn from"


def test_guidance_by_hand() -> None:
    """In one pass, greedily: ``u + s (c - u)`` of log-probabilities."""
    specs = {**SMALL, "image": image_spec()}
    own = {"image": image(), "text": text(SMALL["text"], causal=False)}
    whole, objective = made(specs, own)
    picture, how = image_batch([1]), Unmasking(num_steps=1, temperature=0.0)
    canvas = Given().masked(picture, {"text": objective.head("text")}, torch.device("cpu"))
    c, u = (
        objective.logits(whole, batch)["text"].log_softmax(-1)
        for batch in (canvas, canvas.without({"image": torch.tensor([True])}))
    )
    for scale in (0.0, 1.0, 30.0):
        written = objective.generate(whole, picture, torch.Generator(), unmasking=how, guidance={"image": scale})
        assert written == Letters("abcd", marks=False).decode((u + scale * (c - u)).argmax(-1)[0].tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"infill": "abc"}, "infill=abc has no gap; write _ for each id that is missing"),
        ({"infill": "a_", "prompt": "a"}, "prompt=a cannot be given beside infill"),
        ({"infill": "a________"}, "takes 9 ids, and the longest text has 8"),
        ({"prompt": "abcdabcd"}, "prompt=abcdabcd takes 8 ids, which leaves nothing to write of length=8"),
        ({"length": 9}, r"length=9 must lie in 1\.\.8"),
        ({"blank": "__"}, "blank='__' must be one character"),
        ({"write": ["image"]}, r"write=\['image'\] must name what this run writes: text"),
    ],
)
def test_what_cannot_be_given(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        generate(SMALL, {"given": Given(**options)})


def test_blocks_are_those_of_the_training() -> None:
    with pytest.raises(
        InvalidValue, match="block_size=2 is for a model that knows no blocks; this one learnt those of 3"
    ):
        generate(SMALL, {"unmasking": Unmasking(block_size=2)}, block_size=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"whole": model({"text": text(SMALL["text"])})}, "is causal, and all of it is to be written in any order"),
        ({"mask": 4}, r"mask=4 must be an id of 0\.\.3"),
        ({"block_size": 0}, "block_size=0 must be at least 1"),
        ({"whole": model({"text": text(causal=False)})}, "text has ids that share a time, and no positions tell"),
        ({"names": []}, "must name one or several texts"),
        ({"names": ["text", "text"]}, "each once"),
    ],
)
def test_values_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(**changes)


def test_what_can_not_be_diffused() -> None:
    specs = {"action": series_spec(num_classes=3), "state": series_spec()}
    whole = model({"state": series(specs["state"]), "action": series(specs["action"])})
    for changes, message in (
        ({"names": ["state"], "tied": False}, "names=state must name a text, or a series of classes"),
        ({"names": ["action"]}, "tied=True needs an embedding of ids; 'action' is no text; nearest: false"),
        ({"names": ["action"], "tied": False, "block_size": 2}, "block_size=2 lays 'action' out by blocks on a clock"),
        ({"names": ["action"], "tied": False, "mask": 1}, "mask=1 must be an id"),
    ):
        with pytest.raises(InvalidValue, match=message):
            made(specs, whole=whole, **changes)


def test_examples_keep_the_first_quarter_of_a_stream() -> None:
    whole, objective = made()
    batch = text_batch([8, 8], num_classes=4)
    for example in objective.examples(whole, batch):
        assert example.predicted[:2] == example.truth[:2] and len(example.predicted) == 8
