"""``mmtx report``: from directories to a table, a page and a CSV file."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmtx.errors import UserError
from mmtx.report import table
from mmtx.report.attribution import Attribution, attributions
from mmtx.report.comparison import Comparison, compare
from mmtx.report.page import code, heading, page, paragraph, picture
from mmtx.report.page import table as html_table
from mmtx.report.section import Section
from mmtx.report.sections import sections_of, sliced
from mmtx.run.run_record import RunRecord, find_runs

DIFFERENCES = "differences from the best; of many settings, one in twenty is more than seeds make by chance"


def write_report(
    paths: Sequence[str],
    *,
    metric: str | None = None,
    mode: str | None = None,
    empty: float | None = None,
    out: str | None = None,
) -> str:
    """Writes ``report.html`` and ``report.csv``. Returns what to print.

    Args:
        paths: directories of runs and sweeps
        metric: what to sort by; null: what best.ckpt was chosen by
        mode: whether more of it is better (max) or less (min), where the metric does not declare it
        empty: of sweeps over modality=: the metric's value for a model that is given nothing, such as chance
        out: directory to write into

    Raises:
        UserError: there is no run, no such metric, or no way to write.
    """
    records = find_runs(paths)
    comparison = compare(records, metric, mode)
    found = attributions(comparison, empty)
    sections = [*sections_of(comparison)]
    folder = Path(out).expanduser() if out else _common(paths)
    title = f"{_common(paths).name}: {_states(records)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(_page(title, comparison, found, sections), encoding="utf-8")
        (folder / "report.csv").write_text(table.as_csv(comparison), encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}; choose another out=DIR") from None
    return "\n".join(
        [title, *_text(comparison, found, sections), f"report: {folder / 'report.html'}  {folder / 'report.csv'}"]
    )


def _text(comparison: Comparison, found: Sequence[Attribution], sections: Sequence[Section]) -> list[str]:
    lines = []
    if comparison.settings:
        lines += ["", _explained(comparison), table.as_text(*table.ranking(comparison))]
    if len(comparison.settings) > 1:
        lines += ["", DIFFERENCES, table.as_text(*table.difference_table(comparison))]
    for curves in sliced(comparison):
        lines += ["", curves.heading, table.as_text(*table.slice_table(curves))]
    for attribution in found:
        lines += ["", _named("sets of modalities", attribution)]
        lines += [table.as_text(*table.subset_table(attribution, comparison.metric))]
        lines += [_gains_explained(attribution), *([table.as_text(*table.gain_table(attribution))] * _has(attribution))]
    lines += [line for section in sections for line in section.lines()]
    if comparison.unfinished:
        lines += ["", "not ranked:", table.as_text(*table.leftovers(comparison))]
    best, typed = comparison.best_run, table.command(comparison)
    if best and typed:
        lines += ["", f"best: {typed}", f"      {best.path}"]
    return [*lines, ""]


def _page(title: str, comparison: Comparison, found: Sequence[Attribution], sections: Sequence[Section]) -> str:
    from mmtx.report.plots import axis_plot, curve_plot
    from mmtx.report.slice_plot import slice_plot
    from mmtx.report.subset_plot import subset_plot

    parts = []
    if comparison.settings:
        parts += [paragraph(_explained(comparison)), html_table(*table.ranking(comparison), mark_first=True)]
    if len(comparison.settings) > 1:
        parts += [paragraph(DIFFERENCES), html_table(*table.difference_table(comparison), mark_first=False)]
    typed = table.command(comparison)
    if typed and comparison.best_run:
        parts += [heading("Best"), code(typed), paragraph(f"as in {comparison.best_run.path}")]
    for attribution in found:
        parts += [heading(_named("What each modality brought", attribution))]
        parts += [picture(subset_plot(attribution, comparison.metric), "metric of each set of modalities")]
        parts += [html_table(*table.gain_table(attribution), mark_first=False)] * _has(attribution)
        parts += [paragraph(_gains_explained(attribution))]
    by_number = sliced(comparison)
    if by_number:
        names = dict.fromkeys(each.name for each in by_number)
        parts += [heading(f"By {', '.join(names)}"), picture(slice_plot(by_number), "metrics against numbered slices")]
        parts += [html_table(*table.slice_table(each), mark_first=False) for each in by_number]
    parts += [part for section in sections for part in section.html()]
    is_drawn = bool(sections) or (bool(found) and len(comparison.axes) == 1)
    drawn = None if is_drawn else axis_plot(comparison)
    if drawn:
        parts += [heading(" and ".join(comparison.axes[:2]) if len(comparison.axes) < 3 else "What was varied")]
        parts += [picture(drawn, f"{comparison.metric} along {', '.join(comparison.axes)}")]
    curves = curve_plot(comparison)
    if curves:
        parts += [heading("Curves"), picture(curves, "learning curves")]
        parts += [paragraph("Dotted: runs that are not ranked; a cross where one ended, an arrow where one goes on.")]
    if comparison.unfinished:
        parts += [heading("Not ranked"), html_table(*table.leftovers(comparison), mark_first=False)]
    sample = _sample(comparison.best_run)
    if sample:
        parts += [heading("Samples of the best run"), picture(sample.read_bytes(), "predictions of the best run")]
    return page(title, parts)


def _explained(comparison: Comparison) -> str:
    better = "higher" if comparison.maximise else "lower"
    many = any(len(setting.runs) > 1 for setting in comparison.settings)
    spread = ", mean ± standard deviation over n seeds" if many else ""
    caveat = ""
    if comparison.losses_differ:
        shared = ", ".join(comparison.shared_columns) or "none here"
        caveat = f"; the runs differ in their objectives, whose losses it adds; metrics of all: {shared}"
    return f"by {comparison.metric} at the end ({better} is better){spread}{caveat}"


def _gains_explained(attribution: Attribution) -> str:
    if attribution.missing:
        sets = ", ".join(f"[{','.join(n for n in attribution.names if n in s)}]" for s in attribution.missing)
        return f"  gains of each modality need every set; missing: {sets}"
    if attribution.empty is None:
        return (
            "  gain: what a modality adds to a set that already has something, averaged over all orders of adding "
            "(Shapley's average without its first step; empty=VALUE gives that step a beginning)"
        )
    return f"  gain: Shapley value, from {attribution.empty:g} for nothing; together they are what the whole set gains"


def _has(attribution: Attribution) -> bool:
    return attribution.gains is not None


def _named(text: str, attribution: Attribution) -> str:
    others = " ".join(f"{axis}={value}" for axis, value in attribution.setting.items())
    return f"{text} ({others})" if others else text


def _states(records: Sequence[RunRecord]) -> str:
    counts = Counter(record.state for record in records)
    word = "run" if len(records) == 1 else "runs"
    return f"{len(records)} {word} ({', '.join(f'{count} {state}' for state, count in counts.items())})"


def _common(paths: Sequence[str]) -> Path:
    """The one directory, or the one above all of them."""
    return Path(os.path.commonpath([Path(path).expanduser().absolute() for path in paths]))


def _sample(run: RunRecord | None) -> Path | None:
    """The last picture that a run has drawn of its predictions."""
    pictures = sorted((run.path / "samples").glob("*_step*.png")) if run else []
    return max(pictures, key=lambda file: file.stem.rpartition("_step")[2]) if pictures else None
