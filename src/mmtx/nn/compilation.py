"""Compilation of a stack by `torch.compile`."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed

BACKEND = "inductor"

MOST_GRAPHS = 32
"""Graphs of one function, beyond which it is no longer compiled. Torch's 8 are too few: encoder and backbone share a
function, and each has graphs for training, its first pass without gradients and evaluation, of many rows and of one."""

Compiled = Callable[..., Any]


def in_one_graph_or_by_block(run: Compiled, call: Compiled, is_ragged: bool) -> tuple[Compiled, Compiled]:
    """A function that runs a stack, and one that calls a block of it, of which one is compiled.

    On one rank the whole stack is one graph: what lies between blocks is fused, and Python runs once a step instead of
    once a block. Where there are several ranks, each block is a graph, as they exchange weights and gradients of one
    block while they compute another.
    """
    if ranks_are_connected():
        return run, compiled(call, is_ragged)
    return compiled(run, is_ragged), call


def ranks_are_connected() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def compiled(function: Compiled, is_ragged: bool = False, tuned: bool = False) -> Compiled:
    """A function of a file, whose graphs all that call it share, compiled when it is first called.

    Args:
        function: of tensors, modules and what else `torch.compile` can read.
        is_ragged: its first graph is for all sizes. Otherwise that is for those of the first call alone, which is
            faster, and each axis whose size changes leads to one more graph.
        tuned: spend more time on compiling. Products with one vector then become kernels of their own, which read
            weights nearly as fast as a GPU can, in place of those of a library.
    """
    return _compiled(function, is_ragged, tuned, BACKEND)


@cache
def _compiled(function: Compiled, is_ragged: bool, tuned: bool, backend: str) -> Compiled:
    torch.compiler.config.recompile_limit = max(MOST_GRAPHS, torch.compiler.config.recompile_limit)
    options: dict[str, Any] | None = {"coordinate_descent_tuning": True} if tuned and backend == "inductor" else None
    return torch.compile(function, dynamic=is_ragged or None, backend=backend, options=options)
