"""Small stand-ins for what is published, and overrides that make any dataset read them."""

import gzip
import hashlib
import io
import pickle
import tarfile

import numpy
from PIL import Image

from mmtx.data import cifar10, fashion_mnist, mnist
from mmtx.data.idx_images import FILES


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(values):
    head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + values.astype(numpy.uint8).tobytes()


def small_idx_files():
    generator = numpy.random.default_rng(0)
    contents = []
    for count in (60, 20):
        contents += [idx(generator.integers(0, 256, (count, 28, 28))), idx(numpy.arange(count) % 10)]
    return dict(zip(FILES, contents, strict=True))


def small_cifar_files():
    generator = numpy.random.default_rng(0)
    return {
        name: pickle.dumps(
            {"data": generator.integers(0, 256, (20, 3072)).astype(numpy.uint8), "labels": [i % 10 for i in range(20)]}
        )
        for name in (*cifar10.TRAIN_MD5S, *cifar10.TEST_MD5S)
    }


def tar_of(contents):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def publish_small(monkeypatch):
    """Stands in for what is published: small files, and their checksums. ``{dataset: {name in the layout: bytes}}``."""
    idx_files, cifar_files = small_idx_files(), small_cifar_files()
    checksums = tuple(md5(content) for content in idx_files.values())
    monkeypatch.setattr(mnist, "MD5S", checksums)
    monkeypatch.setattr(fashion_mnist, "MD5S", checksums)
    monkeypatch.setattr(cifar10, "TRAIN_MD5S", {name: md5(cifar_files[name]) for name in cifar10.TRAIN_MD5S})
    monkeypatch.setattr(cifar10, "TEST_MD5S", {name: md5(cifar_files[name]) for name in cifar10.TEST_MD5S})
    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_files.items()}
    return {
        "MNIST": {f"MNIST/raw/{name}": content for name, content in packed.items()},
        "FashionMNIST": {f"FashionMNIST/raw/{name}": content for name, content in packed.items()},
        "CIFAR10": {"cifar-10-python.tar.gz": tar_of(cifar_files)},
    }


def write(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def shrink_data(name, folder, monkeypatch):
    """Overrides with which the dataset `name` reads small files in `folder`, without a download."""
    published = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
    if name in published:
        write(folder, publish_small(monkeypatch)[published[name]])
        return [f"data.path={folder}", "data.num_val=10"]
    if name == "image_folder":
        for label in ("cat", "dog"):
            (folder / label).mkdir()
            for number in range(12):
                Image.new("RGB", (20, 16), (number, 100, 0)).save(folder / label / f"{number}.png")
        return [f"data.path={folder}", "data.size=8", "data.num_workers=0"]
    if name == "text_file":
        (folder / "text.txt").write_text("To be, or not to be, that is the question.\n" * 50)
        return [f"data.path={folder / 'text.txt'}", "data.context=16"]
    return ["data.max_chars=20000", "data.context=16"] if name == "python_docs" else []
