"""Reads the drawn examples of docstrings, so that tests can hold them against what is computed."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import Tensor

Drawing = dict[str, list[str]]


def drawing(drawn: Any, *names: str) -> list[Drawing]:
    """The drawings of a docstring, each with a row of cells for every name."""
    found: list[Drawing] = []
    for line in (inspect.getdoc(drawn) or "").splitlines():
        name, *cells = line.split() or [""]
        if not re.match(r" {4}\w", line) or name not in names:
            continue
        if not found or name in found[-1]:
            found.append({})
        found[-1][name] = cells
    assert found and all(set(each) == set(names) for each in found), "a drawing is gone, or its rows have other names"
    return found


def row(values: Tensor, real: Tensor | None = None) -> list[str]:
    """Values as they are drawn: a dot where there is no token."""
    return [str(int(v)) if real is None or real[i] else "." for i, v in enumerate(values)]
