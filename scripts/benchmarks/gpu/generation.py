"""Greedy generation in bfloat16 with random weights, batch 1, beside `transformers` with its cache, and beside the time
in which all weights are read once for each id: a GPT-2 of 124M, and a Llama of 1B."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.generation import peer_write, prompt, write
from benchmarks.gpt import TINY, Shape, gpt
from benchmarks.gpu.device import Device, Line

SHAPES = {
    "124M": Shape(layers=12, width=768, heads=12, context=1024, rows=1, vocabulary=50304),
    "1B": Shape(layers=20, width=2048, heads=16, context=1024, rows=1, vocabulary=32000),
}
LLAMA = ["backbone=modern", "backbone/mlp=swiglu", "backbone/attention=multihead", "backbone.attention.bias=[]"]
NEW = 128


def measured(device: Device) -> Iterator[Line]:
    has_peer = importlib.util.find_spec("transformers") is not None
    if not has_peer:
        device.skipped.append("generation by transformers, which is not installed")
    for name, shape in {"tiny": Shape(**{**vars(TINY), "context": 128})}.items() if device.tiny else SHAPES.items():
        new = 4 if device.tiny else NEW
        ids, runs = prompt(shape, 0).to(device.name), dict[str, Callable[[], Any]]()
        family = LLAMA if name == "1B" else []
        for how, words in {"ours": [], "ours, compiled": ["backbone.compile=true"]}.items():
            learner = gpt(shape, *family, *words).to(device.name, torch.bfloat16).eval()
            runs[how] = partial(write, learner, new, ids)
        if has_peer:
            runs["transformers"] = partial(theirs(device, shape, bool(family)), new, ids)
        with device.compiled():
            timed = device.time(runs, count=1, turns=3)
        least = new * read_bytes(learner) / device.peak_bytes
        for how, each in timed.items():
            beside = timed.get("transformers")
            ratio = each.seconds / beside.seconds if beside else None
            value = f"{new / each.seconds:.0f} tokens/s"
            yield Line(f"{name}: generation by {how}", value, "transformers", ratio, least / each.seconds, each.gib)
        device.forget()


def theirs(device: Device, shape: Shape, is_llama: bool) -> Callable[[int, Tensor], list[int]]:
    """Writes with a model of transformers."""
    import transformers

    common = {"vocab_size": shape.vocabulary, "bos_token_id": None, "eos_token_id": None, "attn_implementation": "sdpa"}
    config = (
        transformers.LlamaConfig(
            hidden_size=shape.width,
            intermediate_size=8 * -(-shape.width // 3),
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            tie_word_embeddings=True,
            **common,
        )
        if is_llama
        else transformers.GPT2Config(n_layer=shape.layers, n_embd=shape.width, n_head=shape.heads, **common)
    )
    with torch.device(device.name):
        return partial(peer_write, transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval())


def read_bytes(learner: Any) -> float:
    """Of the weights, which each new id needs once; the table of positions is not read."""
    return sum(
        p.numel() * p.element_size() for name, p in learner.named_parameters() if "position_embeddings" not in name
    )
