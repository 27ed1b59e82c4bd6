"""The input pipeline of `vit_cifar10` with made-up pictures: what loaders give a second, and what the model takes."""

import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpt import learner_of
from benchmarks.gpu.device import Device, Line
from benchmarks.gpu.training import plain_step
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.data.image.labelled_images import LabelledImages
from mmtx.data.loaders import DataModule
from mmtx.process.cores import cores

ROWS, CLASSES = 128, tuple("abcdefghij")


def measured(device: Device) -> Iterator[Line]:
    count, steps, rows = (64, 2, 8) if device.tiny else (50_000, 200, ROWS)
    data = pipeline(device, count, rows)
    words = [] if not device.tiny else ["backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2"]
    learner = learner_of(data.specs, ["experiment=vit_cifar10", *words]).to(device.name).train()
    batches = iter(data.train_loader(num_steps=steps + 2, accumulate=1, rank=0, num_ranks=1))
    batch = next(batches)[0].to(device.name)
    given = pictures_per_second(batches, rows)

    def loss() -> Tensor:
        score = learner(batch)["classify"]
        return score.loss_sum / score.count

    timed = device.time({"model": plain_step(device, learner, loss)}, count=10)["model"]
    taken = rows / timed.seconds
    yield Line("vit_cifar10: a training step", f"{taken:,.0f} pictures/s", gib=timed.gib)
    what = f"vit_cifar10: loader, {data.num_workers} workers"
    yield Line(what, f"{given:,.0f} pictures/s", "what the model takes", taken / given)


def pipeline(device: Device, count: int, rows: int) -> DataModule:
    """The recipe's loaders over pictures of noise."""
    node = compose(["experiment=vit_cifar10"])["data"]["augment"]
    if importlib.util.find_spec("torchvision") is None:
        device.skipped.append("augmentation of pictures by torchvision, which is not installed")
        node = None
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    pictures: Any = (pixels, torch.arange(count) % len(CLASSES))
    source = LabelledImages(
        train=pictures,
        test=pictures,
        class_names=CLASSES,
        augment=construct(node) if node is not None else None,
        num_val=len(CLASSES),
        split_seed=0,
    )
    return DataModule(
        source=source,
        names=["image", "label"],
        seed=0,
        batch_size=rows,
        eval_batch_size=None,
        num_workers="auto" if device.is_cuda else 0,
        packing=False,
        on_bad_sample="raise",
        max_bad_share=0,
        cores=cores() if device.is_cuda else 0,
    )


def pictures_per_second(batches: Iterator[Any], rows: int) -> float:
    """Of the batches that are left but one, which ends what the workers did before."""
    next(batches)
    start = time.perf_counter()
    taken = sum(rows for _ in batches)
    return taken / (time.perf_counter() - start)
