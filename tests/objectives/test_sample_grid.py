"""Titles of samples stay above their own pictures."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmtx.objectives.base import Example
from mmtx.objectives.sample_grid import CHARACTERS, _cut, _title

LONG = "; ".join(f"{number / 7:.2f}" for number in range(-20, 20))


@pytest.mark.parametrize("text", ["7", LONG, "QUEEN MARGARET: " * 8])
def test_a_title_is_no_wider_than_its_picture(text: str) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots(1, 4)
    for own in axes:
        _title(own, Example(text, text), 2 * CHARACTERS)
    FigureCanvasAgg(figure).draw()
    boxes = [own.title.get_window_extent() for own in axes]
    assert all(left.x1 <= right.x0 for left, right in zip(boxes, boxes[1:], strict=False))


def test_a_long_title_is_cut_visibly() -> None:
    assert _cut(LONG, 24).endswith("…") and _cut(LONG, 24).count("\n") == 2
    assert _cut("digit 7", 24) == "digit 7"
