"""Series: one token per step, from a vector or a class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import series, series_spec, steps_batch
from contracts import check_tokenizer

from mmtx.batch import Field, Spec
from mmtx.modalities.series import Series
from mmtx.tokens import Tokens

SINGLE_VECTOR = Spec({"values": Field((3,), torch.float32)})
SINGLE_CLASS = Spec({"class": Field((), torch.long, 4)})


def made(spec: Spec | None = None, **changes: Any) -> Series:
    torch.manual_seed(0)
    return series(spec, dim=6, **changes)


def tokens_of(tokenizer: Series, lengths: list[int], begin: list[int] | None = None) -> Tokens:
    batch = steps_batch({"name": tokenizer.spec}, lengths, begin)
    return tokenizer(batch["name"], batch.lengths["name"], batch.full["name"])


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(
    "spec",
    [
        series_spec(),
        series_spec(1, num_times=None),
        series_spec(num_classes=4),
        series_spec(num_classes=4, num_times=None),
        SINGLE_VECTOR,
        SINGLE_CLASS,
    ],
    ids=["vectors", "vectors, counted", "classes", "classes, counted", "one vector", "one class"],
)
def test_contract(spec: Spec, squash: bool) -> None:
    check_tokenizer(made(spec, squash=squash))


def test_a_vector_goes_through_one_linear_map() -> None:
    tokenizer = made(series_spec(3))
    batch = steps_batch({"name": tokenizer.spec}, [4, 2])
    values = batch["name"]["values"]
    weight, bias = tokenizer.projection.weight, tokenizer.projection.bias
    assert isinstance(weight, torch.Tensor)
    expected = torch.einsum("bti,di->btd", values, weight) + bias
    tokens = tokenizer(batch["name"], batch.lengths["name"], batch.full["name"])
    torch.testing.assert_close(tokens.content, expected)
    squashed = made(series_spec(3), squash=True)(batch["name"], batch.lengths["name"], batch.full["name"])
    torch.testing.assert_close(squashed.content, expected.tanh())
    assert not torch.allclose(squashed.content, expected)


def test_a_class_is_one_row_of_a_table() -> None:
    """Which is a one-hot vector through a linear map."""
    tokenizer = made(series_spec(num_classes=4))
    batch = steps_batch({"name": tokenizer.spec}, [5, 3])
    table = tokenizer.projection.weight
    assert isinstance(table, torch.Tensor) and table.shape == (4, 6)
    expected = F.one_hot(batch["name"]["class"], 4).float() @ table
    tokens = tokenizer(batch["name"], batch.lengths["name"], batch.full["name"])
    torch.testing.assert_close(tokens.content, expected)


def test_time_is_the_samples_own_or_counted() -> None:
    assert tokens_of(made(), [3, 2], [7, 4]).time.tolist() == [[7, 8, 9], [4, 5, 0]]
    counted = tokens_of(made(series_spec(num_times=None)), [3, 2])
    assert counted.time.tolist() == [[0, 1, 2]]
    assert counted.num_items == 3 and counted.lengths.tolist() == [3, 2] and not counted.full


@pytest.mark.parametrize("spec", [SINGLE_VECTOR, SINGLE_CLASS], ids=["vector", "class"])
def test_without_an_axis_of_steps_a_sample_is_one_step(spec: Spec) -> None:
    key, field = next(iter(spec.fields.items()))
    given = {key: torch.ones(2, *(size or 0 for size in field.shape), dtype=field.dtype)}
    tokens = made(spec)(given, torch.tensor([1, 0]), False)
    assert tokens.content.shape == (2, 1, 6) and tokens.time.tolist() == [[0]]
    assert (tokens.num_items, tokens.lengths.tolist(), made(spec).max_tokens) == (1, [1, 0], 1)


def test_sizes() -> None:
    tokenizer = made(series_spec(max_length=5, num_times=20))
    assert (tokenizer.extent, tokenizer.max_tokens, tokenizer.num_times) == ((), 5, 20)
    assert made(series_spec(max_length=5, num_times=None)).num_times == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": Field((None,), torch.long, 3, 5)}, "'series' reads 'values' or 'class'; the data offers ids"),
        ({"values": Field((None,), torch.float32, max_length=5)}, r"reads vectors; the data's values are \(None,\)"),
        ({"values": Field((None, 2, 2), torch.float32, max_length=5)}, r"reads vectors; .* are \(None, 2, 2\)"),
        ({"class": Field((None,), torch.long, max_length=5)}, "one class per step and declare num_classes"),
        ({"class": Field((None, 2), torch.long, 3, 5)}, "one class per step and declare num_classes"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Field], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(Spec(fields))
