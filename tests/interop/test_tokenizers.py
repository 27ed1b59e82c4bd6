"""Tokenizer files of public models: the ids and texts of `transformers` and of openai-whisper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from public import bert, gpt2, llama, saved, t5, whisper  # noqa: E402
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers.models.esm.configuration_esm import get_default_vocab_list  # noqa: E402

import mmtx  # noqa: E402
from mmtx.data.text.bpe import BPE  # noqa: E402
from mmtx.data.text.pretrained_vocabulary import Numbers, Pretrained  # noqa: E402
from mmtx.data.text.tokenizer_files import find_tokenizer  # noqa: E402
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


PROTEINS = ["MKTAYIAKQR", "M K T", "mk TJ.A-", "A<null_1>B", "xyzAxyz  jj A", "", "AB\nCD", " <x A<"]


@pytest.mark.parametrize("config", ["tokenizer_config", "config"])
def test_residues(config: str, tmp_path: Path) -> None:
    """By the class that its files name, or the family of the model beside it."""
    (tmp_path / "vocab.txt").write_text("\n".join(get_default_vocab_list()))
    named = {"tokenizer_class": "EsmTokenizer"} if config == "tokenizer_config" else {"model_type": "esm"}
    (tmp_path / f"{config}.json").write_text(json.dumps(named))
    theirs = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    vocabulary = Pretrained(path=str(tmp_path), begin="<cls>", end="<eos>", prefix=[], size=None)
    assert (vocabulary.begin, vocabulary.end, vocabulary.size) == (0, 2, 33)
    for text in PROTEINS:
        ids = vocabulary.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert vocabulary.decode([0, *ids, 2]) == theirs.decode(ids, skip_special_tokens=True)
    assert vocabulary.encode("A<mask>A") == [5, 3, 3, 5]  # a text is only ever text


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


@pytest.mark.parametrize("name", [pytest.param("gpt2", marks=pytest.mark.slow), "multilingual"])
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


PIECES = ["the lowest things", "newer  and low", " ﬁne ½ newest ", "a<sep>b <s> 2024", "Ünknown 日本", "tab\there", ""]


def pieces(folder: Path, name: str, **options: Any) -> Any:
    """A small model of SentencePiece under a name, and its library's processor."""
    spm = pytest.importorskip("sentencepiece")
    (folder / "text.txt").write_text("the low lower lowest of the newer and newest things 12 7\n" * 50)
    spm.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "made"), minloglevel=2, hard_vocab_limit=False,
        **{"vocab_size": 40, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, **options},
    )  # fmt: skip
    (folder / "made.model").rename(folder / name)
    return spm.SentencePieceProcessor(model_file=str(folder / name))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_type": "bpe"},
        {"model_type": "word", "vocab_size": 12},
        {"model_type": "char"},
        {"byte_fallback": True, "vocab_size": 300},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False},
        {"normalization_rule_name": "nfkc_cf", "split_digits": True},
        {"user_defined_symbols": ["<sep>"], "control_symbols": ["<s>"], "bos_id": -1},
    ],
    ids=str,
)
def test_pieces(options: dict[str, Any], tmp_path: Path) -> None:
    """Every kind of model and rule, as the library reads it; saved with a run, too."""
    theirs = pieces(tmp_path, "tokenizer.model", **options)
    vocabulary = Pretrained(path=str(tmp_path), begin=None, end="</s>", prefix=[], size=None)
    again = Pretrained.__new__(Pretrained)
    again.load(json.loads(json.dumps(vocabulary.state())))
    for text in PIECES:
        ids = theirs.encode(text)
        assert vocabulary.encode(text) == again.encode(text) == ids
        assert vocabulary.decode([*ids, 1]) == theirs.decode(ids)
    assert vocabulary.byte_lengths()[1] == 0


