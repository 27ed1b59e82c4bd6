"""Backbones of public families, made by switches alone: equal to `transformers` with the same weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    attention,
    audio,
    audio_spec,
    backbone,
    image,
    image_spec,
    label_spec,
    log_mel,
    mlp,
    model,
    seq2seq,
    text,
    text_spec,
)
from torch import Tensor, nn

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.norms import LayerNorm, RMSNorm
from mmtx.nn.positions import Positions, T5Bias
from mmtx.nn.rotary import Rotary, rotate
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import SummaryPool
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.token_order import join
from mmtx.tokens import Tokens

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
    objective = NextToken(
        specs=specs, model=ours, weight=1.0, text="text", tied=True, logit_scale=1.0, label_smoothing=0.0
    )

    batch = texts([LENGTH, 5, 2])
    mask = attention_mask(batch)
    ids = batch["text"]["ids"]
    expected = theirs(ids, attention_mask=mask)
    logits = objective.head.logits(ours, ours(batch).tokens("text"))
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
        pooler=False,
        label_smoothing=0.0,
        mixup=0.0,
        class_weights=None,
        slices=[],
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
        norm_place="after",
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


def t5_attention(w: dict[str, Tensor], here: str, there: str) -> dict[str, Tensor]:
    projections = [w[f"{there}.{linear}.weight"] for linear in "qkv"]
    return {f"{here}.qkv.weight": torch.cat(projections), f"{here}.out.weight": w[f"{there}.o.weight"]}


def t5_stack(w: dict[str, Tensor], here: str, there: str) -> dict[str, Tensor]:
    """Of one of T5's two stacks; the decoder has a layer more in each block."""
    bias = f"{there}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    weights = {
        f"{here}.position_bias.table.weight": w[bias],
        f"{here}.final_norm.weight": w[f"{there}.final_layer_norm.weight"],
    }
    for number in range(LAYERS):
        block, layer = f"{here}.blocks.{number}", f"{there}.block.{number}.layer"
        weights |= t5_attention(w, f"{block}.attention", f"{layer}.0.SelfAttention")
        norms, last = ["attention_norm", "mlp_norm"], 1
        if there == "decoder":
            weights |= t5_attention(w, f"{block}.cross_attention", f"{layer}.1.EncDecAttention")
            norms, last = ["attention_norm", "cross_attention_norm", "mlp_norm"], 2
        weights |= {f"{block}.{norm}.weight": w[f"{layer}.{i}.layer_norm.weight"] for i, norm in enumerate(norms)}
        feed = f"{layer}.{last}.DenseReluDense"
        up = [w[f"{feed}.{name}.weight"] for name in ("wi", "wi_0", "wi_1") if f"{feed}.{name}.weight" in w]
        weights |= {f"{block}.mlp.up.weight": torch.cat(up), f"{block}.mlp.down.weight": w[f"{feed}.wo.weight"]}
    return weights


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5(version: str) -> None:
    """Both stacks, the decoder over a memory of unequal lengths; 1.0 with a tied head, 1.1 with a gate and its own."""
    tied = version == "1.0"
    config = transformers.T5Config(
        d_model=DIM,
        d_kv=8,
        num_heads=2,
        num_layers=LAYERS,
        d_ff=32,
        vocab_size=VOCAB,
        dropout_rate=0.0,
        feed_forward_proj="relu" if tied else "gated-gelu",
        tie_word_embeddings=tied,
        decoder_start_token_id=0,
    )
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    if not tied:
        theirs.lm_head.weight = nn.Parameter(torch.randn(VOCAB, DIM))  # whatever their configuration ties
    disturb(theirs)

    def stack(in_encoder: bool) -> Any:
        bias = partial(T5Bias, num_buckets=32, max_distance=128, bidirectional=in_encoder)
        return backbone(
            dim=DIM,
            num_layers=LAYERS,
            cross_attention=not in_encoder,
            attention=attention(bias=[], scale=False),
            mlp=mlp(activation=nn.ReLU() if tied else nn.GELU(approximate="tanh"), gated=not tied, bias=False),
            norm=partial(RMSNorm, eps=1e-6),
            positions=Positions(absolute=None, rotary=None, bias=bias),
        )

    specs = {"source": text_spec(VOCAB, 40), "text": text_spec(VOCAB, LENGTH, Letters())}
    ours = model(
        {"source": text(specs["source"], dim=DIM, causal=False), "text": text(specs["text"], dim=DIM)},
        stack(in_encoder=False),
        encoder=stack(in_encoder=True),
        encode=["source"],
        type_embeddings=False,
    )
    w = theirs.state_dict()
    embeddings = {f"tokenizers.{name}.embedding.weight": w["shared.weight"] for name in ("source", "text")}
    copy(ours, {**embeddings, **t5_stack(w, "backbone", "decoder"), **t5_stack(w, "encoder", "encoder")})
    objective = seq2seq(ours, specs, tied=tied)
    if not tied:
        copy(objective, {"head.projection.weight": w["lm_head.weight"]})
    source, target = texts([40, 17, 2, 1]), texts([5, LENGTH, 3, LENGTH])
    batch = target.with_name("source", source["text"], source.lengths["text"])
    real = attention_mask(target).bool()
    expected = theirs(
        source["text"]["ids"], attention_mask=attention_mask(source), decoder_input_ids=target["text"]["ids"]
    ).logits[real]
    logits = objective.head.logits(ours, ours(batch).tokens("text"))[real]
    logits = logits * DIM**-0.5 if tied else logits  # a scale that mmtx leaves to the initialisation
    torch.testing.assert_close(logits, expected, atol=3e-5, rtol=1e-4)
    logits.square().sum().backward()
    expected.square().sum().backward()
    there, here = theirs.decoder.block[0].layer[1].EncDecAttention, ours.backbone.blocks[0].cross_attention
    assert_close_gradients(
        here.qkv.weight.grad.split(DIM), [linear.weight.grad for linear in (there.q, there.k, there.v)]
    )
    both = [ours.tokenizers[name].embedding.weight.grad for name in ("source", "text")]
    assert_close_gradients([sum(both)], [theirs.shared.weight.grad])


