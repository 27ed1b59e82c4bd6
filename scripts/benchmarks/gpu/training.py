"""Training steps in bfloat16 (autocast), bare and through the Trainer, eager and compiled, beside plain torch."""

import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.gpt import TINY, Shape, adamw, batch_of, gpt, random_ids
from benchmarks.gpu.device import Device, Line, Timed
from benchmarks.gpu.plain_gpt import PlainGPT
from benchmarks.trainer import trainer_seconds
from mmtx.batch import Batch
from mmtx.learner import Learner

SHAPES = {
    "124M": Shape(layers=12, width=768, heads=12, context=1024, rows=32, vocabulary=50304),
    "10.8M": Shape(layers=6, width=384, heads=6, context=256, rows=64, vocabulary=65),
}
PEER = "plain torch, compiled"


def measured(device: Device) -> Iterator[Line]:
    for name, shape in {"tiny": TINY}.items() if device.tiny else SHAPES.items():
        yield from steps_of(device, name, shape)
        device.forget()


def steps_of(device: Device, name: str, shape: Shape) -> Iterator[Line]:
    batch, ids = batch_of(random_ids(shape)).to(device.name), random_ids(shape).to(device.name)
    plain = PlainGPT(shape).to(device.name)
    learners = {"": gpt(shape), ", compiled": gpt(shape, "backbone.compile=true")}
    with device.compiled():
        plain_loss = torch.compile(plain)
        runs = {
            PEER: plain_step(device, plain, lambda: plain_loss(ids)),
            **{f"ours{how}": our_step(device, learner, batch) for how, learner in learners.items()},
        }
        timed = device.time(runs)
        words = [f"trainer.accelerator={'gpu' if device.is_cuda else 'cpu'}", "trainer.precision=bf16-mixed"]
        steps, workers, ends = (5, 0, 0) if device.tiny else (int(80 + 2 / timed[PEER].seconds), "auto", 25)
        seconds = trainer_seconds(learners[", compiled"], shape, steps, *words, num_workers=workers)
        middle = statistics.mean(seconds[ends : len(seconds) - ends])  # what workers prepare ahead comes faster
        timed["ours, compiled, through the Trainer"] = Timed(middle, 0.0)
    for how, each in timed.items():
        yield line(
            f"{name}: a step of {how}", shape, each, timed[PEER].seconds, flops(plain, shape) / device.peak_flops
        )


def line(what: str, shape: Shape, timed: Timed, peer: float, least: float) -> Line:
    """Of a step that takes at least so many seconds at the measured peak."""
    tokens = shape.rows * shape.context / timed.seconds
    value = f"{1000 * timed.seconds:.1f} ms, {tokens / 1000:.0f}k tokens/s"
    return Line(what, value, PEER, timed.seconds / peer, least / timed.seconds, timed.gib or None)


def flops(plain: PlainGPT, shape: Shape) -> float:
    """Of a step: 6 for each weight of a product and token, and 12 for each layer, pair of tokens and unit of width, of
    which causal attention needs half (as nanoGPT counts, after Chowdhery et al. 2022, arXiv 2204.02311, appendix B)."""
    weights = sum(p.numel() for p in plain.parameters()) - plain.places.weight.numel()
    return shape.rows * shape.context * (6 * weights + 12 * shape.layers * shape.width * shape.context)


def our_step(device: Device, learner: Learner, batch: Batch) -> Callable[[], None]:
    learner.to(device.name).train()

    def loss() -> Tensor:
        score = learner(batch)["next_token"]
        return score.loss_sum / score.count

    return plain_step(device, learner, loss)


def plain_step(device: Device, module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A step of AdamW, with the gradient clipped."""
    optimizer = adamw(module)

    def step() -> None:
        with device.bf16():
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
