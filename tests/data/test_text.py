"""Text on disk and in the standard library, as windows of a stream."""

import pickle
import sysconfig

import pytest
from contracts import check_source

from mmtx.data.text import text_file as text_files
from mmtx.data.text.bpe import BPE
from mmtx.data.text.python_docs import PythonDocs
from mmtx.data.text.text_file import TextFile, TextStream, read_text
from mmtx.data.text.vocabulary import Bytes, Characters
from mmtx.errors import InvalidValue, UserError


def stream(text="abcdefghij" * 30, vocabulary=None, context=8, val_fraction=0.1, test_context=None):
    sizes = {"context": context, "val_fraction": val_fraction, "test_context": test_context}
    return TextStream(text=text, vocabulary=vocabulary or Characters(), where="this text", **sizes)


def text_file(path, vocabulary=None, context=4, val_fraction=0.2):
    return TextFile(path=path, vocabulary=vocabulary or Characters(), context=context, val_fraction=val_fraction)


def python_docs(max_chars=50_000, vocabulary=None, context=64):
    return PythonDocs(vocabulary=vocabulary or Characters(), context=context, val_fraction=0.1, max_chars=max_chars)


@pytest.mark.parametrize(
    "vocabulary", [Characters(), Bytes(), BPE(vocab_size=270, path=None)], ids=lambda v: type(v).__name__
)
def test_contract_of_streams(vocabulary):
    check_source(stream("To be, or not to be: that is the question. 👋\r\n" * 40, vocabulary))


def test_training_has_a_window_at_every_offset():
    source = stream("abcdefghijklmnop", context=4, val_fraction=0.25)
    windows = [
        source.vocabulary.decode(sample["text"]["ids"].tolist()) for sample in map(source.train().__getitem__, range(8))
    ]
    assert windows == ["abcde", "bcdef", "cdefg", "defgh", "efghi", "fghij", "ghijk", "hijkl"]
    assert len(source.train()) == 8


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6, 8, 9, 10, 21])
def test_validation_predicts_every_id_but_the_first_once(length):
    source = stream(
        "x" * 100 + "".join(chr(200 + i) for i in range(length)), context=4, val_fraction=length / (100 + length)
    )
    val = source.val()
    windows = [source.vocabulary.decode(val[i]["text"]["ids"].tolist()) for i in range(len(val))]
    assert "".join(window[1:] for window in windows) == "".join(chr(200 + i) for i in range(1, length))
    assert all(len(window) <= 5 for window in windows)


def test_the_test_is_the_validation_in_longer_windows():
    source = stream("x" * 90 + "abcdefghij", context=4, val_fraction=0.1, test_context=6)
    test = source.test()
    windows = [source.vocabulary.decode(test[i]["text"]["ids"].tolist()) for i in range(len(test))]
    assert windows == ["abcdefg", "ghij"]
    assert source.specs["text"].max_length == 7
    check_source(source)
    assert stream().test() is None
    with pytest.raises(InvalidValue, match=r"^test_context=4 must be more than context=4; nearest: null$"):
        stream(context=4, test_context=4)


def test_a_stream_too_short_is_refused_with_what_it_needs():
    with pytest.raises(UserError, match=r"this text gives 3 ids for training; a window needs 9 \(data.context=8\)"):
        stream("abcde", val_fraction=0.4)
    with pytest.raises(UserError, match=r"gives 1 ids for validation; a window needs 2"):
        stream("a" * 20, val_fraction=0.05)


@pytest.mark.parametrize("kind", [Characters, Bytes, lambda: BPE(vocab_size=270, path=None)])
def test_an_empty_file_is_a_user_error(tmp_path, kind):
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"data.path=.*empty.txt gives 0 ids for training"):
        text_file(str(tmp_path / "empty.txt"), kind())


@pytest.mark.parametrize("key, value", [("context", 0), ("val_fraction", 0.0), ("val_fraction", 1.0)])
def test_bad_values_are_named(key, value):
    with pytest.raises(InvalidValue, match=f"^{key}={value} "):
        stream(**{key: value})


def test_merges_are_learned_from_the_training_part_only():
    text = "to be or not to be " * 50
    learnt = stream(text + "zyzzyva" * 20, BPE(vocab_size=300, path=None), val_fraction=140 / (len(text) + 140))
    alone = BPE(vocab_size=300, path=None)
    alone.fit([text], marks=False)
    assert learnt.vocabulary.state() == alone.state()


def test_characters_of_the_held_out_part_can_be_written():
    assert "é" in stream("a" * 90 + "é" * 10).vocabulary.symbols


def test_a_file_is_read_byte_for_byte(tmp_path):
    content = "first\r\nsecond\n\0\ttab שלום 🎉\r"
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert read_text(tmp_path / "a.txt") == content
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read_text(tmp_path / "b.txt") == content, "the byte-order mark is dropped"


@pytest.mark.parametrize(
    "content, byte, offset", [(b"abc\xff", "ff", 3), ("é".encode("latin-1"), "e9", 0), ("hi".encode("utf-16"), "ff", 0)]
)
def test_what_is_not_utf_8_is_named(tmp_path, content, byte, offset):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"bad.txt is not UTF-8: byte 0x{byte} at offset {offset}"):
        text_file(str(tmp_path / "bad.txt"))


