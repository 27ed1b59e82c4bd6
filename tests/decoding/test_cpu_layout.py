"""Weights that are column-major for a while."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmtx.decoding.cpu_layout import column_major


def module() -> nn.Module:
    """A tall weight, a wide one, a square one, and the tall one a second time."""
    made = nn.ModuleList([nn.Linear(6, 150), nn.Linear(150, 6), nn.Linear(6, 6), nn.Embedding(150, 6)])
    made[3].weight = made[0].weight
    return made


def memory_of(made: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    return [(p.data_ptr(), p.stride()) for p in made.parameters()]


def test_only_tall_weights_are_copied_and_all_come_back() -> None:
    made, x = module(), torch.randn(1, 6)
    before, values = memory_of(made), [p.detach().clone() for p in made.parameters()]
    expected = made[0](x), made[3](torch.tensor([149, 0]))
    with pytest.raises(KeyError), column_major(made, products=100, vectors=1):
        assert [p.stride() for p in made.parameters() if p.ndim == 2] == [(1, 150), (150, 1), (6, 1)]
        assert all(torch.equal(p, value) for p, value in zip(made.parameters(), values, strict=True))
        assert made[3].weight is made[0].weight
        torch.testing.assert_close((made[0](x), made[3](torch.tensor([149, 0]))), expected)
        raise KeyError
    assert memory_of(made) == before


@pytest.mark.parametrize(("products", "vectors"), [(5, 1), (100, 8)])
def test_nothing_is_copied_where_it_would_not_pay(products: int, vectors: int) -> None:
    made = module()
    before = memory_of(made)
    with column_major(made, products=products, vectors=vectors):
        assert memory_of(made) == before


def test_training_goes_on_after_inference() -> None:
    made = module()

    @torch.inference_mode()
    def infer() -> Tensor:
        with column_major(made, products=100, vectors=1):
            return made[0](torch.randn(1, 6))

    infer()
    made[0](torch.randn(2, 6)).sum().backward()
    weight = made[0].weight
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride() == (6, 1)
