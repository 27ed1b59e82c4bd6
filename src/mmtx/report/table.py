"""Tables of a comparison, as text and as CSV."""

import csv
import math
import shlex
import statistics
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from mmtx.config.overrides import OF_A_SWEEP
from mmtx.report.attribution import Attribution
from mmtx.report.comparison import Comparison, Setting, rounded
from mmtx.report.differences import differences
from mmtx.report.slice_curves import SliceCurves

Rows = list[list[str]]


def ranking(comparison: Comparison) -> tuple[list[str], Rows]:
    """Head and rows: the best setting first, metrics as mean ± sd over its seeds."""
    head = ["", *comparison.axes, comparison.metric, "n", *comparison.columns]
    rows = [
        [
            str(rank),
            *(rounded(value) for value in setting.values.values()),
            spread(setting.scores),
            str(len(setting.scores)),
            *(spread(_scores(setting, column)) for column in comparison.columns),
        ]
        for rank, setting in enumerate(comparison.settings, 1)
    ]
    return head, rows


def difference_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Head and rows: how far each setting is from the best, and whether seeds alone may make that."""
    rows = []
    for each in differences(comparison):
        setting = comparison.settings[each.rank - 1]
        interval, over = "", ""
        if each.half_width is not None:
            interval = f"{each.mean - each.half_width:+.3g} to {each.mean + each.half_width:+.3g}"
            over = f"the same {each.num_pairs} seeds" if each.num_pairs else "other seeds"
        rows.append([str(each.rank), setting.label, f"{each.mean:+.3g}", interval, over, each.verdict])
    return ["", "", "from the best", "95% interval", "over", ""], rows


def slice_table(curves: SliceCurves) -> tuple[list[str], Rows]:
    """Head and rows: of each setting and each other estimator, the metric of each slice."""
    rows = []
    for label, points in (*curves.curves.items(), *curves.lines.items()):
        of_number = dict(points)
        rows.append([label, *(f"{of_number[n]:.4g}" if n in of_number else "" for n in curves.numbers)])
    return ["", *(f"{curves.name}={number}" for number in curves.numbers)], rows


def leftovers(comparison: Comparison) -> tuple[list[str], Rows]:
    """Head and rows: every run that is not ranked, with the reason."""
    head = ["run", "state", "step", comparison.metric, "reason"]
    rows = []
    for record, values in comparison.unfinished:
        name = " ".join(f"{key}={rounded(value)}" for key, value in values.items()) or record.path.name
        value = record.metrics.get(comparison.metric)
        reason = record.reason or ("" if record.state != "finished" else f"has no {comparison.metric}")
        shown = "" if value is None else f"{value:.4g}"
        rows.append([name, record.state, str(record.num_steps), shown, " ".join(reason.split())])
    return head, rows


def subset_table(attribution: Attribution, metric: str) -> tuple[list[str], Rows]:
    """Head and rows: an x under each modality of the subset, and the metric."""
    rows = [
        [
            *("x" if name in subset else "" for name in attribution.names),
            spread(setting.scores),
            str(len(setting.scores)),
        ]
        for subset, setting in attribution.subsets.items()
    ]
    return [*attribution.names, metric, "n"], rows


def gain_table(attribution: Attribution) -> tuple[list[str], Rows]:
    """Head and rows: the gain of each modality."""
    gains = attribution.gains or {}
    return ["modality", "gain"], [
        [name, f"{mean:+.4g}" if sd is None else plus_minus(mean, sd, "+")] for name, (mean, sd) in gains.items()
    ]


def as_text(head: Sequence[str], rows: Rows) -> str:
    """Columns of fixed width; columns of numbers are right-aligned."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [head, *rows]
    ]
    return "\n".join(f"  {line}" for line in lines)


def as_csv(comparison: Comparison) -> str:
    """A line for each run, whatever its state, with all of its final metrics."""
    metrics = sorted({name for record in comparison.records for name in record.metrics})
    keys = list(dict.fromkeys(key for values in comparison.values for key in values))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "state", "reason", "step", *keys, *metrics])
    for record, values in zip(comparison.records, comparison.values, strict=True):
        own = [values.get(key, "") for key in keys] + [record.metrics.get(name, "") for name in metrics]
        writer.writerow([record.path, record.state, record.reason or "", record.num_steps, *own])
    return text.getvalue()


def command(comparison: Comparison) -> str | None:
    """The command that repeats the best run of the best setting, its seed included."""
    run = comparison.best_run
    if run is None:
        return None
    if run.sweep is None:
        return shlex.join(["mmtx", "train", "--config", str(_relative(run.path / "config.yaml"))])
    swept = {override.partition("=")[0].lstrip("+") for override in run.overrides}
    fixed = [word for word in run.sweep.get("command", []) if word.partition("=")[0].lstrip("+") not in swept]
    fixed = [word for word in fixed if not OF_A_SWEEP.match(word)]
    file = run.sweep.get("config_file")
    return shlex.join(["mmtx", "train", *(["--config", str(file)] if file else []), *fixed, *run.overrides])


def spread(scores: Sequence[float]) -> str:
    """``0.981 ± 0.0021``; for a single run, the value."""
    if not scores:
        return ""
    if len(scores) == 1:
        return f"{scores[0]:.4g}"
    return plus_minus(statistics.mean(scores), statistics.stdev(scores))


def plus_minus(mean: float, sd: float, sign: str = "") -> str:
    """The deviation with two significant digits, and the mean with as many decimals."""
    if sd == 0 or not math.isfinite(sd):
        return f"{mean:{sign}.4g} ± {sd:.2g}"
    places = max(0, 1 - math.floor(math.log10(sd)))
    return f"{mean:{sign}.{places}f} ± {sd:.{places}f}"


def _scores(setting: Setting, metric: str) -> list[float]:
    return [run.metrics[metric] for run in setting.runs if metric in run.metrics]


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _is_number(cell: str) -> bool:
    try:
        float(cell.partition(" ")[0] or 0)
    except ValueError:
        return False
    return True
