"""Text: one token per id."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import merge, model, text_batch, text_spec
from contracts import check_tokenizer

from mmtx.batch import Field, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer


def made(spec: Spec | None = None, **changes: Any) -> Text:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"clock": None, "causal": True, "context": None, "share": None, "num_segments": 0}
    return Text(spec=spec or text_spec(), dim=6, **{**keys, **changes})


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("max_length", [1, 2, 8])
def test_contract(causal: bool, max_length: int) -> None:
    check_tokenizer(made(text_spec(max_length=max_length), causal=causal))


@pytest.mark.parametrize("causal", [True, False])
def test_tokens(causal: bool) -> None:
    tokenizer = made(causal=causal)
    batch = text_batch([3, 1])
    tokens = tokenizer(batch["text"], batch.lengths["text"], False)
    assert tokens.content.equal(tokenizer.embedding.weight[batch["text"]["ids"]])
    assert tokens.coordinates.tolist() == [[0], [1], [2]]
    assert tokens.time.tolist() == ([[0, 1, 2]] if causal else [[0, 0, 0]])
    assert tokens.num_items == (3 if causal else 1)
    assert tokens.lengths.tolist() == [3, 1]
    assert tokenizer.extent == (8,)
    assert tokenizer.max_tokens == 8


def test_context() -> None:
    tokenizer = made(context=4)
    assert tokenizer.extent == (4,)
    assert tokenizer.max_tokens == 4
    batch = text_batch([5])
    with pytest.raises(InvalidValue, match="context=4 is shorter than a text of 5 tokens"):
        tokenizer(batch["text"], batch.lengths["text"], True)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidValue, match="context=0 must be at least 1"):
        made(context=0)
    with pytest.raises(ValueError, match="a tokenizer 'text' reads the field 'ids'; the data offers pixels"):
        made(Spec({"pixels": Field((1, 2, 2), torch.uint8)}))
    with pytest.raises(ValueError, match="must declare num_classes and max_length"):
        made(Spec({"ids": Field((None,), torch.long, max_length=3)}))


def two_texts(**second: Any) -> MultimodalTransformer:
    """A source and a target that shares its embedding, unless `second` is given."""
    keys: dict[str, Any] = {"dim": 24, "clock": None, "causal": True, "context": None, "num_segments": 0}
    spec = second.pop("spec", text_spec())
    source = Text(spec=text_spec(), share=None, **keys)
    return model({"source": source, "target": Text(spec=spec, **{**keys, "share": "source", **second})})


def test_two_texts_of_one_embedding() -> None:
    """One parameter, which learns from both."""
    whole = two_texts()
    source, target = whole.tokenizers["source"], whole.tokenizers["target"]
    assert source.embedding is target.embedding
    names = [name for name, _ in whole.named_parameters() if "embedding.weight" in name]
    assert names == ["tokenizers.source.embedding.weight"]
    batch = merge(text_batch([3], name="source"), text_batch([2], seed=1, name="target"))
    whole(batch).hidden.square().sum().backward()
    used = {*batch["source"]["ids"][0].tolist(), *batch["target"]["ids"][0].tolist()}
    assert set(source.embedding.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()) == used


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": "nobody"}, "modality.target.share=nobody must name another text"),
        ({"share": "target"}, "modality.target.share=target must name another text"),
        ({"spec": text_spec(7)}, "share=source has 11 ids, this text 7"),
        ({"num_segments": -1}, "num_segments=-1 must be at least 0"),
    ],
)
def test_what_cannot_be_shared(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        two_texts(**changes)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 3072**0.5), (torch.bfloat16, 55.5)], ids=str)
def test_embeddings_times_a_number(dtype: torch.dtype, scale: float) -> None:
    """It has their type; segments are added as they are."""
    tokenizer = made(embedding_scale=3072**0.5, num_segments=2).to(dtype)
    batch = text_batch([3, 1])
    ids, segments = batch["text"]["ids"], tokenizer.segment_embedding
    assert segments is not None
    content = tokenizer(batch["text"], batch.lengths["text"], False).content
    assert content.equal(tokenizer.embedding.weight[ids] * torch.tensor(scale, dtype=dtype) + segments.weight[0])


def test_segments() -> None:
    """An embedding of each kind is added; without the field, all are of the first."""
    torch.manual_seed(0)
    own = Text(spec=text_spec(), dim=6, clock=None, causal=False, context=None, share=None, num_segments=2)
    ids, segments, lengths = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 1]]), torch.tensor([3])
    content = own({"ids": ids, "segments": segments}, lengths, True).content
    table = own.segment_embedding
    assert table is not None
    torch.testing.assert_close(content, own.embedding(ids) + table.weight[segments])
    torch.testing.assert_close(own({"ids": ids}, lengths, True).content, own.embedding(ids) + table.weight[0])


def test_a_text_is_filled_up_to_its_context() -> None:
    """The fill counts as text; who lacks a text has none."""
    tokenizer = Text(spec=text_spec(), dim=24, clock=None, causal=False, context=6, share=None, num_segments=0, fill=3)
    ids, lengths = torch.tensor([[1, 2, 4], [5, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0])
    tokens = tokenizer({"ids": ids}, lengths, False)
    filled = torch.tensor([[1, 2, 4, 3, 3, 3], [5, 3, 3, 3, 3, 3]])
    assert torch.equal(tokens.content[:2], tokenizer.embedding(filled))
    assert tokens.lengths.tolist() == tokenizer.num_tokens(lengths).tolist() == [6, 6, 0]


@pytest.mark.parametrize(("fill", "causal", "problem"), [(3, True, "read as a whole"), (99, False, "is none of")])
def test_fills_that_cannot_be(fill: int, causal: bool, problem: str) -> None:
    keys = {"dim": 24, "clock": None, "context": 6, "share": None, "num_segments": 0}
    with pytest.raises(InvalidValue, match=f"fill={fill} .*{problem}"):
        Text(spec=text_spec(), causal=causal, fill=fill, **keys)


def test_masks_that_count_as_dropped_out() -> None:
    """Zero, and the rest as large as if the usual 12 % of the text's own ids had been masks."""
    tokenizer = Text(
        spec=text_spec(), dim=6, clock=None, causal=False, context=None, share=None, num_segments=0, mask_dropout=2
    )
    ids = torch.tensor([[1, 2, 3, 2, 4], [1, 3, 2, 0, 0], [2, 0, 0, 0, 0]])
    content = tokenizer({"ids": ids}, torch.tensor([5, 3, 0]), False).content
    vectors = tokenizer.embedding.weight
    torch.testing.assert_close(content[0, 2], vectors[3] * 0.88 * 5 / 3)
    torch.testing.assert_close(content[1, :2], vectors[[1, 3]] * 0.88 * 3 / 2)
    assert not content[ids == 2].any()
    assert content.isfinite().all()
    with pytest.raises(InvalidValue, match="mask_dropout=99 is none of"):
        Text(
            spec=text_spec(), dim=6, clock=None, causal=False, context=None, share=None, num_segments=0, mask_dropout=99
        )
