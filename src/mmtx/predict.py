"""What a learner predicts of every sample of a split, or of all splits, as rows of a table."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmtx.batch import Batch
from mmtx.data.base import Split, origin_of
from mmtx.data.collate import collate
from mmtx.data.loaders import DataModule
from mmtx.data.skipped_samples import SKIPPED
from mmtx.data.whole_split import WholeSplit
from mmtx.evaluate import check_drop, without_names
from mmtx.learner import Learner
from mmtx.objectives.predictions import columns_of, predictions_of
from mmtx.process.stopping import track

Row = dict[str, Any]
"""``{column: value}``; a sample that could not be read has none of its predictions."""


class Predictor:
    """The rows of a split, in the order of its samples, part after part. What is to be predicted need not be there.

    Args:
        learner: in eval mode, on the device to compute on.
        data: whose split is read, on one process.
        split: ``train``, ``val`` or ``test``; ``all``: every sample, in the order of the data.
        drop: names that all samples are to lack.

    Raises:
        InvalidValue: without these names there is nothing left to attend to or to predict; or all splits are not one.
    """

    def __init__(self, learner: Learner, data: DataModule, split: str, drop: Sequence[str] = ()) -> None:
        check_drop(learner, data.source, drop)
        self._learner, self._data, self._drop = learner, data, drop
        self.splits = data.splits(split)
        self._is_mixture = "" not in data.source.parts
        self._lacking = [] if self._is_mixture else lacking(learner, data.source.specs)
        known = [[*source.specs, *self._lacking] for part, source in data.source.parts.items() if part in self.splits]
        applying = {name for names in known for name in learner.applying(names)}
        self._objectives = [name for name in learner.objectives if name in applying]

    @property
    def columns(self) -> dict[str, Any]:
        """``{column: type}``: `given`, and what objectives predict, under the name of each where there are several."""
        own = {
            self._named(name, column): kind
            for name in self._objectives
            for column, kind in columns_of(self._learner.objective(name)).items()
        }
        return {**self.given, **own}

    @property
    def given(self) -> dict[str, Any]:
        """``{column: type}`` of what a row has that is not predicted: ``sample``, its index (in its ``part``, of a
        mixture); its ``split`` and its ``row`` in its table, where all of several splits are read; and ``path``, the
        file it was read from."""
        wholes = [samples for samples in self.splits.values() if isinstance(samples, WholeSplit)]
        part = {"part": str} if self._is_mixture else {}
        split = {"split": str, "row": int} if any(len(whole.splits) > 1 for whole in wholes) else {}
        return {"sample": int, **part, **split, "path": str}

    def whole_batches(self, num_rows: int) -> int:
        """How many of the first rows are of batches that are whole."""
        end, size = 0, self._data.eval_batch_size
        for samples in self.splits.values():
            own = min(num_rows - end, len(samples))
            if own < len(samples):
                return end + own // size * size
            end += own
        return end

    def batches(self, first: int = 0) -> Iterator[list[Row]]:
        """The rows from `first` on, which is one of `whole_batches`, batch by batch."""
        size = self._data.eval_batch_size
        for part, samples in self.splits.items():
            done = min(first, len(samples))
            first -= done
            loader = self._data.eval_loader(part, samples, first_batch=-(-done // size))
            for batches in track(loader, f"predicting{part and ' '}{part}, batch"):
                for batch in batches:
                    yield self._rows(part, samples, batch, done)
                    done += len(batch)

    @torch.no_grad()
    def _rows(self, part: str, samples: Split, batch: Batch, first: int) -> list[Row]:
        values, given, rows = self._predictions(batch), self.given, []
        assert batch.ids is not None
        for place, number in enumerate(batch.ids.tolist()):
            row = _place(part, samples, first + place)
            row = {column: row[column] for column in given}
            if number != SKIPPED:
                row |= {column: of_samples[place] for column, of_samples in values.items()}
            rows.append(row)
        return rows

    def _predictions(self, batch: Batch) -> dict[str, Sequence[Any]]:
        learner = self._learner
        batch = without_names(completed(batch, learner, self._lacking), self._drop)
        batch = batch.to(next(learner.parameters()).device, non_blocking=True)
        values: dict[str, Sequence[Any]] = {}
        with learner.model.sharing():
            for name, prepared in learner.prepare(batch).items():
                predicted = predictions_of(learner.objective(name), learner.model, batch, prepared)
                values |= {self._named(name, column): of_samples for column, of_samples in predicted.items()}
        return values

    def _named(self, objective: str, column: str) -> str:
        return column if len(self._objectives) == 1 else f"{objective}/{column}"


def _place(part: str, samples: Split, index: int) -> Row:
    """Where a sample stands."""
    split, row = samples.place(index) if isinstance(samples, WholeSplit) else ("", index)
    return {"sample": index, "part": part, "split": split, "row": row, "path": origin_of(samples, index) or None}


def lacking(learner: Learner, names: Container[str]) -> list[str]:
    """What objectives predict, and data of these names does not have."""
    predicted: list[str] = []
    for name in learner.objectives:
        objective = learner.objective(name)
        predicted += [*objective.labels, *filter(None, [getattr(objective, "writes", None)])]
    return [name for name in dict.fromkeys(predicted) if name not in names]


def completed(batch: Batch, learner: Learner, names: Sequence[str]) -> Batch:
    """The batch with more names, which every sample lacks."""
    if not names:
        return batch
    absent = collate([], {name: learner.specs[name] for name in names}, size=len(batch))
    made = replace(
        batch,
        fields={**batch.fields, **absent.fields},
        lengths={**batch.lengths, **absent.lengths},
        full={**batch.full, **absent.full},
    )
    return made.packed() if batch.is_packed else made
