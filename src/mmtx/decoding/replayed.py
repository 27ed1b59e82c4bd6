"""Steps of decoding whose kernels a GPU starts by itself."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Step = Callable[[Int[Tensor, "B 1"], Int[Tensor, " 1"]], Float[Tensor, "B 1 D"]]


def can_replay(device: torch.device) -> bool:
    return device.type == "cuda"


class Replayed:
    """A step of decoding, recorded as a CUDA graph when it is first called.

    A step of a small batch takes a GPU less time than the host needs to start its kernels one after the other. Started
    together, they wait for nobody.

    Args:
        step: from the newest id of each text, and their column as a tensor, to the hidden states of these ids; by the
            same kernels on the same memory in every call, and to be repeated without harm.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ids: Tensor
        self._column: Tensor
        self._hidden: Tensor

    def __call__(self, ids: Int[Tensor, "B 1"], column: int) -> Float[Tensor, "B 1 D"]:
        """The hidden states, which the next call overwrites."""
        if self._graph is None:
            self._ids, self._column = ids.clone(), ids.new_full((1,), column)
            self._graph = self._recorded()
        self._ids.copy_(ids)
        self._column.fill_(column)
        self._graph.replay()
        return self._hidden

    def _recorded(self) -> torch.cuda.CUDAGraph:
        own, current = torch.cuda.Stream(self._ids.device), torch.cuda.current_stream(self._ids.device)
        own.wait_stream(current)
        with torch.cuda.stream(own):
            self._step(self._ids, self._column)  # whatever is made or compiled once is not for the recording
        current.wait_stream(own)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may copy meanwhile
            self._hidden = self._step(self._ids, self._column)
        return graph
