"""Exports a learner as one program for other runtimes, `torch.export` or ONNX, which is compared with it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.errors import UserError
from mmtx.interop.interface import Named
from mmtx.interop.program import Program
from mmtx.interop.program_formats import ProgramFormat, Run
from mmtx.learner import Learner

TOLERANCE = 1e-4
"""By which outputs may differ in float32, as a share of their value where that is above 1."""


def write_program(
    program: Program, learner: Learner, form: ProgramFormat, file: Path, cases: Iterable[tuple[Named, Named]]
) -> float:
    """Writes a program, and beside it ``FILE.json``, its description; gives the greatest difference from the learner.

    Args:
        program: as it was recorded.
        learner: that it was recorded from.
        form: of the file.
        file: its path.
        cases: inputs, and the outputs of the learner for them.

    Raises:
        UserError: the program gives other numbers, or none.
    """
    described = description(program, learner)
    form.save(program, described, file)
    run, greatest = form.open(file), 0.0
    for inputs, expected in cases:
        actual = _outputs(run, {port.name: inputs[port.name] for port in program.inputs})
        for (name, value), other in zip(expected.items(), actual, strict=True):
            difference = _difference(value, other)
            if not difference <= TOLERANCE:
                problem = f"differs by {difference:.2g} from that of the run, and may by {TOLERANCE:g}"
                raise UserError(f"the program would compute something else: '{name}' {problem}; nothing is written")
            greatest = max(greatest, difference)
    file.with_name(f"{file.name}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return greatest


def description(program: Program, learner: Learner) -> dict[str, Any]:
    """What a user of the program has to know, as plain values: inputs and outputs in their order; the largest sizes;
    the rate of waveforms; names of classes."""
    specs = learner.specs
    own: Mapping[str, Any] = {
        "largest": program.largest,
        "sample_rate_hz": {name: spec.sample_rate_hz for name, spec in specs.items() if spec.sample_rate_hz},
        "classes": {name: spec.class_names for name, spec in specs.items() if spec.class_names},
    }
    ports = {"inputs": [asdict(port) for port in program.inputs], "outputs": [asdict(port) for port in program.outputs]}
    return {"mmtx": version("mmtx"), **ports, **{key: value for key, value in own.items() if value}}


def _outputs(run: Run, inputs: Named) -> list[Tensor]:
    try:
        return run(list(inputs.values()))
    except Exception as error:  # of a runtime: sizes for which the program was not recorded
        sizes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
        problem = f"the program does not run, as the run does, on {sizes}: {str(error).strip().splitlines()[0]}"
        raise UserError(f"{problem}; nothing is written") from error


def _difference(expected: Tensor, actual: Tensor) -> float:
    """The greatest of an output, as a share of its value where that is above 1; infinite if shapes differ."""
    if expected.shape != actual.shape:
        return float("inf")
    one, other = expected.to(torch.double), actual.to(torch.double)
    apart = ((one - other).abs() / one.abs().clamp(min=1)).masked_fill(one == other, 0.0)
    return float(apart.max()) if apart.numel() else 0.0
