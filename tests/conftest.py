"""Puts this directory on the path, and that of `kills`, so that tests in folders share `builders` and `contracts`."""

import pickle
import sys
from pathlib import Path
from unittest import mock

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "run")]


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Hydra composes the packaged files once for each set of choices, not once for each test: it takes a fifth of a
    second."""
    import hydra

    from mmtx.config.folders import config_directory

    known, real = {}, hydra.compose

    def compose(config_name, overrides):
        own = Path("conf")
        if own.is_dir() and not own.samefile(config_directory()):
            return real(config_name, overrides=overrides)
        key = (config_name, *overrides)
        if key not in known:
            known[key] = pickle.dumps(real(config_name, overrides=overrides))
        return pickle.loads(known[key])

    with mock.patch("hydra.compose", compose):
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of each call, which take most of the time where calls are many and small."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
