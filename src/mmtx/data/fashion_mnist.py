"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28 pixels (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmtx.data.idx_images import IdxImages

MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
MD5S = (
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
)
LABELS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


class FashionMNIST(IdxImages):
    """Names: ``image`` (1 x 28 x 28), ``label`` (what it is). 60,000 pictures to train on and 10,000 for the test.

    Args:
        path: folder that holds ``FashionMNIST/raw``; None: downloads to the cache folder.
        augment: applied to training pictures, uint8 ``(1, 28, 28)``.
        num_val: pictures of the training part that are held out to watch training.
        split_seed: which ones.
    """

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        super().__init__(
            dataset="FashionMNIST",
            mirrors=MIRRORS,
            md5s=MD5S,
            path=path,
            labels=LABELS,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )
