"""Windows over a long recording, and one text out of theirs."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from random_sets import examples

from mmtx.errors import InvalidValue
from mmtx.generation.transcript import joined, sound_files, windows


def test_sounds_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their names or by what they hold; what is left out is named, unless a system left it behind."""
    sounds = [tmp_path / name for name in ("a.wav", "b.FLAC", "c.aiff", "d.mp3", "e", "f.wav.1")]
    for file, kind in zip(sounds, ("WAV", "FLAC", "AIFF", "MP3", "OGG", "WAV"), strict=True):
        soundfile.write(file, numpy.zeros(1600), 16_000, format=kind)
    for junk in ("._a.wav", ".DS_Store", "Thumbs.db"):
        (tmp_path / junk).write_bytes(b"no sound")
    assert sound_files(tmp_path) == sounds
    assert capsys.readouterr().err == ""
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    assert sound_files(tmp_path) == sounds
    left_out = "2 files left out, as no sound file that can be read: notes.txt, song.m4a"
    assert capsys.readouterr().err == f"{tmp_path}: {left_out}\n"
    (tmp_path / "g.mp3").write_bytes(b"no sound")
    assert sound_files(tmp_path) == sorted([*sounds, tmp_path / "g.mp3"]), "one that cannot be read is never left out"
    (tmp_path / "list.tsv").write_text("text\tpath\none\td.mp3\n")
    assert sound_files(tmp_path / "list.tsv") == [tmp_path / "d.mp3"]


@examples(100)
@given(st.integers(1, 500), st.integers(2, 60), st.data())
def test_windows_cover_a_recording(length: int, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest - 1))
    spans = windows(length, longest, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(0 < stop - start <= longest for start, stop in spans)
    for (_, stop), (start, _) in zip(spans, spans[1:], strict=False):
        assert stop - start >= overlap, "neighbours overlap as requested"
    assert len(spans) == 1 or len(spans) <= -(-(length - overlap) // (longest - overlap)), "no window more than needed"


def test_windows_that_would_not_advance_are_refused() -> None:
    assert windows(5, 10, 30) == [(0, 5)]
    with pytest.raises(InvalidValue, match=r"overlap_seconds=10 \(in samples\) must be less than the 10 of a window"):
        windows(20, 10, 10)


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["one two three", "three four"], "one two three four"),
        (["one two three", "two three four"], "one two three four"),
        (["one two thr", "two three four"], "one two three four"),
        (["one two", "ree four"], "one two ree four"),
        (["", "one two"], "one two"),
        (["one", ""], "one"),
        (["one one", "one one two"], "one one two"),
    ],
)
def test_what_overlaps_say_is_said_once(texts: list[str], whole: str) -> None:
    """Words at the edge of a window may be cut off; what the other window heard whole stays."""
    assert " ".join(filter(None, joined(texts, [0.0, 0.4]))) == whole


def test_windows_that_do_not_overlap_keep_their_words() -> None:
    assert joined(["one two", "two three"], [0.0, 0.0]) == ["one two", "two three"]


@examples(60)
@given(st.lists(st.integers(0, 10_000), min_size=4, max_size=40, unique=True), st.integers(4, 12), st.integers(2, 3))
def test_texts_heard_right_are_joined_right(words: list[int], longest: int, overlap: int) -> None:
    """Of a recording with a word a second, no word of which is said twice."""
    spans = windows(len(words), longest, overlap)
    texts = [" ".join(map(str, words[a:b])) for a, b in spans]
    stops = [0, *(b for _, b in spans)]
    shares = [max(0, last - a) / (b - a) for (a, b), last in zip(spans, stops, strict=False)]
    assert " ".join(joined(texts, shares)) == " ".join(map(str, words))
