"""The tokenizer of ESM: each residue of a protein is a token."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

ROLES = {"cls_token": "<cls>", "eos_token": "<eos>", "pad_token": "<pad>", "mask_token": "<mask>", "unk_token": "<unk>"}
"""Of ESM's own spelling."""


def residues(file: Path, spelt: Mapping[str, str]) -> Any:
    """A tokenizer of the `tokenizers` library: ``vocab.txt`` has a token a line. What no line spells is unknown, up to
    the next space or residue.

    Args:
        file: ``vocab.txt``.
        spelt: spelling of the tokens of some roles, where it is not ESM's.
    """
    from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel

    tokens = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    vocabulary, roles = {token: number for number, token in enumerate(tokens)}, {**ROLES, **spelt}
    special = [token for token in dict.fromkeys(roles.values()) if token in vocabulary]
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=roles["unk_token"]))
    split = pre_tokenizers.Split(Regex(_apart(vocabulary.keys() - {*special}, special)), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split])
    tokenizer.add_special_tokens(special)
    first, last = roles["cls_token"], roles["eos_token"]
    if first in vocabulary and last in vocabulary:
        marks = [(mark, vocabulary[mark]) for mark in (first, last)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=marks)
    return tokenizer


def _apart(residues: Collection[str], special: Collection[str]) -> str:
    """The pattern of what stands alone in a text: a residue, the longest first, and the first letter of what spells a
    special token, as a text is only ever text."""
    longest = sorted(filter(None, residues), key=lambda token: (-len(token), token))
    begins = [f"{re.escape(mark[0])}(?={re.escape(mark[1:])})" for mark in special]
    return "|".join([*map(re.escape, longest), *begins])
