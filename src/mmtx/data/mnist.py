"""MNIST: 70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmtx.data.digits import NAMES
from mmtx.data.idx_images import IdxImages

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
MD5S = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)


class MNIST(IdxImages):
    """Names: ``image`` (1 x 28 x 28), ``label`` (the digit). 60,000 pictures to train on and 10,000 for the test.

    Args:
        path: folder that holds ``MNIST/raw``; None: downloads to the cache folder.
        augment: applied to training pictures, uint8 ``(1, 28, 28)``.
        num_val: pictures of the training part that are held out to watch training.
        split_seed: which ones.
    """

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        super().__init__(
            dataset="MNIST",
            mirrors=MIRRORS,
            md5s=MD5S,
            path=path,
            labels=NAMES,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )
