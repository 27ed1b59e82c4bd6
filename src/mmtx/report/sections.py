"""What a report adds where the axes of a sweep ask for it: laws of scaling, models by tasks, best learning rates."""

from collections.abc import Iterator
from functools import partial

from mmtx.report.beside import beside, beside_table
from mmtx.report.comparison import Comparison
from mmtx.report.crossing import COSTS, cost, cost_table, crossing, metric_table
from mmtx.report.scaling import constant_table, scalings, size_table
from mmtx.report.scaling_law import fit
from mmtx.report.section import Section
from mmtx.report.slice_curves import SliceCurves, slice_curves
from mmtx.report.tuning import has_rates, tuned, tuning_table

BY_ENDS = "< and >: at the lowest and highest learning rate that was tried, where a better one may lie beyond"
BY_ESTIMATORS = "columns after the model: what other estimators reach on the same samples"
BY_RATE = (
    "vertex: of the parabola through the best rate and its neighbours, in logarithms of rates; a best rate at an end "
    "of those tried may not be the best there is"
)


def sections_of(comparison: Comparison) -> Iterator[Section]:
    """Those that a comparison has, in the order of the page."""
    yield from scaling_sections(comparison)
    yield from crossing_section(comparison)
    yield from beside_sections(comparison)
    yield from tuning_section(comparison)


def sliced(comparison: Comparison) -> list[SliceCurves]:
    """Metrics by length, or whatever else numbers slices: of every setting; where models meet tasks, those of each task
    at the best learning rate of each model."""
    found = crossing(comparison)
    if found is None:
        return slice_curves({setting.label: setting for setting in comparison.settings})
    of_tasks = (
        (task, {row: found.cells[row, task].best for row in found.rows if (row, task) in found.cells})
        for task in found.columns
    )
    return [curves for task, settings in of_tasks for curves in slice_curves(settings, task)]


def scaling_sections(comparison: Comparison) -> Iterator[Section]:
    """A section for each law."""
    for found in scalings(comparison):
        from mmtx.report.scaling_plot import scaling_plot

        law = fit(found.sizes, found.tokens, found.losses)
        low, high = law.interval(lambda each: each.size_exponent)
        note = (
            f"N: parameters without embeddings and positions; D: tokens trained on; {len(found.losses)} runs, with 95% "
            f"intervals by a bootstrap of residuals; for the least loss, N grows with compute (N times D) to the power "
            f"{law.law.size_exponent:.2f} ({low:.2f} to {high:.2f})"
        )
        heading = f"{comparison.metric} = E + A / N^alpha + B / D^beta"
        heading += f" ({found.title})" if found.title else ""
        draw = partial(scaling_plot, found, law.law, comparison.metric)
        yield Section(heading, (constant_table(law), size_table(found, law, comparison.metric)), note, draw)


def crossing_section(comparison: Comparison) -> Iterator[Section]:
    """One section where there is a crossing."""
    found = crossing(comparison)
    if found is not None:
        from mmtx.report.crossing_plot import crossing_plot

        measures = [name for name in COSTS if any(cost(each, name) for each in found.cells.values())]
        tables = (metric_table(found, comparison.metric), *(cost_table(found, name) for name in measures))
        draw = partial(crossing_plot, found, comparison.metric, measures)
        yield Section(f"{comparison.metric} of each {found.down} on each {found.across}", tables, BY_ENDS, draw)


def beside_sections(comparison: Comparison) -> Iterator[Section]:
    """A section for each metric that other estimators have too, along the axis of a sweep."""
    for found in beside(comparison):
        from mmtx.report.beside_plot import beside_plot

        heading = f"{found.metric} by {found.axis}, beside other estimators"
        yield Section(heading, (beside_table(found),), BY_ESTIMATORS, partial(beside_plot, found))


def tuning_section(comparison: Comparison) -> Iterator[Section]:
    """One section where several rates were tried for each of several combinations; otherwise none."""
    if not has_rates(comparison):
        return
    found = tuned(comparison)
    if any(len(each.settings) > 2 for each in found):
        from mmtx.report.tuning_plot import tuning_plot

        table = tuning_table(found, comparison)
        yield Section("the best learning rate", (table,), BY_RATE, partial(tuning_plot, found, comparison))
