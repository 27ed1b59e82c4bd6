"""A module of a package under `outside`, imported under a name of its own: the packages are all called ``my_lab``."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def outside_module(path: str) -> ModuleType:
    spec = spec_from_file_location(f"outside_{Path(path).stem}", Path(__file__).parent / "outside" / path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where compilers look for it
    spec.loader.exec_module(module)
    return module
