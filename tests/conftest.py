"""Puts this directory on the path, and that of `kills`, so that tests in folders share `builders` and `contracts`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "run")]
