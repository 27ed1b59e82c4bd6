"""The law of loss by size and tokens in a sweep over both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtx.report.comparison import Comparison, number
from mmtx.report.scaling_law import NUM_CONSTANTS, Fit, Values, constants
from mmtx.report.table import Rows
from mmtx.report.tuning import Tuned, tuned
from mmtx.run.run_record import RunRecord

LEAST_VALUES = 3
"""Sizes, and numbers of tokens, that a law needs."""

TABLES = ("embedding", "position")
"""Roles of parameters that are looked up, and so no part of the size."""


@dataclass(frozen=True)
class Scaling:
    """Runs of several sizes and lengths.

    Attributes:
        title: the values of the axes that are no numbers.
        sizes: parameters, without embeddings and positions.
        tokens: that each was trained on.
        losses: at the best learning rate, means over seeds.
    """

    title: str
    sizes: Values
    tokens: Values
    losses: Values


def size_of(run: RunRecord) -> int:
    """The parameters of a run but those that are looked up; 0 where the run has not recorded them."""
    return sum(count for role, count in run.num_parameters.items() if role not in TABLES)


def scalings(comparison: Comparison) -> list[Scaling]:
    """What of a comparison can have a law: by a loss, of enough sizes and tokens, which are recorded. A law for each
    combination of axes that are no numbers."""
    if comparison.metric.rpartition("/")[2] != "loss" or comparison.losses_differ:
        return []
    settings = tuned(comparison)
    numeric = {
        axis for axis in comparison.axes if all(number(each.others.get(axis, "0")) is not None for each in settings)
    }
    grouped: dict[str, list[Tuned]] = {}
    for each in settings:
        title = " ".join(f"{axis}={value}" for axis, value in each.others.items() if axis not in numeric)
        grouped.setdefault(title, []).append(each)
    found = [_scaling(title, group) for title, group in grouped.items()]
    return [each for each in found if _is_enough(each)]


def _scaling(title: str, group: Sequence[Tuned]) -> Scaling:
    runs = [each.best.runs[0] for each in group]
    columns = [[size_of(run) for run in runs], [run.num_tokens for run in runs], [each.best.mean for each in group]]
    return Scaling(title, *(np.array(column, dtype=float) for column in columns))


def _is_enough(found: Scaling) -> bool:
    varied = min(len(set(found.sizes)), len(set(found.tokens))) >= LEAST_VALUES
    positive = min(found.sizes.min(), found.tokens.min(), found.losses.min()) > 0
    return varied and positive and len(found.losses) > NUM_CONSTANTS + 1


def constant_table(law: Fit) -> tuple[list[str], Rows]:
    """Head and rows: each constant with its interval."""
    rows = []
    for name, value in constants(law.law).items():
        low, high = law.interval(lambda each, name=name: constants(each)[name])  # type: ignore[misc]
        rows.append([name, f"{value:.4g}", f"{low:.4g} to {high:.4g}"])
    return ["", "value", "95% interval"], rows


def size_table(found: Scaling, law: Fit, metric: str) -> tuple[list[str], Rows]:
    """Head and rows: every size and number of tokens, the loss there and that of the law."""
    expected = law.law.loss(found.sizes, found.tokens)
    columns = zip(found.sizes, found.tokens, found.losses, expected, strict=True)
    rows = [[f"{n:,.0f}", f"{d:,.0f}", f"{loss:.4g}", f"{fitted:.4g}"] for n, d, loss, fitted in sorted(columns)]
    return ["N", "D", metric, "fitted"], rows
