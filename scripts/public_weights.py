"""Writes docs/public_weights.md from the tables that mmtx reads public files by: python scripts/public_weights.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmtx.data.files.supported_keys import Keys, table
from mmtx.data.text import tokenizer_files
from mmtx.interop import common_keys, peft_config, timm_vit
from mmtx.interop.families import FAMILIES
from mmtx.interop.image_preprocessing import PREPROCESSOR
from mmtx.interop.speech_encoder import WAVEFORM
from mmtx.interop.whisper import SOUND
from mmtx.interop.whisper_checkpoints import CT2_KEYS

PAGE = Path(__file__).parent.parent / "docs" / "public_weights.md"
TITLES = {
    "gpt2": "GPT-2",
    "bert": "BERT",
    "t5": "T5",
    "vit": "ViT",
    "whisper": "Whisper",
    "decision_transformer": "Decision Transformer",
    "dinov2": "DINOv2",
    "dinov2_with_registers": "DINOv2 with registers",
    "dinov3_vit": "DINOv3",
    "videomae": "VideoMAE",
    "vit_mae": "ViT-MAE",
    "clip": "CLIP",
    "siglip": "SigLIP, and SigLIP 2 of one size",
    "siglip2": "SigLIP 2 NaFlex",
    "modernbert": "ModernBERT",
    "esm": "ESM-2",
    "hubert": "HuBERT",
    "wav2vec2": "wav2vec 2.0",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen 2",
    "qwen3": "Qwen 3",
    "olmo2": "OLMo 2",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "mixtral": "Mixtral",
    "qwen3_moe": "Qwen3-MoE",
    "olmoe": "OLMoE",
    "gpt_oss": "gpt-oss",
    "mamba2": "Mamba 2",
    "smolvlm": "SmolVLM",
    "idefics3": "Idefics 3, and the first SmolVLM",
}
INTRODUCTION = """# Keys of public files

What `mmtx import` and `mmtx.from_pretrained` do with every key of the files that come with public weights. A key is
*used*, or it is *harmless*: it changes nothing that mmtx computes. Where the last column names values, any other value
is an error that names key and value; so is a key that stands in no table. Null means the same as no key; of an id, that
there is none.

A value can be laid over a file, for that import: `mmtx import FOLDER RUN embd_pdrop=0.1`, and
`generation_config.num_beams=1` or `preprocessor_config.resample=3` for the files beside it.

Architectures that are none of those named are refused by name (token classification, multiple choice, question
answering, ...), and so are heads for several labels at once or for a number. Classes are matched by number and name:
`id2label` must have each row of the head once. A tokenizer with more ids than the embedding is refused, and so is text
that a tokenizer would leave out. Models of SentencePiece are read by their own library, which must be installed.

This page is written by `scripts/public_weights.py`.
"""


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    yield from _section("## `config.json`, of every family", common_keys.CONFIG)
    for name, family in FAMILIES.items():
        kinds = ", ".join(f"`{kind}`" for kind in family.kinds)
        own = {key: known for key, known in family.config_keys().items() if key not in _shared(name)}
        yield from _section(f"## {TITLES[name]}", own, f"Architectures: {kinds}.")
        for part, keys in family.parts.items():
            rest = {key: known for key, known in keys.items() if key not in _shared(name)}
            yield from _section(f"Its `{part}`:", rest)
    yield from _section("## Pictures: `preprocessor_config.json` of the families above that read them", PREPROCESSOR)
    yield from _section("## Sound: `preprocessor_config.json` of Whisper", SOUND)
    yield from _section("## Samples: `preprocessor_config.json` of HuBERT and wav2vec 2.0", WAVEFORM)
    writers = ", ".join(TITLES[name] for name in FAMILIES if _writes(name))
    yield from _section(f"## Writing: `generation_config.json` of {writers}", common_keys.WRITING, OLDER)
    yield from _section("The other families write no text:", common_keys.SILENT)
    yield from _section("All of them:", common_keys.GENERATION)
    yield from _section("## `tokenizer_config.json`", tokenizer_files.KEYS)
    yield from _section("## `adapter_config.json` of peft", peft_config.KEYS)
    yield from _section("## `config.json` of timm", timm_vit.KEYS)
    yield from _section("Its `pretrained_cfg`:", timm_vit.PRETRAINED)
    yield from _section("Its `model_args`:", timm_vit.ARGUMENTS)
    yield from _section("## `config.json` of CTranslate2", CT2_KEYS)


OLDER = "Older versions of `transformers` kept these in `config.json`."


def _shared(name: str) -> set[str]:
    """Keys with a table of their own."""
    writing = common_keys.WRITING if _writes(name) else common_keys.SILENT
    return ({*common_keys.CONFIG, *writing}) - set(FAMILIES[name].keys)


def _writes(name: str) -> bool:
    return FAMILIES[name].generation["eos_token_id"].status == "used"


def _section(title: str, keys: Keys, text: str = "") -> Iterator[str]:
    yield f"{title}\n"
    if text:
        yield f"{text}\n"
    yield from table(keys)
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
