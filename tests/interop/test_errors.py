"""Files that are not what they say: one error with everything, nothing copied, nothing executed."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")

from public import bert, gpt2, llama, saved, vit, whisper  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.ctranslate2 import read_model_bin  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402


def change(folder: Path, edit: Any) -> Path:
    """Edits the weights of a folder."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def change_config(folder: Path, **values: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


def test_all_differences_at_once(tmp_path: Path) -> None:
    def edit(weights: dict[str, Any]) -> None:
        del weights["transformer.h.0.ln_1.weight"]
        weights["transformer.wpe.weight"] = torch.zeros(15, 24)
        weights["transformer.h.0.mlp.c_gate.weight"] = torch.zeros(2, 3)

    folder = change(saved(gpt2(), tmp_path), edit)
    with pytest.raises(UserError) as caught:
        mmtx.from_pretrained(folder)
    message = str(caught.value)
    first, *lines = message.splitlines()
    assert first.endswith("is not the gpt2 of its config:")
    assert [re.split(r"  +", line.strip()) for line in lines] == [
        ["weight", "in the file", "by the config"],
        ["transformer.wpe.weight", "[15, 24]", "[16, 24]"],
        ["transformer.h.0.ln_1.weight", "missing", "[24]"],
        ["transformer.h.0.mlp.c_gate.weight", "[2, 3]", "nothing"],
    ]
    assert len({line.rindex("  ") for line in lines}) == 1, "the last column begins in one place"


def test_two_families_at_once(tmp_path: Path) -> None:
    """What a config declares is never guessed; what it does not declare twice is taken from where it does."""
    folder = change_config(saved(llama(), tmp_path), model_type="mistral")
    with pytest.raises(UserError) as caught:
        mmtx.from_pretrained(folder)
    first, *lines = str(caught.value).splitlines()
    assert "declares two families; give the one that it is, model_type=llama or architectures=MistralF" in first
    assert [re.split(r"  +", line.strip()) for line in lines] == [
        ["key", "in the file", "of the family"],
        ["model_type", "mistral", "mistral"],
        ["architectures", "LlamaForCausalLM", "llama"],
    ]
    assert mmtx.from_pretrained(folder, {"model_type": "llama"}).origin["family"] == "llama"
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    assert mmtx.from_pretrained(folder).origin["family"] == "llama"


DECODERS = [family for family in FAMILIES.values() if family.kinds[0].endswith("ForCausalLM")]


@pytest.mark.parametrize("family", DECODERS, ids=lambda family: family.name)
def test_a_head_that_mmtx_does_not_compute(family: Any, tmp_path: Path) -> None:
    """By its name, before a weight is compared."""
    kind = family.kinds[0].replace("CausalLM", "SequenceClassification")
    config = {"model_type": family.name, "architectures": [kind]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"score.weight": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"this {family.name} is a {kind}; mmtx reads {family.kinds[0]}"):
        mmtx.from_pretrained(tmp_path)


def test_another_family(tmp_path: Path) -> None:
    saved(gpt2(), tmp_path / "gpt2")
    folder = saved(bert(), tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_bytes((tmp_path / "gpt2" / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"is not the gpt2 of its config:\n(.*\n)+.* nothing\n"):
        mmtx.from_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "opt"},
            "'opt'; mmtx reads gpt2, bert, t5, vit, whisper, decision_transformer, ",
        ),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"activation_function": "mish"}, "the activation mish is none of"),
        ({"n_head": 5}, "is not a multiple of num_heads=5"),
        ({"n_embd": "wide"}, "cannot be one of gpt2"),
        ({"n_layer": 0}, "num_layers=0 must be at least 1"),
    ],
)
def test_configs_that_mmtx_cannot_be(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        mmtx.from_pretrained(change_config(saved(gpt2(), tmp_path), **values))


@pytest.mark.parametrize("keep", [0, 1, 7, 100, -5])
def test_cut_files(keep: int, tmp_path: Path) -> None:
    file = saved(vit(), tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="it may be cut or altered"):
        mmtx.from_pretrained(tmp_path)


def test_a_header_that_lies(tmp_path: Path) -> None:
    file = saved(vit(), tmp_path) / "model.safetensors"
    file.write_bytes((10**12).to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(UserError, match="it may be cut or altered"):
        mmtx.from_pretrained(tmp_path)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tiny.pt"])
@pytest.mark.parametrize("plain", [True, False])
def test_nothing_is_executed(name: str, plain: bool, tmp_path: Path) -> None:
    (saved(gpt2(), tmp_path) / "model.safetensors").unlink()
    marker, file = tmp_path / "executed", tmp_path / name
    content = {"transformer.wte.weight": Bomb(marker)}
    file.write_bytes(pickle.dumps(content)) if plain else torch.save(content, file)
    with pytest.raises(UserError, match="nothing in it is executed"):
        mmtx.from_pretrained(file)
    assert not marker.exists()


def test_shards_outside_the_folder(tmp_path: Path) -> None:
    (saved(gpt2(), tmp_path) / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    for name, message in (("../elsewhere", "outside its folder"), ("model-1.safetensors", "is not there")):
        index.write_text(json.dumps({"weight_map": {"transformer.wte.weight": name}}))
        with pytest.raises(UserError, match=message):
            mmtx.from_pretrained(tmp_path)
    index.write_text("[]")
    with pytest.raises(UserError, match="is not an index"):
        mmtx.from_pretrained(tmp_path)


def test_places_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        mmtx.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no weights"):
        mmtx.from_pretrained(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"has no config\.json beside it"):
        mmtx.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x06\0\0\0", b"\x07\0\0\0" + bytes(40), bytes(range(256)) * 4])
def test_model_bin_of_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UserError, match="it may be cut or altered"):
        read_model_bin(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            bert,
            r"decoder.weight +other numbers +those of bert.embeddings.word_embeddings.weight; mmtx has one",
        ),
        (whisper, r"proj_out.weight +other numbers +those of model.decoder.embed_tokens.weight"),
    ],
    ids=["bert", "whisper"],
)
def test_a_head_of_its_own_where_mmtx_has_none(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        mmtx.from_pretrained(saved(make(tie_word_embeddings=False), tmp_path))


def test_a_bert_without_the_pooler_that_its_head_reads(tmp_path: Path) -> None:
    def edit(weights: dict[str, Any]) -> None:
        del weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"]

    folder = saved(bert(kind=transformers.BertForSequenceClassification), tmp_path)
    with pytest.raises(UserError, match=r"bert.pooler.dense.weight +missing +\[24, 24\]"):
        mmtx.from_pretrained(change(folder, edit))


def test_padding_in_front(tmp_path: Path) -> None:
    ours = mmtx.from_pretrained(saved(gpt2(), tmp_path))
    ids, mask = torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]])
    with pytest.raises(UserError, match="padded at their end"):
        mmtx.interop.forward(ours, input_ids=ids, attention_mask=mask)
