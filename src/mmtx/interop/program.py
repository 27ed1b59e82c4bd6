"""A learner recorded as one program, for any number of samples and any lengths."""

from collections.abc import Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import torch
from sympy import Symbol
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmtx.errors import UserError
from mmtx.interop.interface import Interface
from mmtx.learner import Learner
from mmtx.nn.backbone import Backbone


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        name: by which it goes.
        dtype: such as ``int64``.
        shape: numbers, and names of sizes, or what is computed from them.
    """

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True)
class Program:
    """A program, and what a user of it has to know.

    Attributes:
        exported: its inputs and outputs are positional.
        inputs: in their order.
        outputs: likewise.
        sizes: what the exporter calls each size, and its name here.
        largest: ``{name of a size: limit}``, where there is one.
    """

    exported: ExportedProgram
    inputs: list[Port]
    outputs: list[Port]
    sizes: Mapping[Any, str]
    largest: Mapping[str, int]


def record(learner: Learner, interface: Interface) -> Program:
    """Records what an interface computes, in float32.

    Args:
        learner: in eval mode; is changed so that it can be recorded: weights in float32, nothing compiled.
        interface: of the program.

    Raises:
        UserError: a part of the model cannot be recorded.
    """
    _prepare(learner)
    computed = _Computed(learner, interface)
    shapes = tuple(dict.fromkeys(interface.axes[name], Dim.DYNAMIC) for name in interface.example)
    try:
        with torch.no_grad():  # with gradients, attention would be exported as other operations
            exported = torch.export.export(
                _Renamed(computed), tuple(interface.example.values()), dynamic_shapes=(shapes,), strict=False
            )
    except UserError:
        raise
    except Exception as error:  # many kinds, from whatever a module does that cannot be recorded
        raise UserError(f"this model cannot be recorded as a program: {_first_line(error)}") from error
    return _described(exported, interface, computed.outputs)


def _prepare(learner: Learner) -> None:
    for parameter in learner.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    for stack in learner.modules():
        if isinstance(stack, Backbone):
            _check_stack(stack)
            stack.is_compiled = stack.flex = False


def _check_stack(stack: Backbone) -> None:
    if stack.memory_tokens is not None:
        problem = "cannot be recorded: a program would have a fixed number of segments, and so one length"
        raise UserError(f"memory_tokens.segment={stack.memory_tokens.segment} {problem}")
    for key, mixer in stack.mixers.items():
        if mixer.needs_window:
            problem = "cannot be recorded: how many keys are in its memory follows from the length"
            raise UserError(f"{key}={type(mixer).__name__} {problem}")
        if not mixer.exports:
            problem = "cannot be recorded: a program would have a step of it for each token, and so one length"
            raise UserError(
                f"{key}={type(mixer).__name__} {problem}; min_lstm, min_gru, s4d, mamba2 and short_conv can"
            )


class _Computed(nn.Module):
    """What an interface computes, of positional inputs; remembers the names of outputs."""

    def __init__(self, learner: Learner, interface: Interface) -> None:
        super().__init__()
        self.learner, self.interface = learner, interface
        self.outputs: list[str] = []

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.interface.example, inputs, strict=True))
        outputs = self.interface.compute(self.learner, named)
        self.outputs[:] = outputs
        return tuple(outputs.values())


class _Renamed(nn.Module):
    """The same with names of weights that Python can write, as programs are written in it: no ``tokenizers.return``."""

    def __init__(self, computed: _Computed) -> None:
        super().__init__()
        self._computed = (computed,)  # in a tuple, so that it is no part of this module
        self._own = {}
        for path, value in [*computed.named_parameters(), *computed.named_buffers()]:
            *within, last = (f"{part}_" if iskeyword(part) else part for part in path.split("."))
            holder: nn.Module = self
            for part in within:
                if part not in dict(holder.named_children()):
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            setattr(holder, last, value) if isinstance(value, nn.Parameter) else holder.register_buffer(last, value)
            self._own[path] = (holder, last)

    def forward(self, *inputs: Tensor) -> Any:
        own = {path: getattr(holder, last) for path, (holder, last) in self._own.items()}
        # a module that is shared has its weights once; as ties they would be exchanged twice, and put back once
        return torch.func.functional_call(self._computed[0], own, inputs, tie_weights=False)


def _described(exported: ExportedProgram, interface: Interface, outputs: list[str]) -> Program:
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    given = [values[name] for name in exported.graph_signature.user_inputs]
    made = [values[name] for name in exported.graph_signature.user_outputs]
    sizes: dict[Any, str] = {}
    for name, value in zip(interface.example, given, strict=True):
        for axis, size in interface.axes[name].items():
            sizes.setdefault(value.shape[axis].node.expr, size)
    limits = {size: exported.range_constraints[symbol].upper for symbol, size in sizes.items()}
    return Program(
        exported,
        [_port(name, value, sizes) for name, value in zip(interface.example, given, strict=True)],
        [_port(name, value, sizes) for name, value in zip(outputs, made, strict=True)],
        {str(symbol): size for symbol, size in sizes.items()},
        {size: int(limit) for size, limit in limits.items() if limit.is_Integer and limit < 2**31},
    )


def _port(name: str, value: Tensor, sizes: Mapping[Any, str]) -> Port:
    named = {symbol: Symbol(size, integer=True, positive=True) for symbol, size in sizes.items()}
    shape: list[int | str] = [
        size if isinstance(size, int) else str(size.node.expr.xreplace(named)) for size in value.shape
    ]
    return Port(name, str(value.dtype).removeprefix("torch."), shape)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
