"""``mmtx export --format onnx|torch_export``: a run as a program, which is compared with it on its data."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from mmtx.batch import Batch, Spec, fake_batch
from mmtx.errors import UserError
from mmtx.interop.exporting import family_of
from mmtx.interop.graph_export import write_program
from mmtx.interop.interface import Interface, Named, family_interface, inputs_of, outputs_of, run_interface
from mmtx.interop.program import record
from mmtx.interop.program_formats import PROGRAM_FORMATS
from mmtx.learner import Learner
from mmtx.predict import completed
from mmtx.run.evaluation import DEFAULTS, open_run

SMALL = ("loader.eval_batch_size=8", "loader.num_workers=0")
"""Of the batches that are compared."""


def export_program(learner: Learner, file: Path, kind: str, batches: Sequence[Batch]) -> str:
    """Writes a program, and gives a line about how near it is to the model.

    A model that was imported keeps the inputs and outputs of its family; those of a run are described in `interface`.

    Args:
        learner: its weights are made float32.
        file: its path.
        kind: one of `PROGRAM_FORMATS`.
        batches: of the data, to compare on; empty where there are none.

    Raises:
        UserError: a package is missing, the model cannot be written, or the program gives other numbers.
    """
    form = PROGRAM_FORMATS[kind]
    form.check_installed()
    is_run = learner.origin is None
    interface = run_interface(learner) if is_run else family_interface(learner, *family_of(learner))
    program = record(learner.eval(), interface)
    cases = run_cases(learner, batches) if is_run else _cases(learner, interface)
    greatest = write_program(program, learner, form, file, cases)
    where = f"{sum(map(len, batches))} samples of its data" if batches else "random inputs"
    return f"greatest difference from the run, on {where}: {greatest:.2g}"


def run_cases(learner: Learner, batches: Sequence[Batch]) -> Iterator[tuple[Named, Named]]:
    """Inputs and outputs for batches as the run has them, and for a random one of other sizes."""
    names, specs = learner.model.names, learner.model.read_specs
    for batch in (*batches, fake_batch(specs, 2, seed=1)):
        whole = _within_specs(completed(batch, learner, [name for name in names if name not in batch]), specs)
        with torch.no_grad():
            outputs = outputs_of(learner, whole)
        yield inputs_of(learner, whole), outputs  # outside, or whoever stops here would go on without gradients


def _within_specs(batch: Batch, specs: Mapping[str, Spec]) -> Batch:
    """The batch with no more of each name than its tokenizer reads: a window of a text has one id more."""
    for name, spec in specs.items():
        longest, ragged = spec.max_length, [key for key, field in spec.fields.items() if field.ragged]
        if ragged and batch[name][ragged[0]].shape[1] > longest:
            fields = {**batch[name], **{key: batch[name][key][:, :longest] for key in ragged}}
            batch = batch.with_name(name, fields, batch.lengths[name].clamp(max=longest), batch.full[name])
    return batch


def _cases(learner: Learner, interface: Interface) -> Iterator[tuple[Named, Named]]:
    """Inputs and outputs for more samples than the example has."""
    inputs = {name: torch.cat([value, value[:1]]) for name, value in interface.example.items()}
    with torch.no_grad():
        outputs = interface.compute(learner, inputs)
    yield inputs, outputs


def batches_of(place: Path | str) -> list[Batch]:
    """A small batch of each part of a run's data; none where the data cannot be read, which is reported."""
    try:
        data = open_run(str(place), {**DEFAULTS, "split": "val"}, SMALL, predicts=True).data
        split = next((split for split in ("val", "test", "train") if data.splits(split)), "train")
        loaders = (data.eval_loader(part, samples) for part, samples in data.splits(split).items())
        return [next(iter(loader))[0] for loader in loaders]
    except (UserError, OSError) as error:
        reason = str(error).splitlines()[0]
        print(f"mmtx: warning: compared on random inputs, as the data cannot be read: {reason}", file=sys.stderr)
        return []
