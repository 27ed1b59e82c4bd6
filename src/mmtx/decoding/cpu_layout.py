"""Memory layout of weights while text is generated one id after another on a CPU. `generate` alone calls it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

MIN_PRODUCTS, MAX_VECTORS = 32, 2
"""A copy pays from so many products on, if each has so few vectors that memory bandwidth is what limits it."""


@contextmanager
def column_major(module: nn.Module, *, products: int, vectors: int) -> Iterator[None]:
    """Within, weights with more outputs than inputs are stored column by column. Names, shapes and values stay.

    A product with one vector is then a sum of long columns, which reads memory up to twice as fast as dot products
    with short rows. Afterwards the weights are in the memory that they were in before.

    Args:
        module: whose weights.
        products: in which each weight will take part; where they are too few, nothing is copied.
        vectors: in each product; where they are too many, nothing is copied.
    """
    pays = products >= MIN_PRODUCTS and vectors <= MAX_VECTORS
    tall = [weight for weight in module.parameters() if pays and _is_tall(weight)]
    row_major = [weight.data for weight in tall]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for weight in tall:
                weight.data = _column_major(weight.data)
        yield
    finally:
        for weight, before in zip(tall, row_major, strict=True):
            weight.data = before


def _is_tall(weight: nn.Parameter) -> bool:
    is_ordinary = weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()
    return is_ordinary and weight.ndim == 2 and weight.shape[0] > weight.shape[1] and weight.is_contiguous()


def _column_major(weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """A copy, made in blocks that fit into a cache."""
    columns = weight.new_empty(weight.shape[1], weight.shape[0])
    for start in range(0, len(weight), 256):
        columns[:, start : start + 256] = weight[start : start + 256].T
    return columns.T
