"""The sessions of nox."""

import pytest

nox = pytest.importorskip("nox")
import noxfile  # noqa: E402


def test_the_oldest_versions_that_are_allowed():
    given = ["torch>=2.11", "hydra-core>=1.3.8,<1.5", "numpy>=1.26"]
    assert noxfile.at_lowest(given) == ["torch==2.11", "hydra-core==1.3.8", "numpy==1.26"]


def test_there_is_a_session_for_each_python():
    assert noxfile.PYTHONS == ["3.11", "3.12", "3.13"]
