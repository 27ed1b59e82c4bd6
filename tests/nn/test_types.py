"""Types and shapes of arguments are checked as these tests run, unless a test does without."""

import pytest
import torch
from jaxtyping import TypeCheckError

from mmtx.nn.s4d import convolved

UNEQUAL = torch.zeros(2, 3, 8), torch.zeros(3, 16)


def test_unequal_lengths_are_refused():
    with pytest.raises(TypeCheckError, match="kernel"):
        convolved(*UNEQUAL)


def test_without_the_check_they_are_not(unchecked):
    assert convolved(*UNEQUAL).shape[:2] == (2, 3)
