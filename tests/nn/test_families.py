"""Backbones of public families, made by switches alone: equal to `transformers` with the same weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import POSITIONS, attention, backbone, image, image_spec, label_spec, mlp, model, text, text_spec
from torch import Tensor, nn

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.norms import LayerNorm, RMSNorm
from mmtx.nn.positions import Positions, Rotary, T5Bias, rotate
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import SummaryPool
from mmtx.tokens import Tokens, join

transformers = pytest.importorskip("transformers")

VOCAB, LENGTH, DIM, LAYERS = 11, 8, 16, 2
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def texts(lengths: list[int]) -> Batch:
    longest = max(lengths)
    ids = torch.randint(1, VOCAB, (len(lengths), longest))
    ids[torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]] = 0
    return Batch({"text": {"ids": ids}}, {"text": torch.tensor(lengths)}, {"text": min(lengths) == longest})


def attention_mask(batch: Batch) -> Tensor:
    return (torch.arange(batch["text"]["ids"].shape[1])[None] < batch.lengths["text"][:, None]).long()


def disturb(module: nn.Module) -> None:
    """Weights that no initialisation left at zero or one, and large enough to see a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def copy(target: nn.Module, weights: dict[str, Tensor]) -> None:
    """Fills every parameter of a module."""
    missing, unexpected = target.load_state_dict({name: w.detach().clone() for name, w in weights.items()})
    assert not missing
    assert not unexpected


def language_model(max_length: int, causal: bool, **changes: Any) -> MultimodalTransformer:
    tokenizer = text(text_spec(VOCAB, max_length), dim=DIM, causal=causal)
    body = backbone(**{"dim": DIM, "num_layers": LAYERS, **changes})
    return model({"text": tokenizer}, body, type_embeddings=False)


def gpt2_weights(theirs: nn.Module) -> dict[str, Tensor]:
    w = theirs.state_dict()
    ours = {
        "tokenizers.text.embedding.weight": w["transformer.wte.weight"],
        "position_embeddings.text.table.weight": w["transformer.wpe.weight"],
        "backbone.final_norm.weight": w["transformer.ln_f.weight"],
        "backbone.final_norm.bias": w["transformer.ln_f.bias"],
    }
    for layer in range(LAYERS):
        block, h = f"backbone.blocks.{layer}", f"transformer.h.{layer}"
        query, key, value = w[f"{h}.attn.c_attn.bias"].chunk(3)
        ours |= {
            f"{block}.attention.qkv.weight": w[f"{h}.attn.c_attn.weight"].T,
            f"{block}.attention.biases.query": query,
            f"{block}.attention.biases.key": key,
            f"{block}.attention.biases.value": value,
            f"{block}.attention.out.weight": w[f"{h}.attn.c_proj.weight"].T,
            f"{block}.attention.out.bias": w[f"{h}.attn.c_proj.bias"],
            f"{block}.mlp.up.weight": w[f"{h}.mlp.c_fc.weight"].T,
            f"{block}.mlp.up.bias": w[f"{h}.mlp.c_fc.bias"],
            f"{block}.mlp.down.weight": w[f"{h}.mlp.c_proj.weight"].T,
            f"{block}.mlp.down.bias": w[f"{h}.mlp.c_proj.bias"],
        }
        for norm, ln in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            ours |= {f"{block}.{norm}.{part}": w[f"{h}.{ln}.{part}"] for part in ("weight", "bias")}
    return ours


