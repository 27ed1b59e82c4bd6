"""Every vocabulary writes and reads what it is given, and survives being stored."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmtx.data.text.bpe import BPE
from mmtx.data.text.vocabulary import Bytes, Characters, TextVocabulary, Words
from mmtx.errors import InvalidValue, UserError

TEXTS = {
    "plain": "To be, or not to be",
    "empty": "",
    "line ends": "one\r\ntwo\n\n  three\rfour\t\n",
    "null": "a\0b\0",
    "byte-order mark": "\ufeffstart",
    "emoji": "👩‍👩‍👧 and 🎉🏳️‍🌈",
    "right to left": "שלום \u202eabc\u202c עולם",
    "combining": "e\u0301 é ﬁ Å",
    "far planes": "𝔘𝔫𝔦 𐍈 \U0010ffff",
    "marks": "<begin> is <end> <|endoftext|>",
}
EVERYTHING = "".join(TEXTS.values())


MAKE = {"characters": Characters, "words": Words, "bytes": Bytes, "bpe": lambda: BPE(vocab_size=300, path=None)}
KINDS = list(MAKE)


def make(kind: str) -> TextVocabulary:
    return MAKE[kind]()


def read_again(kind: str, text: str) -> str:
    """What is read where a text was written: words have one space between them."""
    return " ".join(text.split()) if kind == "words" else text


@pytest.mark.parametrize("marks", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again(kind, marks):
    vocabulary = make(kind)
    vocabulary.fit(TEXTS.values(), marks=marks)
    lengths = vocabulary.byte_lengths()
    assert len(lengths) == vocabulary.size
    for name, text in TEXTS.items():
        ids = vocabulary.encode(text)
        assert all(0 <= i < vocabulary.size for i in ids), name
        again = read_again(kind, text)
        assert vocabulary.decode(ids) == again, name
        last_space = int(kind == "words" and bool(ids))
        assert sum(lengths[i] for i in ids) == len(again.encode()) + last_space, name


@pytest.mark.parametrize("marks", [False, True])
@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
def test_ids_spell_the_text(kind, marks):
    vocabulary = make(kind)
    vocabulary.fit(TEXTS.values(), marks=marks)
    spellings = vocabulary.spellings()
    for name, text in TEXTS.items():
        assert b"".join(spellings[i] for i in vocabulary.encode(text)) == text.encode(), name
    assert [len(each) for each in spellings] == vocabulary.byte_lengths()
    assert len(set(spellings) - {b""}) == vocabulary.size - 2 * marks


@pytest.mark.parametrize("kind", KINDS)
def test_marks_are_ids_of_their_own(kind):
    vocabulary = make(kind)
    vocabulary.fit([EVERYTHING, "To be"], marks=True)
    begin, end = vocabulary.begin, vocabulary.end
    assert begin is not None and end is not None and begin != end
    assert {begin, end}.isdisjoint(vocabulary.encode(EVERYTHING))
    assert vocabulary.decode([begin, *vocabulary.encode("To be"), end]) == "To be"
    assert vocabulary.byte_lengths()[begin] == vocabulary.byte_lengths()[end] == 0
    vocabulary.fit([EVERYTHING], marks=False)
    assert vocabulary.begin is None and vocabulary.end is None


@pytest.mark.parametrize("marks", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_vocabulary_is_the_same(kind, marks):
    vocabulary, restored = make(kind), make(kind)
    vocabulary.fit(TEXTS.values(), marks=marks)
    restored.load(json.loads(json.dumps(vocabulary.state())))
    assert (restored.size, restored.begin, restored.end) == (vocabulary.size, vocabulary.begin, vocabulary.end)
    assert restored.byte_lengths() == vocabulary.byte_lengths()
    for text in TEXTS.values():
        assert restored.encode(text) == vocabulary.encode(text)
        assert restored.decode(vocabulary.encode(text)) == read_again(kind, text)


def test_characters_are_in_the_order_of_code_points():
    vocabulary = Characters()
    vocabulary.fit(["ba", "\n"], marks=False, held_out=["é"])
    assert vocabulary.symbols == ["\n", "a", "b", "é"]


def test_an_unknown_character_is_named():
    vocabulary = Characters()
    vocabulary.fit(["abc"], marks=True)
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\) at offset 2 .* 3 characters .*bytes"):
        vocabulary.encode("abécé")


def test_words_are_what_stands_between_white_space():
    vocabulary = Words()
    vocabulary.fit(["HH AH  L OW\n", "\tAH"], marks=True, held_out=["ZH"])
    assert vocabulary.symbols == ["AH", "HH", "L", "OW", "ZH"]
    assert vocabulary.encode(" HH\tAH L OW") == [1, 0, 2, 3]
    assert vocabulary.decode([vocabulary.begin, 1, 0, 2, 3, vocabulary.end]) == "HH AH L OW"
    assert vocabulary.byte_lengths() == [3, 3, 2, 3, 3, 0, 0]


def test_an_unknown_word_is_named():
    vocabulary = Words()
    vocabulary.fit(["HH AH L OW"], marks=True)
    with pytest.raises(UserError, match=r"'AHL', word 3 of a text, is not among the 4 words .*vocabulary=bytes"):
        vocabulary.encode("HH AH AHL")


def test_bytes_that_are_cut_decode_to_a_replacement():
    assert Bytes().decode(list("é".encode())[:1]) == "\ufffd"


def test_bpe_learns_nothing_from_what_is_held_out():
    alone, beside = make("bpe"), make("bpe")
    alone.fit(["to be or not to be " * 20], marks=False)
    beside.fit(["to be or not to be " * 20], marks=False, held_out=["zyzzyva " * 200])
    assert alone.state() == beside.state()
    assert beside.decode(beside.encode("zyzzyva")) == "zyzzyva"


def test_bpe_writes_less_than_bytes():
    vocabulary = make("bpe")
    vocabulary.fit(["to be or not to be " * 20], marks=False)
    assert vocabulary.size <= 300
    assert len(vocabulary.encode("to be or not")) < len("to be or not")


@pytest.mark.parametrize(
    "line", ["word, and\n\n\n  next 'll line!\r\n\t", "\n", "no end of line ", " \n \n", "a\u00a0\n\u3000\n\nb"]
)
def test_bpe_of_a_long_text_is_cut_where_it_does_not_show(line):
    vocabulary = make("bpe")
    vocabulary.fit([line * 100], marks=False)  # has merges of line ends, which a cut between them would show in
    for shift in range(len(line)):
        text = "-" * shift + line * (12_000 // len(line))
        assert vocabulary.encode(text) == vocabulary._tokenizer.encode(text, add_special_tokens=False).ids


def test_bpe_in_lower_case_is_that_of_lowered_texts():
    """Learned, stored and loaded; all that it writes is lowered."""
    text = "Ein Haus, zwei HÄUSER; Straße und STRASSE.\n"
    lowered, plain = (BPE(vocab_size=280, path=None, lowercase=lowers) for lowers in (True, False))
    restored = make("bpe")
    lowered.fit([text * 9], marks=True)
    plain.fit([text.lower() * 9], marks=True)
    restored.load(json.loads(json.dumps(lowered.state())))
    for vocabulary in (lowered, restored):
        assert vocabulary.encode(text) == plain.encode(text.lower())
        assert vocabulary.decode(vocabulary.encode(text)) == text.lower()


def test_bpe_too_small_is_refused():
    with pytest.raises(InvalidValue, match=r"vocabulary.vocab_size=100 must hold .*258"):
        BPE(vocab_size=100, path=None)


def byte_level_file(folder: Path, special: str) -> Path:
    """A tokenizer made elsewhere, in a manner that may not be cut at line ends."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, special_tokens=[special])
    tokenizer.train_from_iterator(["to be or not to be " * 20], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_a_tokenizer_from_elsewhere(tmp_path):
    file = byte_level_file(tmp_path, special="<|ende|>")
    vocabulary = BPE(vocab_size=0, path=str(file))
    vocabulary.fit(["unused"], marks=True)
    learnt = Tokenizer.from_file(str(file)).get_vocab_size()
    assert vocabulary.size == learnt + 2 and {vocabulary.begin, vocabulary.end} == {learnt, learnt + 1}
    text = "to be\nor <|ende|>\n" * 1000  # long enough to be cut
    assert vocabulary.decode(vocabulary.encode(text)) == " " + text
    special = vocabulary._tokenizer.token_to_id("<|ende|>")
    assert vocabulary.byte_lengths()[special] == 0


def test_what_is_no_byte_level_tokenizer_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match=r"vocabulary.path=.*nowhere.json is not a file"):
        BPE(vocab_size=300, path=str(tmp_path / "nowhere.json")).fit(["a"], marks=False)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InvalidValue, match=r"vocabulary.path=.*broken.json is not a tokenizer.json"):
        BPE(vocab_size=300, path=str(broken)).fit(["a"], marks=False)
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(InvalidValue, match=r"vocabulary.path=.*words.json is not byte-level BPE"):
        BPE(vocab_size=300, path=str(tmp_path / "words.json")).fit(["a"], marks=False)
