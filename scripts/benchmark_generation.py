"""Generation from an imported GPT-2 shape, against `transformers`' own ``generate`` with its cache.

``python scripts/benchmark_generation.py 124m|small [--pairs N] [--cpu-time]``: 64 ids of prompt, 128 new ones, batch 1,
the same weights, one thread unless OMP_NUM_THREADS says otherwise. Both must write the same ids, else nothing is timed.
Prints the median ratio theirs / ours with its 95% interval, ours against ours beside it, and the share that is reached
of the limit set by reading all weights once per id.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch
import transformers
from interleaved import compare, report

import mmtx
from mmtx.generate import generate
from mmtx.interop.family import text_batch

SHAPES = {"124m": (12, 768, 12, 50257), "small": (6, 384, 6, 50257)}
PROMPT, NEW = 64, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor, where others use it too")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    clock = time.process_time if options.cpu_time else time.perf_counter
    theirs, learner = models(*SHAPES[options.shape])
    ids = torch.randint(0, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    objective = learner.objective("next_token")
    batch = text_batch("text", ids, None)

    def ours() -> Any:
        return generate(
            learner.model, lambda h: objective.head.logits(learner.model, h), batch, "text", max_new_tokens=NEW
        )[0]

    def peer() -> Any:
        mask = torch.ones_like(ids)
        return theirs.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            use_cache=True,
            pad_token_id=0,
        )

    written = peer()[0, PROMPT:].tolist()
    assert ours() == written, "the two do not write the same ids"
    report(f"{options.shape}: transformers / mmtx", compare(peer, ours, options.pairs, clock))
    report(f"{options.shape}: mmtx / mmtx", compare(ours, ours, max(3, options.pairs // 4), clock))
    print(f"{options.shape}: {share_of_limit(theirs, ours, clock):.2f} of the limit of reading the weights")


def models(num_layers: int, dim: int, num_heads: int, vocabulary: int) -> tuple[Any, Any]:
    config = transformers.GPT2Config(n_layer=num_layers, n_embd=dim, n_head=num_heads, vocab_size=vocabulary)
    config.eos_token_id = None
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, mmtx.from_pretrained(folder)


def share_of_limit(theirs: Any, ours: Any, clock: Any) -> float:
    """Time of a matrix by vector product over all weights, times the new ids, over the time of generating them."""
    weights = [p.detach() for p in theirs.parameters() if p.ndim == 2]
    vectors = [torch.randn(p.shape[1]) for p in weights]

    def read() -> None:
        for weight, vector in zip(weights, vectors, strict=True):
            weight @ vector

    def timed(run: Any, count: int) -> float:
        times = []
        for _ in range(count):
            start = clock()
            run()
            times.append(clock() - start)
        return statistics.median(times)

    return timed(read, 15) * NEW / timed(ours, 5)


if __name__ == "__main__":
    main()
