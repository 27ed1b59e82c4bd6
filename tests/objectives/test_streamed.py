"""Losses of texts that are streamed, by place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import POSITIONS, Letters, backbone, model, text, text_batch, text_spec
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.streaming import Stream, Streaming
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.streamed import Streamed

CONTEXT, LONGEST = 4, 27
LETTERS = Letters("abcdefghijk", marks=False)


def of_text() -> MultimodalTransformer:
    return model({"text": text(text_spec(max_length=CONTEXT))}, backbone(positions=POSITIONS["rotary"]))


def keys(whole: MultimodalTransformer, longest: int = LONGEST) -> dict[str, Any]:
    spec = text_spec(max_length=longest, vocabulary=LETTERS)
    sizes = {"weight": 1.0, "text": "text", "tied": True, "logit_scale": 1.0, "label_smoothing": 0.0, "slices": []}
    return {"specs": {"text": spec}, "model": whole, "softcap": None, **sizes}


def made(whole: MultimodalTransformer, cache_size: int | None = None, keep_first: int = 1, **changes: Any) -> Streamed:
    return Streamed(**keys(whole, **changes), cache_size=cache_size, keep_first=keep_first).eval()


def losses(whole: MultimodalTransformer, batch: Batch, streaming: Streaming) -> Tensor:
    """Of every id but the first, one after the other."""
    ids, stream = batch["text"]["ids"], Stream(whole, batch, "text", streaming)
    weight = whole.tokenizer("text").embedding.weight
    scores = torch.cat([stream.extend(column) @ weight.T for column in ids[:, :-1].split(1, dim=1)], dim=1)
    return F.cross_entropy(scores.transpose(1, 2), ids[:, 1:], reduction="none")


@pytest.mark.usefixtures("unchecked")
@torch.no_grad()
def test_losses_by_place_are_those_of_a_stream() -> None:
    """One of the texts ends earlier, within the last of the intervals 0-3, 4-7, 8-15 and 16-31."""
    whole, batch = of_text(), text_batch([27, 21])
    objective = made(whole, 3)
    score = objective(whole, batch)
    metrics = objective.metrics(score)
    assert int(score.count) == int(objective.count(batch)) == 26 + 20
    real = torch.arange(26) < torch.tensor([[26], [20]])
    of_each = {"": losses(whole, batch, Streaming(3, 1)), "/of=without_first": losses(whole, batch, Streaming(3, 0))}
    assert float(score.loss_sum) == pytest.approx(float(of_each[""][real].sum()), rel=1e-5)
    for name, each in of_each.items():
        assert metrics[f"loss{name}"] == pytest.approx(float(each[real].mean()), rel=1e-5)
        for place, start in {4: 0, 8: 4, 16: 8, 32: 16}.items():
            own = each[:, start:place][real[:, start:place]]
            assert metrics[f"loss{name}/place={place}"] == pytest.approx(float(own.mean()), rel=1e-5)
    assert abs(metrics["loss/place=32"] - metrics["loss/of=without_first/place=32"]) > 1e-4
    assert metrics.keys() == objective.directions.keys()


@pytest.mark.usefixtures("unchecked")
@torch.no_grad()
def test_a_text_within_the_context_is_as_ever() -> None:
    whole, batch = of_text(), text_batch([5, 3])
    plain, streamed = NextToken(**keys(whole)).eval(), made(whole)
    assert streamed.metrics(streamed(whole, batch)) == plain.metrics(plain(whole, batch))
    short = keys(whole, CONTEXT + 1)["specs"]
    with torch.enable_grad():
        check_objective(made(whole, longest=CONTEXT + 1), whole, short)


def test_nothing_is_beside_a_stream_that_keeps_none() -> None:
    assert not any("without_first" in metric for metric in made(of_text(), keep_first=0).directions)


def test_training_takes_no_longer_texts() -> None:
    whole = of_text()
    with pytest.raises(InvalidValue, match="context=4 is shorter than a text of 26 tokens"):
        made(whole).train()(whole, text_batch([27]))


def test_refused_sizes() -> None:
    whole = of_text()
    with pytest.raises(InvalidValue, match=r"^cache_size=5 is more than modality.text.context; nearest: at most 4$"):
        made(whole, 5)
    with pytest.raises(InvalidValue, match="^keep_first=4 leaves no place"):
        made(whole, keep_first=4)
    with pytest.raises(InvalidValue, match="^cache_size=0 must be at least 1"):
        made(whole, 0)
