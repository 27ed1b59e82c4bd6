"""How matrices stand in memory while text is written one id after another on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

MANY_PRODUCTS, FEW_VECTORS = 32, 2
"""So many products pay for laying a matrix out anew, if each is with so few vectors that memory is what limits it."""


@contextmanager
def input_by_input(module: nn.Module, *, products: int, vectors: int) -> Iterator[None]:
    """Within, matrices with more outputs than inputs stand in memory input by input instead of output by output.

    Names, shapes and values stay. A product with one vector is then a sum of long columns, which reads memory up to
    twice as fast as dot products with short rows do. Afterwards everything is where it was.

    Args:
        module: whose matrices.
        products: that each of them will take part in; where they are too few, nothing is moved.
        vectors: that each product has; likewise where they are many.
    """
    pays = products >= MANY_PRODUCTS and vectors <= FEW_VECTORS
    tall = [matrix for matrix in module.parameters() if pays and _is_tall(matrix)]
    kept = [matrix.data for matrix in tall]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for matrix in tall:
                matrix.data = _by_inputs(matrix.data)
        yield
    finally:
        for matrix, before in zip(tall, kept, strict=True):
            matrix.data = before


def _is_tall(matrix: nn.Parameter) -> bool:
    is_ordinary = matrix.device.type == "cpu" and matrix.dtype == torch.float32 and not matrix.is_inference()
    return is_ordinary and matrix.ndim == 2 and matrix.shape[0] > matrix.shape[1] and matrix.is_contiguous()


def _by_inputs(matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """In blocks that fit into a cache."""
    columns = matrix.new_empty(matrix.shape[1], matrix.shape[0])
    for start in range(0, len(matrix), 256):
        columns[:, start : start + 256] = matrix[start : start + 256].T
    return columns.T