def assert_close_gradients(actual: Any, expected: Any) -> None:
    for grad, other in zip(actual, expected, strict=True):
        size = max(1.0, other.abs().max().item())
        torch.testing.assert_close(grad / size, other / size, atol=1e-4, rtol=1e-4)


FRAMES = 100
OPENAI = {
    "attention": ("attn.query", "attn.key", "attn.value", "attn.out", "attn_ln"),
    "cross_attention": ("cross_attn.query", "cross_attn.key", "cross_attn.value", "cross_attn.out", "cross_attn_ln"),
    "mlp": ("mlp.0", "mlp.2", "mlp_ln"),
}
HUGGING_FACE = {
    "attention": tuple(f"self_attn.{linear}_proj" for linear in ("q", "k", "v", "out")) + ("self_attn_layer_norm",),
    "cross_attention": tuple(f"encoder_attn.{linear}_proj" for linear in ("q", "k", "v", "out"))
    + ("encoder_attn_layer_norm",),
    "mlp": ("fc1", "fc2", "final_layer_norm"),
}


def whisper_stack(w: dict[str, Tensor], here: str, there: str, names: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Of one of Whisper's two stacks, its last norm left out."""
    weights = {}
    for number in range(LAYERS):
        block, layer = f"{here}.blocks.{number}", f"{there}.{number}"
        for half in ("attention", "cross_attention"):
            query, key, value, out, norm = (f"{layer}.{name}" for name in names[half])
            if f"{query}.weight" not in w:
                continue
            projections = [w[f"{linear}.weight"] for linear in (query, key, value)]
            weights |= {
                f"{block}.{half}.qkv.weight": torch.cat(projections),
                f"{block}.{half}.biases.query": w[f"{query}.bias"],
                f"{block}.{half}.biases.value": w[f"{value}.bias"],
            }
            for part in ("weight", "bias"):
                weights |= {f"{block}.{half}.out.{part}": w[f"{out}.{part}"]}
                weights |= {f"{block}.{half}_norm.{part}": w[f"{norm}.{part}"]}
        for mine, name in zip(("mlp.up", "mlp.down", "mlp_norm"), names["mlp"], strict=True):
            weights |= {f"{block}.{mine}.{part}": w[f"{layer}.{name}.{part}"] for part in ("weight", "bias")}
    return weights


def small_whisper() -> tuple[MultimodalTransformer, Seq2Seq]:
    """A second of sound at most, padded with silence that counts as real."""
    specs = {"audio": audio_spec(16_000, 16_000), "text": text_spec(VOCAB, LENGTH, Letters())}
    whisper_mel = log_mel(sample_rate_hz=16_000, n_fft=400, hop_length=160, n_mels=80)
    common = {"dim": DIM, "num_layers": LAYERS, "attention": attention(bias=["query", "value", "out"])}
    common |= {"mlp": mlp(expansion=4.0)}
    ours = model(
        {
            "audio": audio(specs["audio"], dim=DIM, spectrogram=whisper_mel, pad_to_seconds=1.0),
            "text": text(specs["text"], dim=DIM),
        },
        backbone(**common, cross_attention=True, positions=POSITIONS["learned"]),
        encoder=backbone(**common, positions=POSITIONS["sinusoidal"]),
        encode=["audio"],
        type_embeddings=False,
    )
    return ours, seq2seq(ours, specs)


def dictation(lengths: list[int]) -> Batch:
    """Noise as sound, and texts."""
    target, samples = texts(lengths), torch.tensor([16_000, 9_000, 200])
    waveform = torch.randn(3, 16_000) * 0.1
    waveform[torch.arange(16_000)[None] >= samples[:, None]] = 0
    return target.with_name("audio", {"waveform": waveform}, samples)


def test_whisper() -> None:
    """Logits and gradients of the features that our spectrogram makes."""
    from transformers.models.whisper.modeling_whisper import sinusoids

    config = transformers.WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=80,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=4 * DIM,
        decoder_ffn_dim=4 * DIM,
        d_model=DIM,
        max_source_positions=FRAMES // 2,
        max_target_positions=LENGTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    disturb(theirs)
    theirs.model.encoder.embed_positions.weight.data = sinusoids(FRAMES // 2, DIM)
    ours, objective = small_whisper()
    w = theirs.state_dict()
    weights = {
        "tokenizers.text.embedding.weight": w["model.decoder.embed_tokens.weight"],
        "position_embeddings.text.table.weight": w["model.decoder.embed_positions.weight"],
    }
    for part in ("weight", "bias"):
        weights |= {f"tokenizers.audio.stem.{c}.{part}": w[f"model.encoder.{c}.{part}"] for c in ("conv1", "conv2")}
        weights |= {f"backbone.final_norm.{part}": w[f"model.decoder.layer_norm.{part}"]}
        weights |= {f"encoder.final_norm.{part}": w[f"model.encoder.layer_norm.{part}"]}
    weights |= whisper_stack(w, "encoder", "model.encoder.layers", HUGGING_FACE)
    weights |= whisper_stack(w, "backbone", "model.decoder.layers", HUGGING_FACE)
    copy(ours, weights)
    batch = dictation([LENGTH, 4, 1])
    real = attention_mask(batch).bool()
    filled = torch.full((3,), 16_000)
    features = ours.tokenizers["audio"].spectrogram(batch["audio"]["waveform"], filled).transpose(1, 2)
    assert features.shape == (3, 80, FRAMES)
    expected = theirs(features, decoder_input_ids=batch["text"]["ids"]).logits[real]
    logits = objective.head.logits(ours, ours(batch).tokens("text"))[real]
    torch.testing.assert_close(logits, expected, **CLOSE)
    logits.square().sum().backward()
    expected.square().sum().backward()
    there, here = theirs.model.decoder.layers[1].encoder_attn, ours.backbone.blocks[1].cross_attention
    linears = (there.q_proj, there.k_proj, there.v_proj)
    assert_close_gradients(here.qkv.weight.grad.split(DIM), [linear.weight.grad for linear in linears])
    stem, conv = ours.tokenizers["audio"].stem, theirs.model.encoder
    assert_close_gradients([stem.conv1.weight.grad], [conv.conv1.weight.grad])
    assert_close_gradients(
        [ours.tokenizers["text"].embedding.weight.grad], [theirs.model.decoder.embed_tokens.weight.grad]
    )


def test_openai_whisper() -> None:
    """From sound to logits, each by its own pipeline; and what greedy decoding writes."""
    whisper_model, whisper_audio = pytest.importorskip("whisper.model"), pytest.importorskip("whisper.audio")
    dims = whisper_model.ModelDimensions(80, FRAMES // 2, DIM, 2, LAYERS, VOCAB, LENGTH, DIM, 2, LAYERS)
    theirs = whisper_model.Whisper(dims).eval()
    theirs.decoder.positional_embedding.data.normal_()
    disturb(theirs)
    ours, objective = small_whisper()
    w = theirs.state_dict()
    weights = {
        "tokenizers.text.embedding.weight": w["decoder.token_embedding.weight"],
        "position_embeddings.text.table.weight": w["decoder.positional_embedding"],
    }
    for part in ("weight", "bias"):
        weights |= {f"tokenizers.audio.stem.{c}.{part}": w[f"encoder.{c}.{part}"] for c in ("conv1", "conv2")}
        weights |= {f"backbone.final_norm.{part}": w[f"decoder.ln.{part}"]}
        weights |= {f"encoder.final_norm.{part}": w[f"encoder.ln_post.{part}"]}
    weights |= whisper_stack(w, "encoder", "encoder.blocks", OPENAI)
    weights |= whisper_stack(w, "backbone", "decoder.blocks", OPENAI)
    copy(ours, weights)
    batch = dictation([LENGTH, 4, 1])
    clips = zip(batch["audio"]["waveform"], batch.lengths["audio"].tolist(), strict=True)
    mel = torch.stack(
        [whisper_audio.log_mel_spectrogram(clip[:length], padding=16_000 - length) for clip, length in clips]
    )
    real = attention_mask(batch).bool()
    logits = objective.head.logits(ours, ours(batch).tokens("text"))
    expected = theirs(mel, batch["text"]["ids"])
    torch.testing.assert_close(logits[real], expected[real], atol=5e-5, rtol=1e-4)
    ids = torch.full((3, 1), Letters().begin)
    with torch.no_grad():
        features = theirs.encoder(mel)
        while ids.shape[1] < LENGTH:
            ids = torch.cat([ids, theirs.logits(ids, features)[:, -1:].argmax(-1)], dim=1)
    words = [Letters().decode(row[: row.index(10)] if 10 in row else row) for row in ids[:, 1:].tolist()]
    assert objective.eval().write(ours, batch, max_new_tokens=LENGTH - 1) == words


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
        layers="L" if window else "G",
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
        logit_scale=1.0,
        label_smoothing=0.0,
    )
    copy(objective, {"head.projection.weight": w["lm_head.weight"]})
    batch = texts([LENGTH, 3])
    mask = attention_mask(batch).bool()
    expected = theirs(batch["text"]["ids"], attention_mask=mask.long()).logits
    logits = objective.head.logits(ours, ours(batch).tokens("text"))
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
