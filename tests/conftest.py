"""Puts this directory on the path, and that of `kills`, so that tests in folders share `builders` and `contracts`."""

import gc
import pickle
import sys
from pathlib import Path
from unittest import mock

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "run")]


def pytest_collection_finish():
    """Modules and tests stay to the end: collections of garbage leave a million objects out, and are fewer."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


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
    import packaged_files

    with packaged_files.read_once():
        yield


CHECKED = {
    *("attention", "decoding", "modalities", "nn", "objectives"),
    *("test_batch.py", "test_encoded.py", "test_encoder.py", "test_every_yaml.py", "test_learner.py", "test_model.py"),
    *("test_token_order.py", "test_tokens.py"),
}
"""Tests in which the types and shapes of every call are checked: those of the rooms that compute, and of every recipe.
To check the same calls again where runs, files and data are compared would take half of the time."""


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of each call, which take most of the time where calls are many and small."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def unchecked_elsewhere(request):
    import typechecks

    typechecks.seen.clear()
    if request.path.relative_to(Path(__file__).parent).parts[0] not in CHECKED:
        request.getfixturevalue("unchecked")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of this test alone, with nothing downloaded from it yet, and no token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from fake_hub import serving

    from mmtx.hub.snapshot import forget_commits

    home = tmp_path / "hf_home"
    with serving() as hub:
        for key, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(key, value)  # of processes that the test starts; this one has read them
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(home / "assets"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        forget_commits()
        yield hub
