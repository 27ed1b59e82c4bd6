"""Notebooks as pages of the site."""

from notebook_pages import page_of


def test_a_page_has_the_cells_in_order_with_what_they_gave():
    printed = {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]}
    value = {"output_type": "execute_result", "data": {"text/plain": ["7"]}}
    picture = {"output_type": "execute_result", "data": {"image/png": "aGk=\n", "text/plain": ["a picture"]}}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Prose."]},
        {"cell_type": "code", "source": ["a = 7\n", "a"], "outputs": [printed, value]},
        {"cell_type": "code", "source": ["!mmtx list"], "outputs": []},
        {"cell_type": "code", "source": ["Image(a)"], "outputs": [picture]},
    ]
    assert page_of({"cells": cells}, "own.ipynb") == (
        "# Title\nProse.\n\n[Download the notebook](own.ipynb)\n\n"
        "```python\na = 7\na\n```\n\n```text\none\ntwo\n```\n\n```text\n7\n```\n\n"
        "```text\n!mmtx list\n```\n\n"
        "```python\nImage(a)\n```\n\n![What the cell above shows](data:image/png;base64,aGk=)\n"
    )
