"""Useful tokens per second of packed training against padded training, and the memory of both.

Texts and sounds of log-normal lengths, so that 0.45 of a padded batch is real (what a mixed corpus has), through the
same model with the same weights; outputs and gradients are compared first. Everything runs in one process, interleaved
(A B B A ...); printed are medians of ratios of pairs with a 95% bootstrap interval, and A against A beside them. Peak
memory is that of a fresh process for each, over what it held before the first step. Absolute times are not portable.

    python scripts/benchmark_packing.py [--pairs 31] [--threads 2]
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
from pathlib import Path

import torch
from benchmark_step import adamw, our_step
from interleaved import compare, report

from mmtx.batch import Batch, Field, Spec
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer

LAYERS, WIDTH, HEADS, LONGEST, BATCH, VOCABULARY, FILL = 4, 256, 4, 256, 16, 65, 0.45
MOST_BATCHES = 8


def made_learner() -> Learner:
    """A text that is written after a series of vectors that it listens to: a prefix-LM of two ragged names."""
    times = Field((None,), torch.long, LONGEST, LONGEST, rising=True)
    specs = {
        "state": Spec({"values": Field((None, 32), torch.float32, max_length=LONGEST), "times": times}),
        "text": Spec({"ids": Field((None,), torch.long, num_classes=VOCABULARY, max_length=LONGEST + 1)}),
    }
    words = ["data=python_docs", "modality=[state,text]", "objective=[next_token]"]
    sizes = [f"backbone.dim={WIDTH}", f"backbone.num_layers={LAYERS}", f"backbone.num_heads={HEADS}"]
    config = compose([*words, *sizes])
    torch.manual_seed(0)
    tokenizers = {name: construct(config["modality"][name], spec=spec, dim=WIDTH) for name, spec in specs.items()}
    model = MultimodalTransformer(
        tokenizers=tokenizers,
        backbone=construct(config["backbone"], cross_attention=False),
        encoder=None,
        encode=[],
        type_embeddings=True,
        clocks={},
    )
    objective = construct(config["objective"]["next_token"], specs=specs, model=model)
    return Learner(model=model, objectives={"next_token": objective}, specs=specs)


def ragged(seed: int) -> Batch:
    """A batch of which about `FILL` is real: log-normal lengths, the longest as long as may be."""
    generator = torch.Generator().manual_seed(seed)

    def lengths() -> torch.Tensor:
        drawn = (torch.randn(BATCH, generator=generator) * 0.5).exp()
        spread = drawn * (FILL - 1 / BATCH) / (1 - 1 / BATCH) * LONGEST / drawn.mean()
        whole = spread.round().long().clamp(2, LONGEST)
        whole[int(torch.randint(BATCH, (), generator=generator))] = LONGEST
        return whole

    text, state = lengths() + 1, lengths()
    ids = torch.randint(0, VOCABULARY, (BATCH, LONGEST + 1), generator=generator)
    values = torch.randn(BATCH, LONGEST, 32, generator=generator)
    times = torch.arange(LONGEST).expand(BATCH, -1)
    fields = {"state": {"values": values, "times": times}, "text": {"ids": ids}}
    return Batch(fields, {"state": state, "text": text}, {"state": False, "text": False})


def check_equal(learner: Learner, batch: Batch) -> None:
    results = []
    for given in (batch, batch.packed()):
        learner.zero_grad()
        score = learner(given)["next_token"]
        (score.loss_sum / score.count).backward()
        grads = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        results.append((score.mean_loss(), grads))
    (padded, padded_grads), (packed, packed_grads) = results
    difference = float((padded_grads - packed_grads).abs().max())
    print(f"loss {padded:.6f} padded, {packed:.6f} packed; gradients differ by at most {difference:.1e}")
    assert abs(padded - packed) < 1e-5 * padded and difference < 1e-5, "no ratio without equal results"
    learner.zero_grad()


def peak_mib(packed: bool, threads: int) -> float:
    """Peak resident memory of a few steps in a fresh process, over that before them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (packed, threads))


def _peak(packed: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    learner = made_learner().train()
    optimizer, batches = adamw(learner), [ragged(seed) for seed in range(3)]
    before = resident_mib("VmRSS")
    for batch in batches:
        our_step(learner, optimizer, batch.packed() if packed else batch)
    return resident_mib("VmHWM") - before


def resident_mib(key: str) -> float:
    """As Linux has it for this process alone; `getrusage` would tell the peak of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    learner = made_learner().train()
    batches = [ragged(seed) for seed in range(MOST_BATCHES)]
    real, places = sum(learner.model.count_tokens(batch).sum(0) for batch in batches)
    print(f"fill {real / places:.3f}")
    check_equal(learner, batches[0])
    optimizer = adamw(learner)
    gc.disable()

    def steps(packed: bool):
        turn = iter(range(10**9))

        def step() -> None:
            batch = batches[next(turn) % len(batches)]
            our_step(learner, optimizer, batch.packed() if packed else batch)

        return step

    report("useful tokens/s, packed / padded", compare(steps(False), steps(True), arguments.pairs))
    report("padded / padded", compare(steps(False), steps(False), arguments.pairs))
    packed, padded = (peak_mib(packed, arguments.threads) for packed in (True, False))
    print(f"peak memory of the steps: {packed:.0f} MiB packed, {padded:.0f} MiB padded")


if __name__ == "__main__":
    main()