def test_gpt2() -> None:
    """Logits, loss and gradients of a padded batch, with a tied head."""
    config = transformers.GPT2Config(
        n_layer=LAYERS,
        n_embd=DIM,
        n_head=2,
        vocab_size=VOCAB,
        n_positions=LENGTH,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    disturb(theirs)
    ours = language_model(
        LENGTH,
        causal=True,
        mlp=mlp(activation=nn.GELU(approximate="tanh"), expansion=4.0),
        norm=partial(LayerNorm, eps=1e-5, bias=True),
        positions=POSITIONS["learned"],
    )
    copy(ours, gpt2_weights(theirs))
    specs = {"text": text_spec(VOCAB, LENGTH)}
    objective = NextToken(specs=specs, model=ours, weight=1.0, text="text", tied=True, label_smoothing=0.0)

    batch = texts([LENGTH, 5, 2])
    mask = attention_mask(batch)
    ids = batch["text"]["ids"]
    expected = theirs(ids, attention_mask=mask)
    logits = objective.logits(ours, ours(batch).tokens("text"))
    torch.testing.assert_close(logits[mask.bool()], expected.logits[mask.bool()], **CLOSE)

    score = objective(ours, batch)
    loss = theirs(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
    assert score.mean_loss() == pytest.approx(loss.item(), rel=1e-5)
    (score.loss_sum / score.count).backward()
    loss.backward()
    grads = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    block = ours.backbone.blocks[0]
    pairs = [
        (ours.tokenizers["text"].embedding.weight.grad, grads["transformer.wte.weight"]),
        (ours.position_embeddings["text"].table.weight.grad, grads["transformer.wpe.weight"]),
        (block.attention.qkv.weight.grad, grads["transformer.h.0.attn.c_attn.weight"].T),
        (block.mlp.down.weight.grad, grads["transformer.h.0.mlp.c_proj.weight"].T),
    ]
    for grad, expected_grad in pairs:
        torch.testing.assert_close(grad, expected_grad, **CLOSE)


def test_vit() -> None:
    """Class scores from CLS, learned positions, and patches that are a convolution over there."""
    config = transformers.ViTConfig(
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_channels=3,
        num_labels=5,
    )
    theirs = transformers.ViTForImageClassification(config).eval()
    disturb(theirs)
    spec = image_spec(3, 8, 8, torch.float32)
    ours = model(
        {"image": image(spec, dim=DIM, summary=True, mean=0.0, std=1.0)},
        backbone(
            dim=DIM,
            num_layers=LAYERS,
            norm=partial(LayerNorm, eps=config.layer_norm_eps, bias=True),
            positions=POSITIONS["learned"],
        ),
        type_embeddings=False,
    )
    w = theirs.state_dict()
    positions = w["vit.embeddings.position_embeddings"][0]
    weights = {
        "tokenizers.image.projection.weight": w["vit.embeddings.patch_embeddings.projection.weight"].flatten(1),
        "tokenizers.image.projection.bias": w["vit.embeddings.patch_embeddings.projection.bias"],
        "tokenizers.image.readouts": w["vit.embeddings.cls_token"][0] + positions[:1],
        "position_embeddings.image.table.weight": positions[1:],
        "backbone.final_norm.weight": w["vit.layernorm.weight"],
        "backbone.final_norm.bias": w["vit.layernorm.bias"],
    }
    for layer in range(LAYERS):
        block, there = f"backbone.blocks.{layer}", f"vit.layers.{layer}"
        projections = [w[f"{there}.attention.{linear}_proj.weight"] for linear in "qkv"]
        weights[f"{block}.attention.qkv.weight"] = torch.cat(projections)
        names = {
            "attention.biases.query": "attention.q_proj.bias",
            "attention.biases.key": "attention.k_proj.bias",
            "attention.biases.value": "attention.v_proj.bias",
        }
        linears = {"attention.out": "attention.o_proj", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
        norms = {"attention_norm": "layernorm_before", "mlp_norm": "layernorm_after"}
        for here, name in {**linears, **norms}.items():
            names |= {f"{here}.{part}": f"{name}.{part}" for part in ("weight", "bias")}
        weights |= {f"{block}.{here}": w[f"{there}.{name}"] for here, name in names.items()}
    copy(ours, weights)
    classify = Classify(
        specs={"label": label_spec(5)},
        model=ours,
        weight=1.0,
        label="label",
        pool=SummaryPool(name="image"),
        label_smoothing=0.0,
        mixup=0.0,
        dropout=0.0,
    )
    copy(classify.head, {"weight": w["classifier.weight"], "bias": w["classifier.bias"]})
    pixels = torch.rand(3, 3, 8, 8)
    batch = Batch({"image": {"pixels": pixels}}, {"image": torch.ones(3, dtype=torch.long)}, {"image": True})
    logits, expected = classify.logits(ours, batch), theirs(pixels).logits
    torch.testing.assert_close(logits, expected, **CLOSE)
    logits.square().sum().backward()
    expected.square().sum().backward()
    conv = theirs.vit.embeddings.patch_embeddings.projection.weight.grad.flatten(1)
    torch.testing.assert_close(ours.tokenizers["image"].projection.weight.grad, conv, atol=1e-4, rtol=1e-4)


def test_bert_encoder() -> None:
    """Post-norm blocks over the embeddings of a padded batch."""
    config = transformers.BertConfig(
        hidden_size=DIM, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32, vocab_size=VOCAB
    )
    theirs = transformers.BertModel(config).eval()
    disturb(theirs)
    body = backbone(
        dim=DIM,
        num_layers=LAYERS,
        norm=partial(LayerNorm, eps=1e-12, bias=True),
        norm_first=False,
        final_norm=False,
    ).eval()
    w = theirs.state_dict()
    weights = {}
    for layer in range(LAYERS):
        block, there = f"blocks.{layer}", f"encoder.layer.{layer}"
        projections = [w[f"{there}.attention.self.{linear}.weight"] for linear in ("query", "key", "value")]
        weights[f"{block}.attention.qkv.weight"] = torch.cat(projections)
        for linear in ("query", "key", "value"):
            weights[f"{block}.attention.biases.{linear}"] = w[f"{there}.attention.self.{linear}.bias"]
        pairs = {
            "attention.out": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "mlp.up": "intermediate.dense",
            "mlp.down": "output.dense",
            "mlp_norm": "output.LayerNorm",
        }
        for here, name in pairs.items():
            weights |= {f"{block}.{here}.{part}": w[f"{there}.{name}.{part}"] for part in ("weight", "bias")}
    copy(body, weights)
    batch = texts([7, 4, 1])
    ids, mask = batch["text"]["ids"], attention_mask(batch)
    embedded = theirs.embeddings(ids)
    content = Tokens(
        content=embedded,
        coordinates=torch.arange(7)[:, None],
        time=torch.zeros(1, 7, dtype=torch.long),
        lengths=batch.lengths["text"],
        num_items=1,
        full=False,
    )
    connectivity = join({"text": content}, {"text": torch.zeros(1, 7, DIM)}, {"text": "text"}).connectivity
    hidden, expected = body(embedded, connectivity), theirs(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(hidden[mask.bool()], expected[mask.bool()], **CLOSE)


def test_t5_encoder() -> None:
    """No scale, no biases, RMS norms, and a relative bias over the index of a text that is one item."""
    config = transformers.T5Config(
        d_model=DIM, d_kv=8, num_heads=2, num_layers=LAYERS, d_ff=32, vocab_size=VOCAB, dropout_rate=0.0
    )
    theirs = transformers.T5EncoderModel(config).eval()
    disturb(theirs)
    ours = language_model(
        40,
        causal=False,
        attention=attention(bias=[], scale=False),
        mlp=mlp(activation=nn.ReLU(), bias=False),
        norm=partial(RMSNorm, eps=1e-6),
        positions=Positions(
            absolute=None, rotary=None, bias=partial(T5Bias, num_buckets=32, max_distance=128, bidirectional=True)
        ),
    )
    w = theirs.state_dict()
    first = "encoder.block.0.layer.0.SelfAttention"
    weights = {
        "tokenizers.text.embedding.weight": w["shared.weight"],
        "backbone.position_bias.table.weight": w[f"{first}.relative_attention_bias.weight"],
        "backbone.final_norm.weight": w["encoder.final_layer_norm.weight"],
    }
    for layer in range(LAYERS):
        block, there = f"backbone.blocks.{layer}", f"encoder.block.{layer}"
        projections = [w[f"{there}.layer.0.SelfAttention.{linear}.weight"] for linear in "qkv"]
        weights |= {
            f"{block}.attention.qkv.weight": torch.cat(projections),
            f"{block}.attention.out.weight": w[f"{there}.layer.0.SelfAttention.o.weight"],
            f"{block}.attention_norm.weight": w[f"{there}.layer.0.layer_norm.weight"],
            f"{block}.mlp.up.weight": w[f"{there}.layer.1.DenseReluDense.wi.weight"],
            f"{block}.mlp.down.weight": w[f"{there}.layer.1.DenseReluDense.wo.weight"],
            f"{block}.mlp_norm.weight": w[f"{there}.layer.1.layer_norm.weight"],
        }
    copy(ours, weights)
    batch = texts([40, 17, 2])
    mask = attention_mask(batch)
    expected = theirs(batch["text"]["ids"], attention_mask=mask).last_hidden_state
    hidden = ours(batch).hidden
    torch.testing.assert_close(hidden[mask.bool()], expected[mask.bool()], atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 3])
def test_mistral(window: int | None) -> None:
    """Rotary positions, grouped queries, SwiGLU, RMS norms, and a sliding window; without one it is Llama."""
    config = transformers.MistralConfig(
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        vocab_size=VOCAB,
        sliding_window=window,
        max_position_embeddings=LENGTH,
        attn_implementation="eager",
    )
    theirs = transformers.MistralForCausalLM(config).eval()
    disturb(theirs)
    ours = language_model(
        LENGTH,
        causal=True,
        num_heads=4,
        attention=attention(num_kv_heads=2, bias=[]),
        mlp=mlp(activation=nn.SiLU(), expansion=2.5, gated=True, bias=False),
        norm=partial(RMSNorm, eps=config.rms_norm_eps),
        positions=Positions(absolute=None, rotary=Rotary(axes=["time"], base=10_000.0), bias=None),
        window=window,
        window_pattern="L" if window else None,
    )
    w = theirs.state_dict()
    weights = {
        "tokenizers.text.embedding.weight": w["model.embed_tokens.weight"],
        "backbone.final_norm.weight": w["model.norm.weight"],
    }
    for layer in range(LAYERS):
        block, there = f"backbone.blocks.{layer}", f"model.layers.{layer}"
        projections = [w[f"{there}.self_attn.{linear}_proj.weight"] for linear in "qkv"]
        weights |= {
            f"{block}.attention.qkv.weight": torch.cat(projections),
            f"{block}.attention.out.weight": w[f"{there}.self_attn.o_proj.weight"],
            f"{block}.attention_norm.weight": w[f"{there}.input_layernorm.weight"],
            f"{block}.mlp.up.weight": torch.cat([w[f"{there}.mlp.gate_proj.weight"], w[f"{there}.mlp.up_proj.weight"]]),
            f"{block}.mlp.down.weight": w[f"{there}.mlp.down_proj.weight"],
            f"{block}.mlp_norm.weight": w[f"{there}.post_attention_layernorm.weight"],
        }
    copy(ours, weights)
    objective = NextToken(
        specs={"text": text_spec(VOCAB, LENGTH)},
        model=ours,
        weight=1.0,
        text="text",
        tied=False,
        label_smoothing=0.0,
    )
    copy(objective, {"head.weight": w["lm_head.weight"]})
    batch = texts([LENGTH, 3])
    mask = attention_mask(batch).bool()
    expected = theirs(batch["text"]["ids"], attention_mask=mask.long()).logits
    logits = objective.logits(ours, ours(batch).tokens("text"))
    torch.testing.assert_close(logits[mask], expected[mask], atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20)])
def test_t5_buckets(bidirectional: bool, num_buckets: int, max_distance: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-3 * max_distance, 3 * max_distance + 1)
    bias = T5Bias(2, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional)
    expected = T5Attention._relative_position_bucket(distance, bidirectional, num_buckets, max_distance)
    assert bias.bucket(distance).equal(expected)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6, 8, 12])
