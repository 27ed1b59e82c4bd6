"""Denoising: what is read and written in the two names, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import Letters, encoder_decoder, text, text_batch, text_spec
from contracts import check_objective

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.objectives.corruptions import Corruption, Deletions, Shuffles, Spans
from mmtx.objectives.denoising import Denoising

LETTERS = Letters("abcdefghijklm")
SPECS = {"source": text_spec(15, 10, LETTERS), "target": text_spec(15, 10, LETTERS)}
BEGIN, END = 13, 14
SENTINELS = [12, 9]


def made(corruption: Corruption | None = None, encode: bool = True, **changes: Any) -> tuple[Any, Denoising]:
    tokenizers = {"source": text(SPECS["source"], causal=False), "target": text(SPECS["target"])}
    whole = encoder_decoder(tokenizers, ["source"] if encode else [])
    keys: dict[str, Any] = {"specs": SPECS, "model": whole, "weight": 1.0, "text": "target", "source": "source"}
    keys |= {"corruption": corruption or Spans(share=0.4, mean_span=2.0), "sentinels": SENTINELS, "tied": True}
    keys |= {"logit_scale": 1.0, "label_smoothing": 0.0, "metrics": {}, "val_share": 1.0}
    return whole, Denoising(**{**keys, **changes}).eval()


def marked(lengths: list[int]) -> Batch:
    """The same text in both names, of ids below the sentinels, with begin and end."""
    batch = text_batch(lengths, num_classes=9)
    ids, counts = batch["text"]["ids"], batch.lengths["text"]
    for row, count in enumerate(lengths):
        if count:
            ids[row, 0], ids[row, count - 1] = BEGIN, END
    return Batch({name: {"ids": ids} for name in SPECS}, dict.fromkeys(SPECS, counts), dict.fromkeys(SPECS, False))


@pytest.mark.parametrize("encode", [True, False])
def test_contract(encode: bool) -> None:
    whole, objective = made(encode=encode)
    check_objective(objective, whole, SPECS)


@pytest.mark.parametrize("packed", [False, True])
def test_both_names_give_the_text(packed: bool) -> None:
    whole, objective = made()
    batch = marked([10, 7, 3, 2, 0])
    given = objective.prepare(whole, batch.packed() if packed else batch, torch.Generator().manual_seed(0))
    assert given.is_packed == packed
    for row, length in enumerate(batch.lengths["target"].tolist()):
        sizes = [int(given.lengths[name][row]) for name in SPECS]
        read, written = (given[name]["ids"][row, :size].tolist() for name, size in zip(SPECS, sizes, strict=True))
        if length == 0:
            assert sizes == [0, 0]
            continue
        assert read[-1] == END and BEGIN not in read and written[0] == BEGIN and written[-1] == END
        spans: dict[int, list[int]] = {}
        for number in written[1:-1]:
            if number > 8:
                spans[number] = []
            else:
                spans[next(reversed(spans))].append(number)
        whole_text = [i for number in read[:-1] for i in (spans[number] if number > 8 else [number])]
        assert whole_text == batch["target"]["ids"][row, 1 : length - 1].tolist()
    expected = given.lengths["target"].sub(1).clamp(min=0).sum()
    assert objective.count(given) == expected == objective(whole, given).count


def test_what_is_written_depends_on_what_is_read() -> None:
    whole, objective = made(Deletions(share=0.3), sentinels=[])
    given = objective.prepare(whole, marked([10, 10]), torch.Generator().manual_seed(0))
    loss = objective(whole, given).loss_sum
    other = given.with_values("source", ids=given["source"]["ids"].flip(0))
    assert not torch.allclose(loss, objective(whole, other).loss_sum)


def test_texts_are_corrupted_alike_in_each_evaluation() -> None:
    whole, objective = made(Shuffles(reach=2), sentinels=[])
    batch = marked([10, 8])
    assert objective.examples(whole, batch) == objective.examples(whole, batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "target"}, "source=target must name another text of the set than 'target'"),
        ({"source": "words"}, "source=words names no modality of the set"),
        ({"sentinels": [9, 12]}, r"sentinels=\[9, 12\] must be empty, or two ids, the larger first"),
        ({"sentinels": [13, 9]}, r"sentinels=\[13, 9\] must be ids of 0..14 that are no marks"),
        ({"sentinels": [40, 9]}, r"sentinels=\[40, 9\] must be ids of 0..14 that are no marks"),
        ({"sentinels": [12, 12]}, r"sentinels=\[12, 12\] are 1 ids, and the longest text needs 2"),
        ({"specs": {**SPECS, "source": text_spec(15, 10, Letters("abcdefghijkln"))}}, "source=source has other ids"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidValue, ValueError), match=message):
        made(**changes)