@pytest.mark.parametrize("config", ["tokenizer_config", "config"])
def test_pieces_of_canonical_texts(config: str, tmp_path: Path) -> None:
    """SigLIP's are in lower case and without punctuation; saved with a run, too."""
    pieces(tmp_path, "spiece.model")
    theirs = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    named = {"tokenizer_class": "SiglipTokenizer"} if config == "tokenizer_config" else {"model_type": "siglip"}
    (tmp_path / f"{config}.json").write_text(json.dumps(named))
    vocabulary = Pretrained(path=str(tmp_path), begin=None, end="</s>", prefix=[], size=None)
    again = Pretrained.__new__(Pretrained)
    again.load(json.loads(json.dumps(vocabulary.state())))
    assert vocabulary.size == theirs.vocab_size
    for text in ("The LOWEST, things!", "  newer --\tlow?", "it's 12 (of 7)", "Ünknown 日本"):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert vocabulary.encode(text) == again.encode(text) == ids


def test_sentinels_stand_behind_the_pieces_of_t5(tmp_path: Path) -> None:
    """And come out again with its weights."""
    theirs = pieces(saved(t5(vocab_size=200), tmp_path), "spiece.model")
    tokenizer = find_tokenizer(tmp_path)
    assert tokenizer.token_to_id("<extra_id_0>") == theirs.get_piece_size() + 99
    assert tokenizer.encode("low <extra_id_0>").ids == theirs.encode("low <extra_id_0>")
    mmtx.to_pretrained(mmtx.from_pretrained(tmp_path), tmp_path / "again")
    assert (tmp_path / "again" / "spiece.model").read_bytes() == (tmp_path / "spiece.model").read_bytes()
    assert find_tokenizer(tmp_path / "again").get_vocab_size() == tokenizer.get_vocab_size()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("sentencepiece.bpe.model", {}, "its ids are shifted"),
        ("spiece.model", {"tokenizer_class": "AlbertTokenizer"}, "AlbertTokenizer reads spiece.model otherwise"),
        ("spiece.model", {"sp_model_kwargs": {"enable_sampling": True}}, "sp_model_kwargs="),
        ("spiece.model", {"added_tokens_decoder": {"999": {"content": "covid"}}}, "'covid' is no piece"),
    ],
)
def test_pieces_that_are_read_otherwise(name: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    pieces(tmp_path, name)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(given))
    with pytest.raises(UserError, match=message):
        find_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False},
        {"do_lower_case": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_what_bert_does_with_letters(given: dict[str, Any], name: str, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "möchte", "mochte", "ich", "Ich", "中", "国", "中国"]
    if name == "vocab.txt":
        (tmp_path / name).write_text("\n".join(words), encoding="utf-8")
    else:
        theirs = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
        theirs.backend_tokenizer.save(str(tmp_path / name))
    config = {"tokenizer_class": "BertTokenizer", **given}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    expected = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}, **given)
    vocabulary = Pretrained(path=str(tmp_path), begin="[CLS]", end="[SEP]", prefix=[], size=None)
    for text in ("Ich möchte", "中国 ich"):
        assert vocabulary.encode(text) == expected.encode(text, add_special_tokens=False)


