"""The tokenizers of the decoder families: ids and texts of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

from public import llama, saved  # noqa: E402
from test_tokenizers import pieces  # noqa: E402
from tokenizer_kinds import CHAT, KINDS, written  # noqa: E402

import mmtx  # noqa: E402
from mmtx.data.text.pretrained_vocabulary import Pretrained  # noqa: E402
from mmtx.errors import UserError  # noqa: E402

TEXTS = [
    *(
        "low lower lowest",
        "  two  spaces ",
        "a\n\n b\r\n\tc",
        "Über ñandú e\u0301",
        "👩‍🚀🚀 日本",
        "1234567 12",
        "I'M we'll",
    ),
    *(f"<s>low</s> <bos> {CHAT[1]} <0x41> x", "", " ", "\n", "▁low"),
]


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_texts(name: str, tmp_path: Path) -> None:
    """A text that spells a special token is text, as theirs has it by ``split_special_tokens``."""
    vocabulary = Pretrained(path=str(written(name, tmp_path)), begin=None, end=None, prefix=[], size=None)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = vocabulary.encode(text)
        assert ids == theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"], text
        assert vocabulary.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    if "qwen" in name or "llama3" in name:
        assert sum(vocabulary.byte_lengths()[i] for i in vocabulary.encode("low 🚀 日本\n")) == len(
            "low 🚀 日本\n".encode()
        )


@pytest.mark.parametrize("name", ["llama3", "llama2"])
def test_marks_in_front_come_with_the_model(name: str, tmp_path: Path) -> None:
    folder = written(name, saved(llama(vocab_size=400), tmp_path / "public"))
    mmtx.to_pretrained(mmtx.from_pretrained(folder), tmp_path / "again")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for place in (folder, tmp_path / "again"):
        vocabulary = mmtx.from_pretrained(place).specs["text"].vocabulary
        assert vocabulary.encode("low 12") == theirs("low 12")["input_ids"]
        assert vocabulary.encode("low")[0] == theirs.bos_token_id


def test_a_model_of_sentencepiece_alone(tmp_path: Path) -> None:
    """Which marks stand around a text is in no such file."""
    folder = saved(llama(vocab_size=400), tmp_path)
    pieces(folder, "tokenizer.model")
    with pytest.raises(UserError, match=r"model of SentencePiece alone.* save a tokenizer\.json"):
        mmtx.from_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    with pytest.raises(UserError, match=r"LlamaTokenizer reads tokenizer\.model otherwise; save a tokenizer\.json"):
        mmtx.from_pretrained(folder)
