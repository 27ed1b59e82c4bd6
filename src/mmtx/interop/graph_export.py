"""Exports a public model as one program for other runtimes: `torch.export`, ONNX."""

from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtx.errors import UserError
from mmtx.interop.exporting import family_of
from mmtx.interop.family import Config, Family
from mmtx.learner import Learner


class Program(nn.Module):
    """The family's inputs to its outputs, both positional."""

    def __init__(self, learner: Learner, family: Family, config: Config, names: list[str]) -> None:
        super().__init__()
        self.learner, self.family, self.config, self.names = learner, family, config, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named: dict[str, Any] = dict(zip(self.names, inputs, strict=True))
        return tuple(self.family.forward(self.learner, self.config, **named).values())


def write_program(learner: Learner, file: Path, kind: str) -> None:
    """Writes a program for unpadded inputs, with a dynamic batch size and dynamic lengths of texts.

    Args:
        learner: of a public family.
        file: its path.
        kind: ``torch_export`` or ``onnx``.

    Raises:
        UserError: it is of no public family, or what ONNX needs is not installed.
    """
    if kind == "onnx":
        _require_onnx()
    family, config = family_of(learner)
    reserved = [name for name in learner.model.names if iskeyword(name)]
    if reserved:  # in the Python of torch.export, modules are attributes
        raise UserError(f"--format {kind}: torch.export cannot write a set with the name '{reserved[0]}'")
    example = family.example(config)
    program = Program(learner.eval(), family, config, list(example)).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = (tuple({0: batch, **_open_length(value)} for value in example.values()),)
    with torch.no_grad():  # with gradients, attention would be exported as other operations
        exported = torch.export.export(program, tuple(example.values()), dynamic_shapes=shapes)
        if kind == "torch_export":
            torch.export.save(exported, file)
            return
        outputs = list(family.forward(learner, config, **example))
        made = torch.onnx.export(exported, input_names=list(example), output_names=outputs, dynamo=True, verbose=False)
    assert made is not None
    made.save(str(file))


def _open_length(value: Tensor) -> dict[int, Any]:
    """Dynamic lengths of texts."""
    return {} if value.is_floating_point() else {1: torch.export.Dim.DYNAMIC}


def _require_onnx() -> None:
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if missing:
        raise UserError(f"--format onnx needs {' and '.join(missing)}: pip install 'mmtx[onnx]'")