def test_files_are_joined_in_the_order_given(tmp_path, monkeypatch):
    for name, content in {"b.txt": "bbbbb", "a.txt": "aaaaa", "c[1].txt": "ccccc"}.items():
        (tmp_path / name).write_text(content)

    def whole(path):
        source = text_file(path, val_fraction=0.2, context=1)
        parts = [(source.train(), len(source.train())), (source.val(), len(source.val()))]
        letters = [
            [source.vocabulary.decode(part[i]["text"]["ids"].tolist()) for i in range(count)] for part, count in parts
        ]
        return "".join(pair[0] for part in letters for pair in [*part, part[-1][1]])

    assert whole([str(tmp_path / "b.txt"), str(tmp_path / "a.txt")]) == "bbbbbaaaaa"
    assert whole(str(tmp_path / "[ab].txt")) == "aaaaabbbbb", "a pattern gives its files in the order of their names"
    assert whole([str(tmp_path / "c[1].txt"), str(tmp_path / "a.txt")]) == "cccccaaaaa", "a file's name is no pattern"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert whole("~/[ab].txt") == "aaaaabbbbb"


def test_a_file_is_read_once(tmp_path, capsys):
    """Under whatever paths: what is held out must not have been read before."""
    for name, content in {"a.txt": "abcde" * 4, "b.txt": "fghij" * 4, "copy.txt": "abcde" * 4}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "link.txt").symlink_to("b.txt")
    paths = [str(tmp_path / "b.txt"), str(tmp_path / "*.txt"), str(tmp_path / "b.txt")]
    source = text_file(paths, context=19, val_fraction=0.5)
    ids = [split[0]["text"]["ids"].tolist() for split in (source.train(), source.val())]
    assert [source.vocabulary.decode(each) for each in ids] == ["fghij" * 4, "abcde" * 4]
    warning = f"leaves out 4 files that it has read already, as {tmp_path}/copy.txt, {tmp_path}/link.txt\n"
    assert capsys.readouterr().err.endswith(warning)
    text_file([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], context=19, val_fraction=0.5)
    assert capsys.readouterr().err == ""


def test_a_path_to_nothing_is_named(tmp_path):
    with pytest.raises(InvalidValue, match=r"^path=.*nothing\*.txt is neither a file nor a pattern that matches any"):
        text_file(str(tmp_path / "nothing*.txt"))


def test_contract_of_python_docs():
    check_source(python_docs())


def test_python_docs_are_printable_ascii_and_the_same_each_time():
    source, again = python_docs(), python_docs()
    assert set(source.vocabulary.symbols) <= {"\n", *map(chr, range(32, 127))}
    assert len(source.train()) == 45_000 - 64
    assert source.train()[12_345]["text"]["ids"].equal(again.train()[12_345]["text"]["ids"])
    longer = python_docs(max_chars=60_000)  # is the same text, and more of it
    assert longer.vocabulary.decode(longer.train()[44_000]["text"]["ids"].tolist()) == source.vocabulary.decode(
        source.train()[44_000]["text"]["ids"].tolist()
    )


def test_python_docs_without_a_source(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UserError, match=r"holds no source of the standard library"):
        python_docs()
    with pytest.raises(InvalidValue, match=r"^max_chars=0 "):
        python_docs(max_chars=0)


def test_python_docs_leave_out_tests_and_other_alphabets(monkeypatch, tmp_path):
    for name, content in {
        "good.py": b"good = 1\r\n",
        "package/inner.py": b"inner = 2\n",
        "test/test_good.py": b"left_out\n",
        "site-packages/other.py": b"left_out\n",
        "accent.py": "left_out = 'é'\n".encode(),
        "tab.py": b"\tleft_out\n",
        "notes.txt": b"left_out",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    source = python_docs(context=1)
    assert sorted(source.vocabulary.symbols) == sorted(set("good = 1\ninner = 2\n"))


@pytest.mark.parametrize("kind", [Characters, Bytes, lambda: BPE(vocab_size=270, path=None)])
def test_a_split_can_go_to_a_process_that_was_not_forked(kind):
    split = stream("to be, or not to be: that is it. " * 9, kind()).train()
    assert pickle.loads(pickle.dumps(split))[3]["text"]["ids"].equal(split[3]["text"]["ids"])


def test_a_large_text_is_fitted_and_encoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be, that is the question.\n" * 50)

    def made(vocabulary):
        return TextFile(path=str(file), vocabulary=vocabulary, context=8, val_fraction=0.1)

    plain = made(BPE(vocab_size=270, path=None))
    monkeypatch.setattr(text_files, "KEPT_CHARS", 1000)
    first = made(BPE(vocab_size=270, path=None))
    for method in ("fit", "encode"):
        monkeypatch.setattr(BPE, method, lambda *_, **__: pytest.fail("it is done again"))
    again = made(BPE(vocab_size=270, path=None))
    for source in (first, again):
        assert source.specs["text"].vocabulary.state() == plain.specs["text"].vocabulary.state()
        assert [source.train()[i]["text"]["ids"].tolist() for i in (0, 9)] == [
            plain.train()[i]["text"]["ids"].tolist() for i in (0, 9)
        ]
    file.write_text("Another text.\n" * 100)
    with pytest.raises(pytest.fail.Exception, match="it is done again"):
        made(BPE(vocab_size=270, path=None))
