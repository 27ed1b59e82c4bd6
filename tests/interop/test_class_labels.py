"""Heads of imported classifiers: classes by number and name."""

from __future__ import annotations

from typing import Any

import pytest

from mmtx.errors import UserError
from mmtx.interop.class_labels import check_classes, label_spec

HEAD = {"architectures": ["BertForSequenceClassification"]}


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({"id2label": {"2": "c", "0": "a", "1": "b"}, "label2id": {"b": 1, "c": 2, "a": 0}}, ("a", "b", "c")),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {f"LABEL_{i}": i for i in range(3)}},
            ("a", "b", "c"),
        ),
        ({"id2label": {"0": "crane", "1": "emu", "2": "crane"}, "num_labels": 3}, ("crane (0)", "emu", "crane (2)")),
        ({"_num_labels": 3}, None),
    ],
)
def test_names_by_number(given: dict[str, Any], labels: tuple[str, ...] | None) -> None:
    check_classes({**HEAD, **given}, 3)
    assert label_spec(given, 3).class_names == labels


@pytest.mark.parametrize(
    ("given", "rows", "message"),
    [
        ({"id2label": {"0": "a", "2": "c"}}, 3, "id2label lacks class 1"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 2, "id2label names class 2"),
        ({"id2label": {"0": "a", "1": "b", "01": "c"}}, 2, "id2label names class"),
        (
            {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}},
            2,
            "label2id names class 1 'a'; id2label has 'b'",
        ),
        ({"label2id": {"a": 0, "b": 1}}, 2, "id2label is missing"),
        ({"num_labels": 3}, 2, "num_labels=3, but the head has 2 rows"),
        ({"problem_type": "multi_label_classification"}, 2, "problem_type=multi_label_classification"),
        ({}, 1, "a regression"),
    ],
)
def test_heads_that_contradict_themselves(given: dict[str, Any], rows: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_classes({**HEAD, **given}, rows)
