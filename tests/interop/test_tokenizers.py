"""Tokenizer files of public models: the ids and texts of `transformers` and of openai-whisper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from public import gpt2, saved, whisper  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

import mmtx  # noqa: E402
from mmtx.data.pretrained_vocabulary import Numbers, Pretrained  # noqa: E402
from mmtx.data.tokenizer_files import find_tokenizer  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.tiktoken import from_ranks  # noqa: E402

TEXTS = [
    "Low lower lowest, newer!",
    "Über ñandú, 1234",
    "  two spaces\nand a line",
    "[CLS] is <|endoftext|> a word",
    "",
]


def byte_pairs(folder: Path) -> Path:
    """``vocab.json`` and ``merges.txt``, learnt from a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["low lower lowest new newer newest the then them"] * 5, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": tokenizer.get_vocab_size()}))
    return folder


def word_pieces(folder: Path, lower: bool) -> Path:
    letters = [chr(i) for i in range(33, 127)]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        "low",
        "##er",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    return folder


def test_byte_pairs(tmp_path: Path) -> None:
    folder = byte_pairs(tmp_path)
    vocabulary = Pretrained(path=str(folder), begin=None, end="<|endoftext|>", prefix=[], size=None)
    theirs = transformers.GPT2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    assert vocabulary.end == vocabulary.size - 1
    for text in TEXTS[:3]:
        ids = vocabulary.encode(text)
        assert ids == theirs(text)["input_ids"]
        assert vocabulary.decode(ids) == text
        assert sum(vocabulary.byte_lengths()[i] for i in ids) == len(text.encode())


@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces(lower: bool, tmp_path: Path) -> None:
    folder = word_pieces(tmp_path, lower)
    vocabulary = Pretrained(path=str(folder), begin="[CLS]", end="[SEP]", prefix=[], size=None)
    theirs = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=lower)
    assert (vocabulary.begin, vocabulary.end) == (2, 3)
    for text in TEXTS[:3]:
        ids = vocabulary.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert vocabulary.decode([2, *ids, 3]) == theirs.decode(ids, skip_special_tokens=True)


def test_a_text_is_only_ever_text(tmp_path: Path) -> None:
    vocabulary = Pretrained(path=str(word_pieces(tmp_path, True)), begin="[CLS]", end="[SEP]", prefix=[], size=None)
    assert 2 not in vocabulary.encode(TEXTS[3])


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json"])
def test_states_come_back(kind: str, tmp_path: Path) -> None:
    folder = byte_pairs(tmp_path)
    if kind == "tokenizer.json":
        find_tokenizer(folder).save(str(folder / kind))
    vocabulary = Pretrained(path=str(folder), begin=None, end="<|endoftext|>", prefix=["<|endoftext|>"], size=400)
    again = Pretrained.__new__(Pretrained)
    again.load(json.loads(json.dumps(vocabulary.state())))
    assert (again.size, again.begin, again.end) == (400, None, vocabulary.end)
    for text in TEXTS:
        assert again.encode(text) == vocabulary.encode(text)
        assert again.encode(text)[0] == vocabulary.end
        assert again.decode(again.encode(text)) == text


@pytest.mark.parametrize("name", ["gpt2", "multilingual"])
def test_whisper(name: str) -> None:
    """From its ranks, all of them; the same ids as tiktoken gives."""
    encoding = pytest.importorskip("whisper.tokenizer").get_encoding(name)
    tokenizer = from_ranks(encoding._mergeable_ranks, encoding._special_tokens)
    assert tokenizer.get_vocab_size() == encoding.n_vocab
    for token in ("<|startoftranscript|>", "<|notimestamps|>", "<|en|>"):
        assert tokenizer.token_to_id(token) == encoding.encode_single_token(token)
    for text in [*TEXTS[:3], "The quick brown fox's 日本語 don't"]:
        ids = encoding.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids
        assert tokenizer.decode(ids) == text


def test_pieces(tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    (tmp_path / "text.txt").write_text("the low lower lowest of the newer and newest things\n" * 50)
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "spiece"), vocab_size=40, minloglevel=2,
        hard_vocab_limit=False,        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    tokenizer = find_tokenizer(tmp_path)
    assert tokenizer.token_to_id("<extra_id_0>") == theirs.get_piece_size() + 99
    for text in ("the lowest things", "newer  and low", "ﬁne newest"):
        assert tokenizer.encode(text, add_special_tokens=False).ids == theirs.encode(text)


@pytest.mark.parametrize(
    ("name", "content"), [("tokenizer.json", "{}"), ("vocab.json", "[]"), ("spiece.model", "nothing")]
)
def test_files_that_are_no_tokenizers(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        find_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "holds no tokenizer"),
        ({"begin": "<s>"}, "vocabulary.begin=<s> is not a token"),
        ({"size": 7}, "vocabulary.size=7"),
    ],
)
def test_vocabularies_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    keys = {"path": str(byte_pairs(tmp_path)), "begin": None, "end": "<|endoftext|>", "prefix": [], "size": None}
    with pytest.raises(UserError, match=message):
        Pretrained(**{**keys, **changes})


def test_without_a_tokenizer_a_text_is_numbers() -> None:
    vocabulary = Numbers(size=12, begin=10, end=11)
    assert vocabulary.encode("3 1 4") == [3, 1, 4]
    assert vocabulary.decode([10, 3, 1, 11]) == "3 1"
    with pytest.raises(UserError, match=r"write ids of 0\.\.11, not 'three'"):
        vocabulary.encode("three")


def test_tokenizers_come_with_the_weights(tmp_path: Path) -> None:
    """From text to text, and out again with the weights."""
    folder = byte_pairs(saved(gpt2(vocab_size=310), tmp_path / "public"))
    ours = mmtx.from_pretrained(folder)
    vocabulary = ours.specs["text"].vocabulary
    assert vocabulary.decode(vocabulary.encode("lower and newer")) == "lower and newer"
    assert vocabulary.size == 310
    mmtx.to_pretrained(ours, tmp_path / "again")
    assert find_tokenizer(tmp_path / "again").encode("lower").ids == find_tokenizer(folder).encode("lower").ids
    assert mmtx.from_pretrained(saved(whisper(), tmp_path / "bare")).specs["text"].vocabulary.encode("5 6") == [5, 6]
