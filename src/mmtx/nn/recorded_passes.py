"""Passes of a small compiled stack whose kernels a GPU starts by itself, forward and backward."""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtx.nn.compilation import ranks_are_connected

SMALL = 2**42
"""Parameters times tokens up to which a pass is recorded. The host needs longer to start the kernels of one of 2**38
than an H200 to compute them, 5 ms; at 2**41, the gaps between kernels still add up to 3% of 65 ms."""

ROOM = 0.5
"""Share of a GPU's memory up to which a run may have used it: a recording keeps what others could use meanwhile."""

SEEN = 3
"""Passes of the same sizes before one is recorded."""

MANY = 64
"""Sizes that are counted at a time."""

MOST = 4
"""RecordedPasses of a stack, each of which keeps the memory of a pass."""

Results = tuple[Tensor, ...]
Pass = Callable[..., tuple[Tensor, Mapping[str, Tensor]]]
Record = Callable[[Callable[[], Sequence[Tensor | None]]], tuple[list[Tensor | None], Callable[[], None]]]


class RecordedPasses:
    """The passes of a stack that have been recorded.

    A pass is recorded once its sizes have come a few times, and replayed when they come again, unless an earlier one
    of the same sizes still awaits its backward pass. What comes out of it is copied, so that no memory of a recording
    is seen outside. They are of one stack at one place: a copy of it begins without.
    """

    def __init__(self) -> None:
        self._seen: Counter[Any] = Counter()
        self._made: dict[Any, RecordedPass] = {}

    def __deepcopy__(self, _: Any) -> RecordedPasses:
        return RecordedPasses()

    def __reduce__(self) -> Any:
        return RecordedPasses, ()

    def __call__(
        self, run: Pass, arguments: tuple[Any, ...], modules: Sequence[nn.Module]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What ``run(*arguments)`` gives, which computes with these modules, all of the stack."""
        parameters = [*dict.fromkeys(p for module in modules for p in module._parameters.values() if p is not None)]
        inputs: dict[int, Tensor] = {}
        form = form_of(arguments, inputs)
        given = [*inputs.values()]
        if form is None or not _is_small(given[0], parameters):
            return run(*arguments)
        buffers = [b for module in modules for b in module._buffers.values() if b is not None]
        weights = tuple((tensor.data_ptr(), tensor.requires_grad) for tensor in (*parameters, *buffers))
        key = form, *(_kind(tensor) for tensor in given), _autocast(), weights, _settings(modules)
        made = self._made.get(key)
        if made is None and self._pays(key):
            made = self._made[key] = RecordedPass(run, arguments, given, parameters)
        return run(*arguments) if made is None or made.is_busy else made(given)

    def _pays(self, key: Any) -> bool:
        if len(self._seen) == MANY:
            self._seen.clear()
        self._seen[key] += 1
        return self._seen[key] > SEEN and len(self._made) < MOST and has_room()


def can_record(device: torch.device) -> bool:
    """Steps of one rank on a GPU: several exchange gradients while they compute, by hooks that are called in Python."""
    return device.type == "cuda" and not ranks_are_connected()


def has_room() -> bool:
    device = torch.cuda.current_device()
    most = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_allocated(device) <= ROOM * most


def form_of(value: Any, tensors: dict[int, Tensor]) -> Any:
    """All of a value but its tensors, which are collected by their ids; None where there is something in it that is not
    known to stay the same."""
    if isinstance(value, Tensor):
        tensors.setdefault(id(value), value)
        return "tensor", [*tensors].index(id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made = dataclasses.fields(value)
        value = type(value), *(getattr(value, field.name) if field.init else object() for field in made)
    if isinstance(value, list | tuple):
        forms = [form_of(each, tensors) for each in value]
        return None if None in forms else (type(value), *forms)
    known = isinstance(value, int | float | str | torch.dtype | type | type(None))
    return ("value", value) if known else None


def substituted(value: Any, by: dict[int, Any]) -> Any:
    """The same with other objects in the place of those of these ids, one object wherever it was one before: compiled
    code knows which are the same."""
    if id(value) in by:
        return by[id(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: substituted(getattr(value, field.name), by) for field in dataclasses.fields(value)}
        by[id(value)] = dataclasses.replace(value, **fields)
    elif isinstance(value, list | tuple):
        made = [substituted(each, by) for each in value]
        by[id(value)] = type(value)(*made) if hasattr(value, "_fields") else type(value)(made)  # a named tuple
    return by.get(id(value), value)


class RecordedPass:
    """A pass in memory of its own, forward and backward.

    Args:
        run: of the arguments.
        arguments: of a first pass.
        inputs: the tensors in them.
        parameters: of the stack.
    """

    def __init__(
        self, run: Pass, arguments: tuple[Any, ...], inputs: list[Tensor], parameters: Sequence[nn.Parameter]
    ) -> None:
        self.inputs = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
        self.parameters = list(parameters)
        own = substituted(arguments, {id(tensor): mine for tensor, mine in zip(inputs, self.inputs, strict=True)})
        self._run = lambda: run(*own)
        self._wanted = [tensor for tensor in (*self.inputs, *self.parameters) if tensor.requires_grad]
        self._pending: weakref.ref[Any] | None = None
        record = recorder(self.inputs[0].device)
        self.names: list[str]
        self._made: list[Tensor]
        with torch.random.fork_rng([device.index] if (device := self.inputs[0].device).type == "cuda" else []):
            self.outputs, self._forward = record(self._compute)
            self._by_outputs = [torch.zeros_like(made) for made in self._differentiable]
            self._gradients, self._backward = record(self._differentiate)

    @property
    def is_busy(self) -> bool:
        """A pass still needs this memory for its backward pass."""
        return self._pending is not None and self._pending() is not None

    def __call__(self, inputs: list[Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        x, *statistics = _Replay.apply(self, *inputs, *self.parameters)
        return x, dict(zip(self.names, statistics, strict=True))

    def forward(self, node: Any, inputs: Sequence[Tensor]) -> Results:
        """Replays the forward pass, which `node` stands for until its backward pass."""
        self._pending = weakref.ref(node)
        torch._foreach_copy_(self.inputs, list(inputs))
        self._forward()
        return tuple(output.clone() for output in self.outputs if output is not None)

    def backward(self, node: Any, by_outputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradients of inputs and parameters.

        Raises:
            RuntimeError: it has been called before, and has overwritten what the forward pass left.
        """
        if self._pending is None or self._pending() is not node:
            raise RuntimeError("a recorded pass has one backward pass (retain_graph): set backbone.compile=false")
        given = [by for by, made in zip(by_outputs, self._made, strict=True) if made.requires_grad]
        torch._foreach_copy_(self._by_outputs, given)
        self._backward()
        self._pending = None
        found = [gradient for gradient in self._gradients if gradient is not None]
        copies = iter(torch._foreach_add(found, 0.0))
        of_wanted = iter([None if gradient is None else next(copies) for gradient in self._gradients])
        return [next(of_wanted) if t.requires_grad else None for t in (*self.inputs, *self.parameters)]

    @property
    def _differentiable(self) -> list[Tensor]:
        return [made for made in self._made if made.requires_grad]

    def _compute(self) -> list[Tensor | None]:
        x, statistics = self._run()
        self.names, self._made = [*statistics], [x, *statistics.values()]
        return [made.detach() for made in self._made]

    def _differentiate(self) -> Sequence[Tensor | None]:
        return torch.autograd.grad(self._differentiable, self._wanted, self._by_outputs, allow_unused=True)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: RecordedPass, *tensors: Tensor) -> Results:
        ctx.recording = recording
        return recording.forward(ctx, tensors[: len(recording.inputs)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.recording.backward(ctx, by_outputs)


def recorder(device: torch.device) -> Record:
    """Records on a GPU: gives what a function gives, and what computes it anew in the same memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Callable[[], Sequence[Tensor | None]]) -> tuple[list[Tensor | None], Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # others may copy meanwhile
            results = list(compute())
        return results, graph.replay

    return record


def _is_small(x: Shaped[Tensor, ...], parameters: Sequence[nn.Parameter]) -> bool:
    return x.numel() // x.shape[-1] * sum(parameter.numel() for parameter in parameters) <= SMALL


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


def _settings(modules: Sequence[nn.Module]) -> tuple[Any, ...]:
    """The numbers and flags of modules, as a chance of dropout, which someone may change between two steps."""
    plain = (bool, int, float, str)
    return tuple(value for module in modules for value in module.__dict__.values() if type(value) in plain)


def _autocast() -> tuple[Any, ...]:
    return torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
