"""``mmtx predict``: what a saved model predicts of every sample, as a table that goes on where it was stopped."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtx.config.redaction import redacted
from mmtx.data.skipped_samples import check_skipped
from mmtx.errors import UserError, some
from mmtx.predict import Predictor
from mmtx.process.stopping import Interrupted
from mmtx.run.computing import computing
from mmtx.run.evaluation import DEFAULTS as OF_EVALUATION
from mmtx.run.evaluation import Opened, computing_options, no_split, open_run
from mmtx.run.table_draft import TableDraft
from mmtx.run.table_file import check_table, write_table
from mmtx.training.devices import chosen_device

DEFAULTS: dict[str, Any] = {"out": None, **OF_EVALUATION}
"""All options of the command."""


def predict_run(path: str, options: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Writes a table of predictions, and gives a line about it.

    Rows are written to ``OUT.part`` batch by batch, from where the same command goes on.

    Args:
        path: of the run or the checkpoint.
        options: those of `DEFAULTS`.
        overrides: of the run's config.

    Raises:
        UserError: an option cannot be, the data has no such split, or the model does not fit the data.
    """
    if options["out"] is None:
        raise UserError("name the table that is to be written: out=FILE, which ends with .csv, .jsonl or .parquet")
    out = Path(options["out"]).expanduser()
    check_table(out)
    opened = open_run(path, options, overrides, predicts=True)
    with computing(opened.learner, **computing_options(options)):
        predictor = Predictor(opened.learner, opened.data, options["split"], opened.drop)
        if not predictor.splits:
            raise no_split(options["split"])
        draft = TableDraft(out.with_name(f"{out.name}.part"), _settings(opened, options, predictor))
        try:
            _fill(draft, predictor)
            _finish(draft, out, predictor, opened.data.max_bad_share)
        finally:
            draft.close()
    return f"{out}: {_total(predictor)} samples; {some(predictor.columns)}"


def _fill(draft: TableDraft, predictor: Predictor) -> None:
    """Writes the rows that are not there yet. Batches stay those of a run that was not stopped, and so do their
    values, which depend on padding in the last digit."""
    done = predictor.whole_batches(len(draft))
    draft.keep(done)
    try:
        for rows in predictor.batches(done):
            draft.append(rows)
            done += len(rows)
    except Interrupted:
        print(f"mmtx: {draft.file} has the first {done} samples; the same command goes on", file=sys.stderr)
        raise


def _finish(draft: TableDraft, out: Path, predictor: Predictor, max_bad_share: float) -> None:
    check_skipped(sum(set(row) <= set(predictor.given) for row in draft.rows()), _total(predictor), max_bad_share)
    write_table(out, predictor.columns, draft.rows())
    draft.file.unlink()


def _total(predictor: Predictor) -> int:
    return sum(map(len, predictor.splits.values()))


def _settings(opened: Opened, options: Mapping[str, Any], predictor: Predictor) -> dict[str, Any]:
    """What the rows depend on: who goes on with a table has to have the same."""
    loader = opened.data
    return {
        "checkpoint": str(opened.file.absolute()),
        "written_at_ns": opened.file.stat().st_mtime_ns,
        "split": options["split"],
        "drop": list(opened.drop),
        "samples": {part: len(samples) for part, samples in predictor.splits.items()},
        "eval_batch_size": loader.eval_batch_size,
        "packing": loader.packing,
        "device": chosen_device(options["device"]),
        "precision": options["precision"],
        "seed": loader.seed,
        "columns": {column: str(kind) for column, kind in predictor.columns.items()},
        "data": redacted(opened.config["data"]),
    }
