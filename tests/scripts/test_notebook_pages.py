"""Notebooks as pages of the site."""

from notebook_pages import page_of


def test_a_page_has_the_cells_in_order():
    cells = [("markdown", ["# Title\n", "Prose."]), ("code", ["a = 1\n", "a"]), ("code", ["!mmtx list"])]
    notebook = {"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}
    assert page_of(notebook, "own.ipynb") == (
        "# Title\nProse.\n\n[Download the notebook](own.ipynb)\n\n"
        "```python\na = 1\na\n```\n\n```text\n!mmtx list\n```\n"
    )
