"""Letters in ciphers: each task is one permutation of the alphabet, everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from contracts import check_source

from mmtx.data.text.ciphers import Ciphers
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue


def made(**changes: Any) -> Ciphers:
    keys = {"num_tasks": 3, "length": 6, "num_train": 200, "num_val": 20, "num_test": 20, "split_seed": 0}
    return Ciphers(vocabulary=Characters(), **{**keys, **changes})


def test_contract() -> None:
    check_source(made())


def test_a_task_is_a_permutation() -> None:
    source = made()
    ciphers: list[dict[str, str]] = [{}, {}, {}]
    for split in (source.train(), source.val(), source.test()):
        for index in range(len(split)):
            sample = split[index]
            read, written = (source.vocabulary.decode(sample[name]["ids"].tolist()) for name in ("source", "target"))
            task = int(sample["task"]["class"])
            assert read[0] == str(task) and len(written) == 6
            for letter, secret in zip(read[1:], written, strict=True):
                assert ciphers[task].setdefault(letter, secret) == secret
    assert all(len(set(cipher.values())) == len(cipher) == 26 for cipher in ciphers)
    assert ciphers[0] != ciphers[1] != ciphers[2]


@pytest.mark.parametrize(("key", "value"), [("num_tasks", 11), ("num_tasks", 0), ("length", 0), ("num_train", 0)])
def test_what_is_refused(key: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=f"{key}={value}"):
        made(**{key: value})
