"""A training step of a GPT (6 layers, width 384, 8 rows of 256 ids) in float32, from the same weights."""

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.gpt import SMALL, TINY, Shape, adamw, batch_of, gpt, our_step, random_ids
from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.learner import Learner

PEER = "Hugging Face's GPT-2 (SDPA, no dropout)"


def measured(effort: Effort) -> Iterator[Row]:
    shape = TINY if effort.quick else SMALL
    learner, peer, ids = gpt(shape), peer_model(shape), random_ids(shape)
    copy_weights(peer, learner)
    check_equal(learner, peer, ids)
    own, other, batch = adamw(learner.train()), adamw(peer.train()), batch_of(ids)

    def ours() -> None:
        our_step(learner, own, batch)

    def theirs() -> None:
        peer_step(peer, other, ids)

    yield ratio("a training step", PEER, compare(ours, theirs, effort.pairs(31)))
    yield ratio("the same", "itself", compare(ours, ours, effort.pairs(31)))


def peer_model(shape: Shape) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=shape.layers,
        n_embd=shape.width,
        n_head=shape.heads,
        n_positions=shape.context,
        vocab_size=shape.vocabulary,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="sdpa",
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


@torch.no_grad()
def copy_weights(peer: nn.Module, ours: Learner) -> None:
    source, target = peer.state_dict(), ours.model.state_dict()

    def put(key: str, value: torch.Tensor) -> None:
        target[key].copy_(value)

    put("tokenizers.text.embedding.weight", source["transformer.wte.weight"])
    put("position_embeddings.text.table.weight", source["transformer.wpe.weight"])
    for part in ("weight", "bias"):
        put(f"backbone.final_norm.{part}", source[f"transformer.ln_f.{part}"])
    for layer in range(len(peer.transformer.h)):
        theirs, mine = f"transformer.h.{layer}", f"backbone.blocks.{layer}"
        for norm, name in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
            for part in ("weight", "bias"):
                put(f"{mine}.{name}.{part}", source[f"{theirs}.{norm}.{part}"])
        put(f"{mine}.attention.qkv.weight", source[f"{theirs}.attn.c_attn.weight"].T)
        biases = source[f"{theirs}.attn.c_attn.bias"].chunk(3)
        for name, bias in zip(("query", "key", "value"), biases, strict=True):
            put(f"{mine}.attention.biases.{name}", bias)
        for conv, name in (("attn.c_proj", "attention.out"), ("mlp.c_fc", "mlp.up"), ("mlp.c_proj", "mlp.down")):
            put(f"{mine}.{name}.weight", source[f"{theirs}.{conv}.weight"].T)
            put(f"{mine}.{name}.bias", source[f"{theirs}.{conv}.bias"])


@torch.no_grad()
def check_equal(learner: Learner, peer: nn.Module, ids: torch.Tensor) -> None:
    head = learner.objective("next_token").head
    inputs, _, _ = head.shift(batch_of(ids))
    ours, theirs = head.logits(learner.model, learner.model(inputs).tokens("text")), peer(ids[:, :-1]).logits
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    assert difference < 1e-4, f"no ratio without equal outputs: logits differ by {difference:.1e} relative"


def peer_step(peer: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> None:
    logits = peer(ids[:, :-1]).logits
    nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
