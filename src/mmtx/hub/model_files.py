"""Names of the files that a model consists of: those of public families, and those that mmtx writes."""

import re
from collections.abc import Collection

DESCRIPTION = "mmtx.json"
"""What mmtx knows of a model beside its weights."""
OWN = (DESCRIPTION, "config.yaml")

WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin"),
)
"""Files of weights in a folder; the first that exists is read. The last is CTranslate2's."""

SIDE_FILES = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"),
    "chat_template.json",
)
"""Files of a public model beside its weights."""

CARD = "README.md"
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+(\.safetensors|\.bin)")


def files_to_read(names: Collection[str]) -> list[str]:
    """Of the files of a repository, those that mmtx reads: never two forms of the same weights."""
    weights = next((name for name in WEIGHTS if name in names), None)
    shards = [name for name in names if weights and weights.endswith(".index.json") and _is_shard_of(name, weights)]
    return sorted([*({*OWN, *SIDE_FILES} & set(names)), *shards, *([weights] if weights else [])])


def holds_weights(name: str) -> bool:
    """Whether a file has weights, or the index of those that have."""
    return name in WEIGHTS or SHARD.fullmatch(name) is not None


def is_of_a_model(name: str) -> bool:
    """Whether a file belongs to a model, so that it is uploaded with it, and taken away with it."""
    return name in {*OWN, *SIDE_FILES, CARD} or holds_weights(name)


def _is_shard_of(name: str, index: str) -> bool:
    found = SHARD.fullmatch(name)
    return found is not None and index == f"{found[1]}{found[2]}.index.json"
