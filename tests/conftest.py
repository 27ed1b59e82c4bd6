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


@pytest.fixture(scope="session", autouse=True)
def read_once(composed_once):
    """Each packaged file of yaml is read once: what is composed of it anew takes a copy."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    from mmtx.config.folders import config_directory

    known, real, packaged = {}, FileConfigSource.load_config, config_directory().resolve()

    def load_config(self, config_path):
        if Path(self.path).resolve() != packaged:
            return real(self, config_path)
        key = (self.provider, self.path, config_path)
        if key not in known:
            known[key] = pickle.dumps(real(self, config_path))
        return pickle.loads(known[key])

    with mock.patch.object(FileConfigSource, "load_config", load_config):
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of each call, which take most of the time where calls are many and small."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
