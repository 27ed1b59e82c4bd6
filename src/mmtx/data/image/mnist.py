"""MNIST: 70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998)."""

from mmtx.data.image.digits import NAMES
from mmtx.data.image.idx_images import IdxImages


class MNIST(IdxImages):
    """Names: ``image`` (1 x 28 x 28), ``label`` (the digit). 60,000 pictures to train on and 10,000 for the test."""

    hub_id = "ylecun/mnist"
    dataset = "MNIST"
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    md5s = (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    )
    class_names = NAMES
