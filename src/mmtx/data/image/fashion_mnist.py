"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28 pixels (Xiao et al. 2017, arXiv 1708.07747)."""

from mmtx.data.image.idx_images import IdxImages


class FashionMNIST(IdxImages):
    """Names: ``image`` (1 x 28 x 28), ``label`` (what it is). 60,000 pictures to train on and 10,000 for the test."""

    license = "mit"
    hub_id = "zalando-datasets/fashion_mnist"
    dataset = "FashionMNIST"
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    md5s = (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    )
    class_names = (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
