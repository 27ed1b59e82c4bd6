"""Options of ``mmtx generate`` that cannot be, or that would be passed over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mmtx.errors import InvalidValue
from mmtx.write.command import DEFAULTS, write


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temperature": None}, "temperature=None must be a number"),
        ({"temperature": 10**400}, "must be a number, and finite"),
        ({"overlap_seconds": None}, "overlap_seconds=None must be a number"),
        ({"seed": None}, "seed=None must be an integer"),
        ({"episodes": None}, "episodes=None must be an integer"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be at most"),
        ({"max_new_tokens": 10**20}, "must be at most 2147483647"),
        ({"plugins": None}, "plugins=None is no list"),
        ({"resample": True, "prompt": "be"}, "resample=True is for audio=FILE"),
        ({"audio": "a.wav", "prompt": "be"}, "prompt=be says nothing beside audio=FILE"),
        ({"audio": "a.wav", "index": 0}, "index=0 says nothing beside audio=FILE"),
    ],
)
def test_what_cannot_be_or_would_be_passed_over_is_refused(
    options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmtx.write.command.load", lambda place, plugins: SimpleNamespace(objectives={}))
    with pytest.raises(InvalidValue, match=told):
        write("run", {**DEFAULTS, **options})
