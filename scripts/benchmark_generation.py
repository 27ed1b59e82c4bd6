"""Generation from an imported GPT-2 shape, against `transformers`' own ``generate`` with its cache.

``python scripts/benchmark_generation.py 124m|small|small-1000 [--pairs N] [--cpu-time]``: 64 ids of prompt, 128 new
ones, batch 1, the same weights in float32, greedy, theirs with SDPA and in inference mode; one thread unless
OMP_NUM_THREADS says otherwise. Every pair has a prompt of its own, for which both must write the same ids, else nothing
is timed.

Random weights repeat themselves much, as greedy text of trained models does less, and mmtx computes what repeats itself
several ids at a time (`mmtx.decoding.prompt_lookup`). So the same is printed with one id at a time, and against
``transformers`` set to do likewise (``prompt_lookup_num_tokens``). Beside each median ratio theirs / ours stands its
95% interval, and ours against ours; then what limits one id at a time: the time in which all weights are read once, how
near to it each side comes, and the products of `torch` with those weights as files have them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any
from unittest.mock import patch

import torch
import transformers
from interleaved import compare, report
from torch import Tensor

import mmtx
from mmtx.decoding.generate import generate
from mmtx.decoding.prompt_lookup import PromptLookup
from mmtx.interop.family import text_batch

SHAPES = {"124m": (12, 768, 12, 50257), "small": (6, 384, 6, 50257), "small-1000": (6, 384, 6, 1000)}
PROMPT, NEW, PROMPTS = 64, 128, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor, where others use it too")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    clock = time.process_time if options.cpu_time else time.perf_counter
    theirs, learner = models(*SHAPES[options.shape])
    prompts = [torch.randint(0, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(i)) for i in range(PROMPTS)]
    objective = learner.objective("next_token")

    def ours(ids: Tensor) -> list[int]:
        batch = text_batch("text", ids, None)
        logits = partial(objective.head.logits, learner.model)
        return generate(learner.model, logits, batch, "text", max_new_tokens=NEW)[0]

    def one_by_one(ids: Tensor) -> list[int]:
        with patch.object(PromptLookup, "draft", return_value=[]):
            return ours(ids)

    @torch.inference_mode()
    def peer(ids: Tensor, **options: Any) -> list[int]:
        written = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            use_cache=True,
            pad_token_id=0,
            **options,
        )
        return written[0, PROMPT:].tolist()

    peer_ahead = partial(peer, prompt_lookup_num_tokens=15)
    for ids in prompts:
        written = [write(ids) for write in (peer, peer_ahead, ours, one_by_one)]
        assert all(each == written[0] for each in written), "they do not write the same ids"
    ratios = [
        ("transformers / mmtx", peer, ours),
        ("transformers / mmtx, one id at a time", peer, one_by_one),
        ("transformers with its prompt lookup / mmtx", peer_ahead, ours),
        ("mmtx / mmtx", ours, ours),
    ]
    for name, first, second in ratios:
        pairs = compare(each_of(first, prompts), each_of(second, prompts), options.pairs, clock)
        report(f"{options.shape}: {name}", pairs)
    limits(theirs, each_of(one_by_one, prompts), each_of(peer, prompts), clock)


def each_of(write: Callable[[Tensor], list[int]], prompts: list[Tensor]) -> Callable[[], list[int]]:
    """Writes on from another prompt at each call."""
    turns = cycle(prompts)
    return lambda: write(next(turns))


def models(num_layers: int, dim: int, num_heads: int, vocabulary: int) -> tuple[Any, Any]:
    config = transformers.GPT2Config(
        n_layer=num_layers,
        n_embd=dim,
        n_head=num_heads,
        vocab_size=vocabulary,
        attn_implementation="sdpa",
        eos_token_id=None,
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, mmtx.from_pretrained(folder)


@torch.inference_mode()
def limits(theirs: Any, ours: Callable[[], Any], peer: Callable[[], Any], clock: Callable[[], float]) -> None:
    """Prints milliseconds per new id, and how much of them is the reading of the weights."""
    named = {name: p for name, p in theirs.named_parameters() if p.ndim == 2 and "wpe" not in name}
    weights = [p if "wte" in name else p.T.contiguous() for name, p in named.items()]  # theirs have inputs in rows
    factors = [(weight, torch.randn(1, weight.shape[1])) for weight in weights]

    def read() -> None:
        for weight in weights:
            weight.sum()

    def multiply() -> None:
        for weight, vector in factors:
            torch.nn.functional.linear(vector, weight)

    def milliseconds(run: Callable[[], Any], count: int, ids: int) -> float:
        times = []
        for _ in range(count):
            start = clock()
            run()
            times.append(clock() - start)
        return 1000 * statistics.median(times) / ids

    limit = milliseconds(read, 51, 1)
    print(f"  reading {sum(map(torch.numel, weights)):,} weights once: {limit:.2f} ms")
    print(f"  torch's products with them, outputs in rows: {milliseconds(multiply, 51, 1):.2f} ms")
    for name, run in (("transformers", peer), ("mmtx", ours)):
        cost = milliseconds(run, 5, NEW)
        print(
            f"  {name}: {cost:.2f} ms per id, {limit / cost:.2f} of that limit, which is {cost / limit:.2f} x as fast"
        )


if __name__ == "__main__":
    main()
