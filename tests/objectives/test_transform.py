"""The head between hidden states and scores, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.objectives.transform import Transform


@pytest.mark.parametrize(
    ("biases", "names"),
    [
        (None, ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ([], ["0.weight", "2.weight"]),
        (["norm"], ["0.weight", "2.weight", "2.bias"]),
    ],
)
def test_by_hand(biases: Any, names: list[str]) -> None:
    torch.manual_seed(0)
    transform, x = Transform(5, activation=nn.ReLU(), norm_eps=0.1, biases=biases), torch.randn(3, 5)
    assert [name for name, _ in transform.named_parameters()] == names
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.normal_()
    weights = dict(transform.named_parameters())
    hidden = (x @ weights["0.weight"].T + weights.get("0.bias", 0)).clamp(min=0)
    centred = hidden - hidden.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(transform(x), expected * weights["2.weight"] + weights.get("2.bias", 0))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"biases=\['head'\] may name linear and norm; not head"):
        Transform(5, activation=nn.ReLU(), norm_eps=0.1, biases=["head"])
