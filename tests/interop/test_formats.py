"""The other files that public models come in."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

transformers = pytest.importorskip("transformers")

from public import VOCAB, bert, gemma2, gemma3, gpt2, llama, olmo2, saved, vit, vit_inputs, whisper, whisper_inputs  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.ctranslate2 import read_model_bin  # noqa: E402


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def same_weights(first: Any, second: Any) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("make", [gpt2, bert, vit, whisper, llama, olmo2, gemma2, gemma3])
def test_shards_pickles_and_names_at_run_time(make: Any, tmp_path: Path) -> None:
    """Several files; weights alone in a pickle; keys as the modules of version 5 are called."""
    theirs = make()
    expected = mmtx.from_pretrained(saved(theirs, tmp_path / "one"))
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    assert same_weights(mmtx.from_pretrained(tmp_path / "shards"), expected)
    pickled = tmp_path / "pickle"
    pickled.mkdir()
    state = theirs.state_dict()
    places = {key: f"pytorch_model-{i % 2}.bin" for i, key in enumerate(state)}
    for name in {*places.values()}:
        torch.save({key: value for key, value in state.items() if places[key] == name}, tmp_path / "one" / name)
    (tmp_path / "one" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / "one" / "model.safetensors").unlink()
    assert same_weights(mmtx.from_pretrained(tmp_path / "one"), expected)
    (pickled / "config.json").write_bytes((tmp_path / "one" / "config.json").read_bytes())
    torch.save(theirs.state_dict(), pickled / "pytorch_model.bin")
    assert same_weights(mmtx.from_pretrained(pickled), expected)


def test_old_names_of_bert(tmp_path: Path) -> None:
    """Normalisations once had gamma and beta, and models without a head had no prefix."""
    expected = mmtx.from_pretrained(saved(bert(kind=transformers.BertModel), tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    old = {
        k.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in weights.items()
    }
    assert old.keys() != weights.keys()
    save_file({**old, "embeddings.position_ids": torch.arange(16)[None]}, tmp_path / "model.safetensors")
    assert same_weights(mmtx.from_pretrained(tmp_path), expected)


@pytest.mark.parametrize(("make", "dtype"), [(gpt2, torch.float16), (llama, torch.bfloat16), (gemma3, torch.bfloat16)])
def test_half_precision_becomes_single(make: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = make()
    saved(theirs.to(dtype), tmp_path)
    ours = mmtx.from_pretrained(tmp_path)
    assert {value.dtype for value in ours.state_dict().values()} == {torch.float32}
    ids = theirs.get_input_embeddings().weight
    assert torch.equal(ours.model.tokenizers["text"].embedding.weight, ids.float())


def openai_whisper(mels: int = 80) -> Any:
    model = pytest.importorskip("whisper.model")
    dims = model.ModelDimensions(mels, 50, 24, 2, 2, VOCAB, 16, 24, 4, 3)
    theirs = model.Whisper(dims).eval()
    theirs.decoder.positional_embedding.data.normal_(std=0.1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return theirs


@pytest.mark.parametrize("mels", [80, 128])
def test_openai_whisper(mels: int, tmp_path: Path) -> None:
    theirs = openai_whisper(mels)
    torch.save({"dims": theirs.dims.__dict__, "model_state_dict": theirs.state_dict()}, tmp_path / "tiny.pt")
    ours = mmtx.from_pretrained(tmp_path / "tiny.pt")
    features, ids = torch.randn(2, mels, 100), torch.randint(0, VOCAB, (2, 7))
    mine, other = mmtx.interop.forward(ours, input_features=features, decoder_input_ids=ids), theirs(features, ids)
    torch.testing.assert_close(mine.logits, other, atol=1e-5, rtol=1e-5)
    mine.logits.square().sum().backward()
    other.square().sum().backward()
    grad, expected = ours.model.tokenizers["audio"].stem.conv1.weight.grad, theirs.encoder.conv1.weight.grad
    torch.testing.assert_close(grad / expected.abs().max(), expected / expected.abs().max(), atol=1e-4, rtol=1e-4)
    mmtx.to_pretrained(ours, tmp_path / "public")
    again = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "public").eval()
    torch.testing.assert_close(again(features, decoder_input_ids=ids).logits, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("num_heads", "num_classes", "size"), [(3, 5, 8), (2, 0, 16)])
def test_timm(num_heads: int, num_classes: int, size: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm.models.vision_transformer")
    theirs = timm.VisionTransformer(
        img_size=size, patch_size=4, embed_dim=18, depth=2, num_heads=num_heads, mlp_ratio=2.5, num_classes=num_classes
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = mmtx.from_pretrained(tmp_path / "vit.pth", {"num_attention_heads": num_heads})
    pixels = torch.randn(2, 3, size, size)
    mine = mmtx.interop.forward(ours, pixel_values=pixels)
    actual, expected = (mine.logits, theirs(pixels)) if num_classes else (mine[0], theirs.forward_features(pixels))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def model_bin(theirs: Any, quantise: bool) -> bytes:
    """A Whisper of `transformers` as CTranslate2 writes it (version 6 of its format), from its description."""
    arrays: dict[str, Tensor] = {}
    state = theirs.model.state_dict()
    for stack in ("encoder", "decoder"):
        arrays[f"{stack}/num_heads"] = torch.tensor(theirs.config.decoder_attention_heads, dtype=torch.int16)
        arrays[f"{stack}/position_encodings/encodings"] = state[f"{stack}.embed_positions.weight"]
        arrays |= norm(f"{stack}/layer_norm", state, f"{stack}.layer_norm")
        for layer in range(getattr(theirs.config, f"{stack}_layers")):
            here, there = f"{stack}/layer_{layer}", f"{stack}.layers.{layer}"
            fused = {"self_attention/linear_0": ["self_attn.q", "self_attn.k", "self_attn.v"]}
            if stack == "decoder":
                fused |= {
                    "attention/linear_0": ["encoder_attn.q"],
                    "attention/linear_1": ["encoder_attn.k", "encoder_attn.v"],
                }
            for name, parts in fused.items():
                weights = [state[f"{there}.{part}_proj.weight"] for part in parts]
                zero = torch.zeros(len(weights[0]))
                arrays[f"{here}/{name}/weight"] = torch.cat(weights)
                arrays[f"{here}/{name}/bias"] = torch.cat([state.get(f"{there}.{p}_proj.bias", zero) for p in parts])
            plain = {"self_attention/linear_1": "self_attn.out_proj", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
            norms = {"self_attention": "self_attn_layer_norm", "ffn": "final_layer_norm"}
            if stack == "decoder":
                plain["attention/linear_2"], norms["attention"] = "encoder_attn.out_proj", "encoder_attn_layer_norm"
            for name, part in plain.items():
                arrays |= {f"{here}/{name}/{end}": state[f"{there}.{part}.{end}"] for end in ("weight", "bias")}
            for name, part in norms.items():
                arrays |= norm(f"{here}/{name}/layer_norm", state, f"{there}.{part}")
    for conv in ("conv1", "conv2"):
        arrays |= {f"encoder/{conv}/{end}": state[f"encoder.{conv}.{end}"] for end in ("weight", "bias")}
    arrays["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    if quantise:
        for name in [name for name in arrays if "ffn/linear" in name and name.endswith("weight")]:
            scale = 127 / arrays[name].abs().amax(1)
            arrays[f"{name}_scale"] = scale
            arrays[name] = (arrays[name] * scale[:, None]).round().to(torch.int8)
    kinds = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.float16: 4}
    out = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, value in arrays.items():
        content = value.contiguous().numpy().tobytes()
        out += [text(name), struct.pack("<B", value.ndim), struct.pack(f"<{value.ndim}I", *value.shape)]
        out += [struct.pack("<BI", kinds[value.dtype], len(content)), content]
    out += [struct.pack("<I", 1), text("decoder/projection/weight"), text("decoder/embeddings/weight")]
    return b"".join(out)


def text(content: str) -> bytes:
    return struct.pack("<H", len(content) + 1) + content.encode() + b"\0"


def norm(name: str, state: dict[str, Tensor], there: str) -> dict[str, Tensor]:
    return {f"{name}/gamma": state[f"{there}.weight"], f"{name}/beta": state[f"{there}.bias"]}


@pytest.mark.parametrize("quantise", [False, True])
def test_ctranslate2(quantise: bool, tmp_path: Path) -> None:
    theirs = whisper()
    expected = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    folder = tmp_path / "ct2"
    folder.mkdir()
    (folder / "model.bin").write_bytes(model_bin(theirs, quantise))
    (folder / "config.json").write_text(json.dumps({"suppress_ids": []}))
    ours = mmtx.from_pretrained(folder)
    if not quantise:
        assert same_weights(ours, expected)
    inputs, _ = whisper_inputs(theirs)
    difference = mmtx.interop.forward(ours, **inputs).logits - theirs(**inputs).logits
    assert difference.abs().max() < (0.1 if quantise else 1e-5)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "state_dict", "model"])
def test_training_runs_of_timm(key: str, tmp_path: Path) -> None:
    """The state that its own library takes, without what several devices put in front."""
    timm = pytest.importorskip("timm.models")
    theirs = timm.VisionTransformer(img_size=8, patch_size=4, embed_dim=18, depth=1, num_heads=2, num_classes=3)
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    average = {name: value + 1 for name, value in state.items()}
    content = {"epoch": 3, "state_dict": state, "arch": "vit", key: average}
    torch.save(content if key != "model" else {"epoch": 3, "model": average}, tmp_path / "last.pth.tar")
    wanted = timm.load_state_dict(str(tmp_path / "last.pth.tar"))["head.weight"]
    ours = mmtx.from_pretrained(tmp_path / "last.pth.tar", {"num_attention_heads": 2})
    assert torch.equal(ours.state_dict()["objectives.classify.head.weight"], wanted)
    assert torch.equal(wanted, average["module.head.weight"])


def test_a_convolution_of_ctranslate2_has_a_scale_for_each_row(tmp_path: Path) -> None:
    weight = torch.tensor([[[100, 20]], [[-120, 4]]], dtype=torch.int8)
    arrays = {"stem/conv1/weight": weight, "stem/conv1/weight_scale": torch.tensor([10.0, 40.0])}
    kinds, content = {torch.float32: 0, torch.int8: 1}, struct.pack("<I", 6)
    content += text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, value in arrays.items():
        content += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", kinds[value.dtype], value.nbytes) + value.numpy().tobytes()
    (tmp_path / "model.bin").write_bytes(content + struct.pack("<I", 0))
    read = read_model_bin(tmp_path / "model.bin")[0]["stem/conv1/weight"]
    assert read.tolist() == [[[10.0, 2.0]], [[-3.0, pytest.approx(0.1)]]]


def test_the_keys_of_whisper_have_no_bias(tmp_path: Path) -> None:
    content = bytearray(model_bin(whisper(), False))
    at = content.index(text("encoder/layer_0/self_attention/linear_0/bias"))
    start = at + len(text("encoder/layer_0/self_attention/linear_0/bias")) + 1 + 4 + 5
    content[start + 24 * 4 : start + 24 * 4 + 4] = struct.pack("<f", 1.0)
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UserError, match="have a bias"):
        mmtx.from_pretrained(tmp_path)


def test_pictures_are_preprocessed_as_in_their_file(tmp_path: Path) -> None:
    theirs = vit()
    prepared = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (saved(theirs, tmp_path) / "preprocessor_config.json").write_text(json.dumps(prepared))
    ours = mmtx.from_pretrained(tmp_path)
    assert ours.config["modality"]["image"]["mean"] == prepared["image_mean"]
    inputs, _ = vit_inputs(theirs)
    torch.testing.assert_close(
        mmtx.interop.forward(ours, **inputs).logits, theirs(**inputs).logits, atol=1e-5, rtol=1e-5
    )
