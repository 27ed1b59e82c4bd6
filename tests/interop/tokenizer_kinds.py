"""Small tokenizers of each kind that the decoder families come with, and files of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
WORDS = ["low lower lowest new newer newest, the then them 123 1234 I'm we'll\n\n  two spaces  "] * 5
CHAT = ("<|endoftext|>", "<|im_end|>", "<|begin|>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TO_SPACES = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def byte_level(digits: str, *, nfc: bool = False, ignore_merges: bool = False) -> Any:
    """Bytes after a split by a regular expression, with numbers of so many digits."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT.replace("DIGITS", digits)), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([*CHAT])
    return tokenizer


def llama3() -> Any:
    tokenizer = byte_level("{1,3}", ignore_merges=True)
    return begun(tokenizer, "<|begin|>")


def pieces(marks: list[str]) -> Any:
    """Pairs of characters with a sign for spaces, and bytes of those that are no token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[*marks, *BYTES], show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["content"] in marks]
    return Tokenizer.from_str(json.dumps(parts))


def llama2() -> Any:
    """A space in front of a text is normalisation."""
    tokenizer = pieces(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([*TO_SPACES, decoders.Strip(" ", 1, 0)])
    return begun(tokenizer, "<s>")


def mistral() -> Any:
    """A space in front of a text is part of its splitting."""
    tokenizer = llama2()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def gemma() -> Any:
    """No space in front."""
    tokenizer = pieces(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([*TO_SPACES])
    return begun(tokenizer, "<bos>")


def begun(tokenizer: Any, mark: str) -> Any:
    """With a mark in front of every text."""
    mark_and_id = (mark, tokenizer.token_to_id(mark))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{mark} $A", special_tokens=[mark_and_id])
    return tokenizer


SENTENCES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
BEGUN = {"bos_token": "<|begin|>", "eos_token": "<|im_end|>"}
KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "llama3": (llama3, "llama", {"tokenizer_class": "PreTrainedTokenizerFast", **BEGUN}),
    "llama2": (llama2, "llama", {"tokenizer_class": "PreTrainedTokenizerFast", **SENTENCES}),
    "mistral": (mistral, "mistral", {"tokenizer_class": "LlamaTokenizer", **SENTENCES}),
    "mixtral": (mistral, "mixtral", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **SENTENCES}),
    "qwen2": (
        lambda: byte_level("", nfc=True),
        "qwen2",
        {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "add_prefix_space": False},
    ),
    "qwen3_moe": (
        lambda: byte_level("", nfc=True),
        "qwen3_moe",
        {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "eos_token": "<|im_end|>"},
    ),
    "gemma2": (
        gemma,
        "gemma2",
        {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"},
    ),
    "gemma3": (
        gemma,
        "gemma3_text",
        {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<bos>", "eos_token": "<eos>"},
    ),
    "olmo2": (lambda: byte_level("{1,3}"), "olmo2", {"tokenizer_class": "GPT2Tokenizer", "eos_token": CHAT[0]}),
    "gpt_oss": (llama3, "gpt_oss", {"tokenizer_class": "PreTrainedTokenizerFast", **BEGUN}),
}
"""A maker, the family, and what its tokenizer_config.json has."""


def written(name: str, folder: Path) -> Path:
    """The files of a kind."""
    make, family, config = KINDS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make()
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(number): {key: getattr(token, key) for key in FLAGS}
        for number, token in tokenizer.get_added_tokens_decoder().items()
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": added}))
    if not (folder / "config.json").is_file():
        (folder / "config.json").write_text(json.dumps({"model_type": family}))
    return folder


FLAGS = ("content", "lstrip", "rstrip", "single_word", "normalized", "special")
