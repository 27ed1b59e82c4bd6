"""Operations of a step, against those that torch counts while it computes one, and against arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from builders import (
    Letters,
    attention,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    image_spec,
    label_spec,
    merge,
    mlp,
    model,
    seq2seq,
    text,
    text_batch,
    text_spec,
)
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmtx.nn.compilation
from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.low_rank import LoRA, freeze
from mmtx.objectives.base import Objective
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import MeanPool
from mmtx.training.model_flops import ModelFlops

ROWS, WIDTH, LAYERS, LENGTH, PATCHES = 3, 24, 2, 8, 4
SPECS = {"image": image_spec(), "text": text_spec(vocabulary=Letters()), "label": label_spec(3)}
LABELS = Batch({"label": {"class": torch.tensor([0, 2, 1])}}, {"label": torch.ones(ROWS, dtype=torch.long)})
PICTURES = merge(image_batch([1] * ROWS), LABELS)
TEXTS = text_batch([LENGTH] * ROWS)


def learner(whole: MultimodalTransformer, objectives: Mapping[str, Objective]) -> Learner:
    return Learner(model=whole, objectives=objectives, specs=SPECS).train()


def of_pictures(**changes: Any) -> Learner:
    whole = model({"image": image()}, backbone(**changes))
    keys: dict[str, Any] = {"pool": MeanPool(), "pooler": True, "label_smoothing": 0.0, "mixup": 0.0, "dropout": 0.0}
    return learner(whole, {"classify": Classify(specs=SPECS, model=whole, weight=1.0, label="label", **keys)})


def of_texts(tied: bool = True, **changes: Any) -> Learner:
    whole = model({"text": text()}, backbone(**changes))
    keys: dict[str, Any] = {"text": "text", "tied": tied, "logit_scale": 1.0, "label_smoothing": 0.0}
    return learner(whole, {"next_token": NextToken(specs=SPECS, model=whole, weight=1.0, **keys)})


def of_both() -> Learner:
    whole = encoder_decoder({"image": image(), "text": text()}, ["image"])
    return learner(whole, {"seq2seq": seq2seq(whole, SPECS)})


def counted(made: Learner, batch: Batch, tokens: Sequence[int], predictions: int) -> tuple[int, int]:
    """Ours, and what torch counts, which knows no masks."""
    flops = ModelFlops(made)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), flops.watching():
        (score,) = made(batch).values()
        score.loss_sum.backward()
    return flops.total(tokens, [predictions]), counter.get_total_flops()


def left_out(length: int) -> int:
    """Of all layers, for pairs of a causal text whose second comes later."""
    return 12 * LAYERS * WIDTH * ROWS * (length * (length - 1) // 2)


FROZEN = {
    "all_learn": [],
    "the_beginning": ["model.tokenizers.*", "model.type_embeddings.*", "model.backbone.blocks.0.*"],
    "matrices": ["model.backbone.blocks.*.weight"],
    "the_model": ["model.*"],
}


@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
def test_pictures(frozen: list[str]) -> None:
    made = of_pictures()
    freeze(made, frozen)
    ours, theirs = counted(made, PICTURES, [ROWS * PATCHES], ROWS)
    assert ours == theirs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied": False},
        {"mlp": mlp(gated=True)},
        {"attention": attention(num_kv_heads=1, head_dim=WIDTH // 2)},
    ],
    ids=["tied", "own_head", "gated", "grouped"],
)
def test_causal_texts(changes: dict[str, Any]) -> None:
    ours, theirs = counted(of_texts(**changes), TEXTS, [ROWS * LENGTH], ROWS * (LENGTH - 1))
    assert ours == theirs - left_out(LENGTH - 1)


def test_encoder_and_decoder() -> None:
    tokens = [ROWS * PATCHES, ROWS * LENGTH]
    ours, theirs = counted(of_both(), merge(image_batch([1] * ROWS), TEXTS), tokens, ROWS * (LENGTH - 1))
    assert ours == theirs - left_out(LENGTH - 1)


def test_what_is_computed_again_is_not_needed() -> None:
    needed, computed = counted(of_texts(activation_checkpointing="blocks"), TEXTS, [ROWS * LENGTH], 21)
    assert needed == counted(of_texts(), TEXTS, [ROWS * LENGTH], 21)[0] < computed


def test_padding_is_not_needed() -> None:
    """Each text as if it were alone."""
    lengths = [8, 3, 5]
    whole = counted(of_texts(), text_batch(lengths), [sum(lengths)], sum(lengths) - ROWS)[0]
    alone = [counted(of_texts(), text_batch([length]), [length], length - 1)[0] for length in lengths]
    assert whole == sum(alone)


def test_a_window_leaves_pairs_out() -> None:
    """With a reach of two, each token but the first has itself and the one before."""
    reached = counted(of_texts(window=2, layers="L"), TEXTS, [ROWS * LENGTH], 21)[0]
    everything = counted(of_texts(), TEXTS, [ROWS * LENGTH], 21)[0]
    assert everything - reached == 12 * LAYERS * WIDTH * ROWS * (7 * 8 // 2 - (2 * 7 - 1))


def test_low_rank_updates() -> None:
    """4 for a frozen weight, through which gradients go, and 6 for each of an update."""
    plain, made, rank = of_texts(), of_texts(), 2
    freeze(made, ["model.backbone.*"])
    LoRA(rank=rank, alpha=1.0, targets=["model.backbone.blocks.*.up"]).add(made)
    before, after = (counted(each, TEXTS, [ROWS * LENGTH], 21)[0] for each in (plain, made))
    hidden, matrices = 2 * WIDTH, (3 + 1 + 2 * 2) * WIDTH * WIDTH
    added = 6 * rank * (WIDTH + hidden)
    assert before - after == ROWS * (LENGTH - 1) * LAYERS * (2 * matrices - added)


@pytest.mark.usefixtures("unchecked")
def test_watching_leaves_graphs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled anew for a step that is watched, nor for the one after."""
    torch._dynamo.reset()
    monkeypatch.setattr(mmtx.nn.compilation, "BACKEND", "aot_eager")
    made = of_texts(compile=True)
    flops, graphs = ModelFlops(made), []
    for watching in (nullcontext, nullcontext, flops.watching, nullcontext):
        with watching():
            made(TEXTS)["next_token"].loss_sum.backward()
        graphs.append(counters["stats"]["unique_graphs"])
    assert flops.total([ROWS * LENGTH], [21]) == counted(of_texts(), TEXTS, [ROWS * LENGTH], 21)[0]
    assert graphs[0] > 0 and graphs == [graphs[0]] * 4
    torch._dynamo.reset()
