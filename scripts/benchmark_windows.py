"""What a causal text under a window costs as it grows: time of a training step and of an evaluation, and their memory.

First the step is compared with that of the dense rule. Then each length is timed against half of it, in one process,
interleaved (A B B A ...), in seconds of the CPU; printed are medians of ratios of pairs with a 95% bootstrap interval:
2 is linear, 4 is quadratic. Peak memory is that of a fresh process for each, over what it held before the first step.
Absolute times are not portable.

    python scripts/benchmark_windows.py [--longest 32768] [--pairs 5] [--threads 2] [--packed]
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from benchmark_packing import resident_mib
from benchmark_step import adamw, our_step
from interleaved import compare, report

from mmtx.attention.rule import Connectivity
from mmtx.batch import Batch, Field, Spec
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind

LAYERS, WIDTH, HEADS, WINDOW, VOCABULARY, SHORTEST = 4, 128, 4, 256, 65, 1024


def made_learner(longest: int) -> Learner:
    specs = {"text": Spec({"ids": Field((None,), torch.long, num_classes=VOCABULARY, max_length=longest + 1)})}
    words = ["data=python_docs", "modality=[text]", "objective=[next_token]", "backbone/positions=rotary"]
    sizes = [f"backbone.dim={WIDTH}", f"backbone.num_layers={LAYERS}", f"backbone.num_heads={HEADS}"]
    config = compose([*words, *sizes, "backbone.layers=L", f"backbone.window={WINDOW}"])
    torch.manual_seed(0)
    node = {**config["modality"]["text"], "context": longest}
    model = MultimodalTransformer(
        tokenizers={"text": construct(node, spec=specs["text"], dim=WIDTH)},
        backbone=construct({**config["backbone"], "kinds": {"L": LayerKind(window=True)}}, cross_attention=False),
        encoder=None,
        encode=[],
        type_embeddings=False,
        clocks={},
    )
    objective = construct(config["objective"]["next_token"], specs=specs, model=model)
    return Learner(model=model, objectives={"next_token": objective}, specs=specs).train()


def text_of(length: int, packed: bool) -> Batch:
    """One text, or as many tokens in a packed row of a long and a short one."""
    lengths = [length * 3 // 4, length - length * 3 // 4] if packed else [length]
    ids = torch.randint(0, VOCABULARY, (len(lengths), max(lengths) + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch({"text": {"ids": ids}}, {"text": torch.tensor(lengths) + 1}, {"text": not packed})
    return batch.packed() if packed else batch


def check_equal(learner: Learner, batch: Batch) -> None:
    """The step is that of the dense rule."""
    results = []
    for blocked in (True, False):
        learner.zero_grad()
        with patch.object(Connectivity, "_blocked", Connectivity._blocked if blocked else lambda *_: None):
            score = learner(batch)["next_token"]
        (score.loss_sum / score.count).backward()
        results.append((score.mean_loss(), torch.cat([p.grad.flatten() for p in learner.parameters()])))
    (loss, grads), (dense_loss, dense_grads) = results
    difference = float((grads - dense_grads).abs().max() / dense_grads.abs().max())
    print(f"loss {loss:.6f}, {dense_loss:.6f} by the dense rule; gradients differ by {difference:.1e} relative")
    assert abs(loss - dense_loss) < 1e-5 * dense_loss and difference < 1e-4, "no time without equal results"
    learner.zero_grad()


def peak_mib(length: int, packed: bool, threads: int, trains: bool) -> float:
    """Peak resident memory of a fresh process, over that before the first step."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (length, packed, threads, trains))


def _peak(length: int, packed: bool, threads: int, trains: bool) -> float:
    torch.set_num_threads(threads)
    learner, batch = made_learner(length), text_of(length, packed)
    step = training(learner, batch) if trains else evaluating(learner, batch)
    before = resident_mib("VmRSS")
    step(), step()
    return resident_mib("VmHWM") - before


def training(learner: Learner, batch: Batch) -> Callable[[], None]:
    optimizer = adamw(learner)
    return lambda: our_step(learner, optimizer, batch)


def evaluating(learner: Learner, batch: Batch) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            learner.eval()(batch)
        learner.train()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=32768)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--packed", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    longest, packed = arguments.longest, arguments.packed
    learner = made_learner(longest)
    check_equal(learner, text_of(min(2048, longest), packed))
    gc.disable()
    length = SHORTEST
    while 2 * length <= longest:
        for what, step in (("training", training), ("evaluation", evaluating)):
            long, short = (step(learner, text_of(n, packed)) for n in (2 * length, length))
            ratios = compare(long, short, arguments.pairs, clock=time.process_time)
            report(f"{what}, {2 * length} / {length} tokens", ratios)
        length *= 2
    for length in (longest // 4, longest // 2, longest):
        trained, evaluated = (peak_mib(length, packed, arguments.threads, trains) for trains in (True, False))
        print(f"peak memory at {length} tokens: {trained:.0f} MiB of a step, {evaluated:.0f} MiB of an evaluation")


if __name__ == "__main__":
    main()
