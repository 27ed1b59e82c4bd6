"""Greedy texts of a GPT-2 with random weights in float32, batch 1, from 64 ids of prompt, a prompt for each pair.

The peer is `transformers`' ``generate`` with its cache, SDPA, in inference mode, with the same weights; both must write
the same ids, else nothing is timed. Random weights repeat themselves much, as greedy text of trained models does less,
and mmtx computes what repeats itself several ids at a time (`mmtx.decoding.prompt_lookup`). So it is timed with one id
at a time as well, and against ``transformers`` set to do likewise (``prompt_lookup_num_tokens``).
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import mmtx
from benchmarks.gpt import TINY, Shape
from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.decoding.generate import generate
from mmtx.decoding.prompt_lookup import PromptLookup
from mmtx.interop.family import text_batch
from mmtx.learner import Learner

SHAPES = {
    "width 384": Shape(layers=6, width=384, heads=6, context=1024, rows=1, vocabulary=50257),
    "124M": Shape(layers=12, width=768, heads=12, context=1024, rows=1, vocabulary=50257),
}
PAIRS = {"width 384": 15, "124M": 7}
PROMPT, NEW, PROMPTS = 64, 64, 8
PEER = "transformers' generate"
Write = Callable[[Tensor], list[int]]


def measured(effort: Effort) -> Iterator[Row]:
    for name, shape in {"tiny": TINY}.items() if effort.quick else SHAPES.items():
        new, pairs = (4, 1) if effort.quick else (NEW, PAIRS[name])
        theirs, learner = models(shape)
        ours, peer = partial(write, learner, new), partial(peer_write, theirs, new)
        alone, ahead = partial(one_by_one, learner, new), partial(peer_write, theirs, new, prompt_lookup_num_tokens=15)
        prompts = [prompt(shape, seed) for seed in range(1 if effort.quick else PROMPTS)]
        check_equal((peer, ahead, ours, alone), prompts)
        for what, first, beside, second in (
            (f"generation, {name}", ours, PEER, peer),
            (f"generation, {name}, one id at a time", alone, PEER, peer),
            (f"generation, {name}", ours, f"{PEER} with its prompt lookup", ahead),
        ):
            timed = each_of(first, prompts), each_of(second, prompts)
            yield ratio(what, beside, compare(*timed, pairs, warm_up=1))


def models(shape: Shape) -> tuple[Any, Learner]:
    """A GPT-2 of transformers, and the same imported."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=shape.layers,
        n_embd=shape.width,
        n_head=shape.heads,
        vocab_size=shape.vocabulary,
        attn_implementation="sdpa",
        eos_token_id=None,
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, mmtx.from_pretrained(folder)


def prompt(shape: Shape, seed: int) -> Tensor:
    most = min(shape.vocabulary, 1000)
    return torch.randint(0, most, (1, PROMPT), generator=torch.Generator().manual_seed(seed))


def write(learner: Learner, new: int, ids: Tensor) -> list[int]:
    """So many ids that follow."""
    logits = partial(learner.objective("next_token").head.logits, learner.model)
    return generate(learner.model, logits, text_batch("text", ids, None), "text", max_new_tokens=new)[0]


def one_by_one(learner: Learner, new: int, ids: Tensor) -> list[int]:
    with patch.object(PromptLookup, "draft", return_value=[]):
        return write(learner, new, ids)


@torch.inference_mode()
def peer_write(theirs: Any, new: int, ids: Tensor, **options: Any) -> list[int]:
    written = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        use_cache=True,
        pad_token_id=0,
        **options,
    )
    return written[0, ids.shape[1] :].tolist()


def check_equal(writers: tuple[Write, ...], prompts: list[Tensor]) -> None:
    for ids in prompts:
        written = [each(ids) for each in writers]
        assert all(each == written[0] for each in written), "no ratio without equal ids"


def each_of(write: Write, prompts: list[Tensor]) -> Callable[[], list[int]]:
    """Writes on from another prompt at each call."""
    turns = cycle(prompts)
    return lambda: write(next(turns))
