"""For a machine that has torch, lightning and hydra-core alone."""

import importlib.util
import os
import sys
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"


def stand_in() -> None:
    """Puts what stands in for a missing package on the path, of this process and of its children."""
    if importlib.util.find_spec("jaxtyping") is None:
        sys.path.append(str(STAND_INS))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(STAND_INS)]))
