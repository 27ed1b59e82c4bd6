"""Plot of the gain of each modality."""

from typing import Any

from matplotlib.figure import Figure

from mmtx.report.attribution import Attribution
from mmtx.report.plots import ACCENT, png


def subset_plot(attribution: Attribution, metric: str) -> bytes:
    """The metric of each subset above dots for its members; beside it, the gain of each modality."""
    num_subsets, num_names = len(attribution.subsets), len(attribution.names)
    wide = max(3.2, 0.55 * num_subsets + 1.4)
    gains_wide = 3.4 if attribution.gains else 0.0
    figure = Figure(figsize=(wide + gains_wide, 3.4 + 0.3 * num_names), layout="constrained")
    columns = [wide, gains_wide] if attribution.gains else [wide]
    grid = figure.add_gridspec(2, len(columns), width_ratios=columns, height_ratios=[3.0, 0.34 * num_names])
    upper = figure.add_subplot(grid[0, 0])
    _draw_scores(upper, attribution, metric)
    _draw_members(figure.add_subplot(grid[1, 0], sharex=upper), attribution)
    if attribution.gains:
        _draw_gains(figure.add_subplot(grid[0, 1]), attribution, metric)
    return png(figure)


def _draw_scores(axes: Any, attribution: Attribution, metric: str) -> None:
    for place, setting in enumerate(attribution.subsets.values()):
        axes.plot([place] * len(setting.scores), setting.scores, ".", color=ACCENT, alpha=0.35, markersize=6)
        axes.errorbar(place, setting.mean, yerr=setting.sd or 0.0, marker="o", color=ACCENT, capsize=3)
    if attribution.empty is not None:
        axes.axhline(attribution.empty, color="0.5", lw=1, ls="--")
        axes.annotate(
            "nothing",
            (0.0, attribution.empty),
            (2, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=8,
            color="0.4",
        )
    axes.set(ylabel=metric, xlim=(-0.6, len(attribution.subsets) - 0.4))
    axes.set_title(" ".join(f"{axis}={value}" for axis, value in attribution.setting.items()), fontsize=9)
    axes.tick_params(bottom=False, labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")


def _draw_members(axes: Any, attribution: Attribution) -> None:
    rows = {name: row for row, name in enumerate(attribution.names)}
    for place, subset in enumerate(attribution.subsets):
        inside = [rows[name] for name in subset]
        axes.plot([place] * len(rows), list(rows.values()), "o", color="0.88", markersize=8)
        axes.plot([place, place], [min(inside), max(inside)], color="0.25", lw=2)
        axes.plot([place] * len(inside), inside, "o", color="0.25", markersize=8)
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_gains(axes: Any, attribution: Attribution, metric: str) -> None:
    assert attribution.gains is not None
    names = sorted(attribution.names, key=lambda name: -attribution.gains[name][0])  # type: ignore[index]
    means = [attribution.gains[name][0] for name in names]
    bars = [attribution.gains[name][1] or 0.0 for name in names]
    colours = ["tab:green" if mean > 0 else "tab:red" for mean in means]
    axes.bar(range(len(names)), means, yerr=bars, color=colours, alpha=0.85, capsize=3, width=0.6)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 3 else 0)
    axes.set_title("gain of each modality", fontsize=9)
    axes.set_ylabel(f"gain in {metric}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
