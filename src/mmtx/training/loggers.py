"""Lightning's own loggers, and the packages that they need."""

from functools import partial
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from mmtx.errors import InvalidValue

NEEDED: dict[type, tuple[str, ...]] = {TensorBoardLogger: ("tensorboard", "tensorboardX"), MLFlowLogger: ("mlflow",)}
"""One of these packages."""


def check_logger(made: Any) -> None:
    """Raises InvalidValue where what a config made, a logger or what waits for more arguments, is no logger, or lacks
    its package."""
    kind = made.func if isinstance(made, partial) else type(made)
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        raise InvalidValue("_target_", getattr(kind, "__name__", kind), "is no logger of Lightning's")
    for stock, packages in NEEDED.items():
        if issubclass(kind, stock) and not any(find_spec(package) for package in packages):
            raise InvalidValue("_target_", kind.__name__, f"needs {packages[0]}: pip install 'mmtx[loggers]'")
