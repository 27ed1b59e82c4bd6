"""The files that programs are written to, and how they are run again."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.errors import UserError
from mmtx.interop.program import Program

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Positional outputs of positional inputs."""


class ProgramFormat(ABC):
    """A kind of file. Each has the description of the program in it, too, under ``mmtx``.

    Attributes:
        packages: that it needs.
    """

    packages: Sequence[str] = ()

    def check_installed(self) -> None:
        """Raises UserError if a package is missing."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise UserError(f"--format onnx needs {' and '.join(missing)}: pip install 'mmtx[onnx]'")

    @abstractmethod
    def save(self, program: Program, description: Mapping[str, Any], file: Path) -> None:
        """Raises UserError if the format has no counterpart for a part of the program."""

    @abstractmethod
    def open(self, file: Path) -> Run: ...


class TorchExport(ProgramFormat):
    """What ``torch.export.load`` reads."""

    def save(self, program: Program, description: Mapping[str, Any], file: Path) -> None:
        torch.export.save(program.exported, file, extra_files={"mmtx": json.dumps(description)})

    def open(self, file: Path) -> Run:
        module = torch.export.load(file).module()
        return lambda inputs: list(module(*inputs))


class Onnx(ProgramFormat):
    """What ONNX runtimes read; inputs and outputs go by their names."""

    packages = ("onnx", "onnxscript", "onnxruntime")

    def save(self, program: Program, description: Mapping[str, Any], file: Path) -> None:
        inputs, outputs = ([port.name for port in ports] for ports in (program.inputs, program.outputs))
        try:
            made = torch.onnx.export(
                program.exported, input_names=inputs, output_names=outputs, dynamo=True, verbose=False
            )
        except Exception as error:  # many kinds, from operations that ONNX has no counterpart for
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"this model cannot be written as ONNX: {cause}") from error
        assert made is not None
        made.rename_axes(dict(program.sizes))
        made.model.metadata_props["mmtx"] = json.dumps(description)
        made.save(str(file))

    def open(self, file: Path) -> Run:
        from onnxruntime import InferenceSession

        session = InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
            return [torch.from_numpy(value) for value in session.run(None, given)]

        return run


PROGRAM_FORMATS: Mapping[str, ProgramFormat] = {"torch_export": TorchExport(), "onnx": Onnx()}