def test_alibi(num_heads: int) -> None:
    """Bloom adds ``slope · key position``, which differs from ``-slope · distance`` by what softmax does not see."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    from mmtx.nn.positions import ALiBi

    by_key = build_alibi_tensor(torch.ones(1, LENGTH), num_heads, torch.float32).view(num_heads, 1, LENGTH)
    slopes = by_key[:, :, 1:2]
    expected = by_key - slopes * torch.arange(LENGTH)[:, None]
    ours = language_model(LENGTH, causal=True)
    position = ours.tokenize(texts([LENGTH])).connectivity.position
    bias = ALiBi(num_heads)(position, position)[0]
    past = torch.ones(LENGTH, LENGTH).tril()
    torch.testing.assert_close(bias * past, expected * past)


def test_rotary() -> None:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = transformers.LlamaConfig(hidden_size=32, num_attention_heads=2, max_position_embeddings=64)
    q, k = torch.randn(2, 2, 5, 16), torch.randn(2, 2, 5, 16)
    time = torch.tensor([[0, 1, 2, 3, 4], [7, 9, 30, 31, 63]])
    cos, sin = LlamaRotaryEmbedding(config)(q, time)
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    position = torch.stack([time, torch.zeros_like(time), torch.zeros_like(time)], dim=-1)
    table = Rotary(axes=["time"], base=10_000.0).table(position, 16)
    torch.testing.assert_close(rotate(q, table), expected_q, **CLOSE)
    torch.testing.assert_close(rotate(k, table), expected_k, **CLOSE)
