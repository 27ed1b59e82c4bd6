"""The packaged files of yaml, read once in a process."""

import contextlib
import pickle
from unittest import mock


@contextlib.contextmanager
def read_once():
    """Each file is parsed when it is first composed of; later it is a copy, which takes half of the time."""
    from hydra._internal.config_repository import ConfigRepository

    known, real = {}, ConfigRepository.load_config

    def load_config(self, config_path):
        if any(source.provider == "user" for source in self.get_sources()):
            return real(self, config_path)
        if config_path not in known:
            known[config_path] = pickle.dumps(real(self, config_path))
        return pickle.loads(known[config_path])

    with mock.patch.object(ConfigRepository, "load_config", load_config):
        yield