ADDED = [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": False}, {"special": True}]


@pytest.mark.parametrize("flags", [None, *ADDED], ids=str)
def test_words_that_were_added(flags: dict[str, bool] | None, tmp_path: Path) -> None:
    """By ``added_tokens.json``, and with flags; a special one is not read out of a text."""
    folder = byte_pairs(tmp_path)
    first = json.loads((folder / "added_tokens.json").read_text())["<|endoftext|>"]
    if flags is None:
        (folder / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": first, "covid19": first + 1}))
    else:
        usual = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
        entries = {str(first): {"content": "<|endoftext|>", "special": True}}
        entries[str(first + 1)] = {"content": "covid19", **usual, **flags}
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": entries}))
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    vocabulary = Pretrained(path=str(folder), begin=None, end="<|endoftext|>", prefix=[], size=None)
    for text in ("low covid19 lower", "covid199", "xcovid19."):
        ids = theirs.encode(text)
        assert (vocabulary.encode(text) == ids) is not (flags == {"special": True})
        assert vocabulary.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("stored", ["truncation", "padding", "nothing"])
def test_what_a_tokenizer_json_has_stored_is_not_done_to_texts(stored: str, tmp_path: Path) -> None:
    tokenizer = find_tokenizer(byte_pairs(tmp_path))
    if stored == "truncation":
        tokenizer.enable_truncation(3)
    if stored == "padding":
        tokenizer.enable_padding(length=64, pad_id=0, pad_token="!")
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    text = "the newest lower than the newer"
    own = BPE(vocab_size=300, path=str(file))
    own.fit([], marks=False)
    for vocabulary in (own, Pretrained(path=str(file), begin=None, end=None, prefix=[], size=None)):
        assert vocabulary.decode(vocabulary.encode(text)) == text
        assert 0 not in vocabulary.encode(text)


def test_letters_that_a_tokenizer_lacks(tmp_path: Path) -> None:
    """Pairs that were learnt without all bytes, and words without an unknown one, leave out nothing."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(["the quick fox\n"] * 9, trainers.BpeTrainer(vocab_size=60, show_progress=False))
    tokenizer.add_tokens(["ZZ"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    own = BPE(vocab_size=300, path=str(tmp_path / "tokenizer.json"))
    own.fit([], marks=False)
    for vocabulary in (own, Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None)):
        assert vocabulary.decode(vocabulary.encode("the ZZ fox\n")) == "the ZZ fox\n"
        with pytest.raises(UserError, match=r"the character 'é' at offset 2 cannot be written"):
            vocabulary.encode("the"[:2] + "é")
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="?"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="cannot write 'c'"):
        Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None).encode("c")


@pytest.mark.parametrize("ends", [{"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}])
def test_letters_that_a_tokenizer_lacks_in_one_place(ends: dict[str, str], tmp_path: Path) -> None:
    """The library leaves out a letter that it knows at another place of a word."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "##b": 1, "b</w>": 2}, [], **ends))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None)
    assert len(vocabulary.encode("ab")) == 2
    assert tokenizer.encode("ba").ids == []
    with pytest.raises(UserError, match="cannot be written"):
        vocabulary.encode("ba")


def test_bytes_that_a_tokenizer_falls_back_to(tmp_path: Path) -> None:
    """Each is one byte, however it is spelt; where it lacks some, a letter of them is an error."""
    letters = {"▁": 0, "a": 1, "<0xC3>": 7, "<0xA9>": 9}  # with numbers left out
    tokenizer = Tokenizer(models.BPE(letters, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None)
    ids = vocabulary.encode("a é")
    assert (ids, vocabulary.decode(ids), vocabulary.size) == ([1, 0, 7, 9], "a é", 10)
    assert [vocabulary.byte_lengths()[i] for i in ids] == [1, 1, 1, 1]
    with pytest.raises(UserError, match="character 'ü' at offset 1 cannot be written"):
        vocabulary.encode("aü")


def test_words_that_end_in_a_mark(tmp_path: Path) -> None:
    """The mark stands for a space."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b</w>": 1, "ab</w>": 2}, [("a", "b</w>")], end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None).byte_lengths() == [1, 2, 3]


def test_an_older_file_beside_a_newer_one(tmp_path: Path) -> None:
    """``added_tokens.json`` has one token more than ``tokenizer.json``."""
    folder = word_pieces(saved(bert(vocab_size=200), tmp_path), True)
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    theirs.save_pretrained(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"covid19": len(theirs)}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    vocabulary = Pretrained(path=str(folder), begin="[CLS]", end="[SEP]", prefix=[], size=None)
    ids = vocabulary.encode("low Covid19")
    assert ids == theirs.encode("low Covid19", add_special_tokens=False)
    assert len(theirs) - 1 in ids


@pytest.mark.parametrize("behind", ["", " </s>"])
def test_what_a_tokenizer_puts_in_front_of_a_text(behind: str, tmp_path: Path) -> None:
    """GPT-2 itself has nothing there; a text that ends at once is not written on."""
    folder = saved(gpt2(vocab_size=310), tmp_path)
    tokenizer = find_tokenizer(byte_pairs(folder))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    marks = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"<s> $A{behind}", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = mmtx.from_pretrained(folder).specs["text"].vocabulary.encode("lower")
    assert ids == tokenizer.encode("lower", add_special_tokens=not behind).ids


def test_a_tokenizer_that_draws_at_random(tmp_path: Path) -> None:
    tokenizer = find_tokenizer(byte_pairs(tmp_path))
    tokenizer.model.dropout = 0.5
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"dropout=0\.5: it splits words at random"):
        Pretrained(path=str(tmp_path), begin=None, end=None, prefix=[], size=None)
    own = BPE(vocab_size=300, path=str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"dropout=0\.5: it splits words at random"):
        own.fit([], marks=False)


def test_a_tokenizer_larger_than_the_embedding(tmp_path: Path) -> None:
    """A special token beyond it comes out of no text; another would."""
    folder = byte_pairs(saved(gpt2(vocab_size=290), tmp_path))
    tokenizer = find_tokenizer(folder)
    tokenizer.add_special_tokens([f"<|{i}|>" for i in range(290 - tokenizer.get_vocab_size() + 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    mmtx.from_pretrained(folder)
    tokenizer.add_tokens(["covid19"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"vocabulary.size=290 .* has 'covid19' at 291"):
        mmtx.from_pretrained(folder)


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


def metaspace(folder: Path) -> Path:
    """A ``tokenizer.json`` of no kind that belongs to a family."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["low lower lowest new newer"] * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}'
    )
    return folder


def begins_texts(folder: Path) -> Path:
    """A ``tokenizer.json`` as Llama 3 has it: bytes, and a mark in front of every text."""
    tokenizer = find_tokenizer(byte_pairs(folder / "pairs"))
    mark = ("<|begin|>", tokenizer.get_vocab_size())
    tokenizer.add_special_tokens([mark[0]])
    template = processors.TemplateProcessing(single=f"{mark[0]} $A", special_tokens=[mark])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": mark[0], "eos_token": "<|endoftext|>", "add_bos_token": True, "chat_template": "x"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    return folder


@pytest.mark.parametrize(
    "name", ["bert", "bert-cased", "gpt2", "gpt2-space", "gpt2-metaspace", "t5", "whisper", "llama"]
)
def test_their_library_reads_a_tokenizer_that_went_through_ours(name: str, tmp_path: Path) -> None:
    """The same ids, marks included, and the same inputs of the model."""
    make = {"bert": bert, "gpt2": gpt2, "t5": t5, "whisper": whisper, "llama": llama}[name.split("-")[0]]
    folder = saved(make(vocab_size=320), tmp_path / "public")
    if name.startswith("bert"):
        word_pieces(folder, lower=name == "bert")
    elif name == "t5":
        pieces(folder, "spiece.model")
        transformers.T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
    elif name == "gpt2-metaspace":
        metaspace(folder)
    elif name == "llama":
        begins_texts(folder)
    else:
        byte_pairs(folder)
        (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": name == "gpt2-space"}))
    mmtx.to_pretrained(mmtx.from_pretrained(folder), tmp_path / "again")
    theirs, again = (transformers.AutoTokenizer.from_pretrained(place) for place in (folder, tmp_path / "again"))
    for text in TEXTS[:3]:
        read, expected = again(text), theirs(text)
        if name.startswith("gpt2-meta"):
            expected.pop("token_type_ids", None)  # which GPT-2 would add to its embeddings
        assert dict(read) == dict(expected)
        assert again.decode(read["input_ids"], skip_special_tokens=True) == theirs.decode(
            expected["input_ids"], skip_special_tokens=True
        )
    assert not name.startswith("bert") or (again.mask_token, again.pad_token) == ("[MASK]", "[PAD]")
    mmtx.from_pretrained(tmp_path / "again")
