"""The tokenizer of public models for CTC: a token for each character, one of which stands for a space."""

import json
from collections.abc import Mapping
from typing import Any

from mmtx.errors import UserError

ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""The usual spelling of its tokens of several characters."""
DELIMITER = "|"
ANY_CHARACTER = r"[\s\S]"


def character_tokenizer(vocabulary: Mapping[str, int], spelt: Mapping[str, str], delimiter: str) -> Any:
    """A tokenizer of the `tokenizers` library. Padding, the blank of CTC, is written as nothing.

    Args:
        vocabulary: ids of ``vocab.json``.
        spelt: the tokens of roles, where they are not as usual.
        delimiter: what stands for a space.

    Raises:
        UserError: a token of several characters has no role, so that a text is not spelt by characters.
    """
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel

    roles = {**ROLES, **spelt}
    longer = [token for token in vocabulary if len(token) > 1 and token not in {*roles.values(), delimiter}]
    if longer:
        problem = f"the token {longer[0]!r} has several characters"
        raise UserError(f"{problem}; a vocab.json without merges.txt has one for each, and those of roles")
    tokenizer = Tokenizer(WordLevel({**vocabulary}, unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.Replace(" ", delimiter)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
    endless = 2**31
    strip = decoders.Strip(" ", endless, endless)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(delimiter, " "), decoders.Fuse(), strip])
    if roles["pad_token"] in vocabulary:
        tokenizer.add_special_tokens([roles["pad_token"]])
    return tokenizer


def spelt_by_characters(tokenizer: str) -> tuple[dict[str, int], str, str] | None:
    """Vocabulary, unknown token and delimiter of a `character_tokenizer`, from its JSON; None for another."""
    parts = json.loads(tokenizer)
    normalizer, before, model = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}, parts["model"]
    splits = before.get("type") == "Split" and before.get("pattern") == {"Regex": ANY_CHARACTER}
    if model["type"] != "WordLevel" or not splits or normalizer.get("type") != "Replace":
        return None
    return model["vocab"], model["unk_token"], normalizer["content"]
