"""Speech synthesis, and the digits that it says."""

import hashlib
import io
import os
import pickle
import random
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path

import numpy
import pytest
import torch
from contracts import check_source

import mmtx
from mmtx.data.audio import spoken_digits, synthesis
from mmtx.data.audio.spoken_digits import SpokenDigits
from mmtx.data.audio.synthesis import (
    NATIVE_RATE_HZ,
    SPEAKERS,
    UNSEEN_ACCENT,
    Voice,
    random_voice,
    synthesise,
    voice_names,
)
from mmtx.data.image.digits import NAMES
from mmtx.data.text.bpe import BPE
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError


def voice(name="en-us+f3", pitch=50, pitch_range=50, words_per_minute=175):
    return Voice(name=name, pitch=pitch, pitch_range=pitch_range, words_per_minute=words_per_minute)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of this test's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mmtx" / "spoken_digits"


def source(vocabulary=None, **changes):
    sizes = {"min_digits": 1, "max_digits": 3, "num_train": 8, "num_val": 3, "num_test": 3}
    return SpokenDigits(
        vocabulary=vocabulary or Characters(), **{**sizes, "sample_rate_hz": 16000, "split_seed": 0, **changes}
    )


def waveforms(split):
    return [split[i]["audio"]["waveform"] for i in range(len(split))]


def same(one, other):
    return len(one) == len(other) and all(a.equal(b) for a, b in zip(one, other, strict=True))


# --- synthesis --------------------------------------------------------------------------------------------------------

FLUTTERING = ["en-us+f1", "en-gb-x-rp+m1", "en-029+grandma", "en-us-nyc+adam", "en+f5"]
"""Voices with flutter, breath, echo, and Klatt's synthesiser: what remembers, and what is random."""

SAY = """
import hashlib, sys
from mmtx.data.audio.synthesis import Voice, synthesise

for name in sys.argv[1:]:
    voice = Voice(name=name, pitch=50, pitch_range=50, words_per_minute=175)
    waveform = synthesise("seven three zero", voice)
    print(len(waveform), hashlib.sha256(waveform.numpy().tobytes()).hexdigest())
"""


def python(code, *arguments):
    """Starts a process of its own that runs some code."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mmtx.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and not err, err
    return out


def test_the_same_words_sound_the_same_whatever_was_said_before_and_in_another_process():
    other_process = python(SAY, *reversed(FLUTTERING))
    first = {name: synthesise("seven three zero", voice(name)) for name in FLUTTERING}
    for name in FLUTTERING:
        synthesise("something else entirely, and longer", voice("en+m5", pitch=90, words_per_minute=300))
        assert synthesise("seven three zero", voice(name)).equal(first[name]), name
    hashes = [f"{len(x)} {hashlib.sha256(x.numpy().tobytes()).hexdigest()}" for x in reversed(list(first.values()))]
    assert output(other_process).splitlines() == hashes


def test_nothing_is_printed(capfd):
    synthesise("one", voice())
    with pytest.raises(InvalidValue):
        synthesise("one", voice("xx"))
    assert capfd.readouterr() == ("", "")


def test_waveforms_are_sane():
    for name in ("en+m1", "en-us+f1", "en-029+Andrea", "en-gb-scotland+linda"):
        for text in ("one", "seven three zero", "Go to the red ball!"):
            waveform = synthesise(text, voice(name))
            words = len(text.split())
            assert waveform.isfinite().all() and 0.2 < waveform.abs().max() <= 1
            assert 0.12 * words < len(waveform) / NATIVE_RATE_HZ < 0.5 + 0.6 * words
            loud = (waveform.abs() > 0.01).nonzero()
            assert loud[0] < 0.02 * NATIVE_RATE_HZ and loud[-1] > len(waveform) - 0.05 * NATIVE_RATE_HZ


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_resampling_keeps_duration_and_loudness(rate):
    native, waveform = synthesise("four", voice()), synthesise("four", voice(), rate)
    assert abs(len(waveform) / rate - len(native) / NATIVE_RATE_HZ) < 1e-3
    assert waveform.abs().max() <= 1
    assert float(waveform.square().mean() / native.square().mean()) == pytest.approx(1, abs=0.15)


def test_every_setting_of_a_voice_is_heard():
    plain = synthesise("nine", voice())
    changes = ({"name": "en-us+f4"}, {"name": "en-029+f3"}, {"pitch": 80}, {"pitch_range": 90})
    assert all(not same([plain], [synthesise("nine", voice(**change))]) for change in changes)
    assert len(synthesise("nine", voice(words_per_minute=300))) < 0.8 * len(plain)


def test_nothing_to_say_is_silence():
    for rate in (NATIVE_RATE_HZ, 16000):
        waveform = synthesise("", voice(), rate)
        assert len(waveform) < 0.1 * rate and not waveform.any()


def test_threads_take_turns():
    alone = [synthesise(name, voice()) for name in NAMES]
    together = [None] * 10

    def say(i):
        together[i] = synthesise(NAMES[i], voice())

    threads = [threading.Thread(target=say, args=[i]) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(alone, together)


def in_a_child(work):
    """Forks a process that ends with status 0 if its work gives something true."""
    child = os.fork()
    if child == 0:
        done = False
        try:
            done = bool(work())
        finally:
            os._exit(0 if done else 1)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_can_speak():
    before = synthesise("one", voice())
    child = in_a_child(lambda: same([synthesise("one", voice())], [before]))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "en-us+f33"}, r"^name=en-us\+f33 names a variant that espeak-ng lacks; nearest: did you mean 'f3'"),
        ({"name": "en-us+"}, r"^name=en-us\+ names a variant"),
        ({"name": "en-uk+f3"}, r"^name=en-uk\+f3 names a language that espeak-ng lacks; nearest: "),
        ({"name": ""}, r"^name= names a language"),
        ({"pitch": 100}, r"^pitch=100 must lie in 0..99; nearest: 99"),
        ({"pitch_range": -1}, r"^pitch_range=-1 must lie in 0..99; nearest: 0"),
        ({"words_per_minute": 20}, r"^words_per_minute=20 must lie in 80..450; nearest: 80"),
    ],
)
def test_voices_that_are_not_there_are_named(changes, message):
    with pytest.raises(InvalidValue, match=message):
        synthesise("one", voice(**changes))


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"espeak-ng, which is not installed .*pip install 'mmtx\[speech\]'"):
        synthesise("one", voice())
    monkeypatch.setattr(synthesis, "PACKAGE", "not-there-at-all")
    with pytest.raises(UserError, match=r"pip install 'mmtx\[speech\]'"):
        source()


def test_a_library_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    path, data = synthesis._installed()
    monkeypatch.setattr(synthesis, "_installed", lambda: (str(tmp_path / "gone.so"), data))
    with pytest.raises(UserError, match=r"espeak-ng cannot be loaded: .*gone.so"):
        synthesise("one", voice())
    for place in ("lang/gmw/en", "voices/!v/f3"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("")
    monkeypatch.setattr(synthesis, "_installed", lambda: (path, tmp_path))
    with pytest.raises(UserError, match=r"espeak-ng cannot read its data in "):
        synthesise("one", voice("en+f3"))


def test_another_user_of_the_library_in_this_process_is_noticed():
    other = synthesis._fresh_library(*synthesis._installed())
    with other, pytest.raises(UserError, match="is in use by something else in this process"):
        synthesise("one", voice())
    assert len(synthesise("one", voice()))


# --- voices -----------------------------------------------------------------------------------------------------------


def test_no_speaker_is_in_two_splits():
    for one, other in combinations(SPEAKERS, 2):
        assert not set(SPEAKERS[one]) & set(SPEAKERS[other])
    assert not any(name.startswith(UNSEEN_ACCENT) for split in ("train", "val") for name in voice_names(split))
    assert {len(voice_names(split)) for split in SPEAKERS} == {7 * 27, 7 * 6, 8 * 10}


def test_every_voice_is_there():
    speakers = {name.partition("+")[2]: name for split in SPEAKERS for name in voice_names(split)}
    accents = {name.partition("+")[0]: name for split in SPEAKERS for name in voice_names(split)}
    for name in (*speakers.values(), *accents.values()):
        assert synthesise("one", voice(name)).abs().max() > 0.1, name


def test_random_voices_are_those_of_the_split():
    generator = random.Random(0)
    drawn = {random_voice("val", generator) for _ in range(300)}
    assert {each.name for each in drawn} == set(voice_names("val"))
    assert len({each.pitch for each in drawn}) > 30 and len({each.words_per_minute for each in drawn}) > 60


# --- the dataset ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [Characters, lambda: BPE(vocab_size=270, path=None)])
def test_contract(vocabulary):
    check_source(source(vocabulary()))
    check_source(source(vocabulary(), max_digits=1))


def test_what_is_said_is_what_is_written():
    digits = source(num_train=40, num_val=0, num_test=0)
    counts, seen = set(), set()
    for i in range(40):
        sample = digits.train()[i]
        ids = sample["text"]["ids"].tolist()
        assert (ids[0], ids[-1]) == (digits.vocabulary.begin, digits.vocabulary.end)
        words = digits.vocabulary.decode(ids).split(" ")
        assert set(words) <= set(NAMES)
        seconds = len(sample["audio"]["waveform"]) / 16000
        assert 0.14 * len(words) < seconds < 0.6 * len(words) + 0.9
        counts.add(len(words))
        seen |= set(words)
    assert counts == {1, 2, 3} and seen == set(NAMES)


def test_clips_are_of_the_voice_and_the_digits(monkeypatch):
    said = []
    monkeypatch.setattr(spoken_digits, "synthesise", lambda *how: said.append(how) or synthesis.synthesise(*how))
    digits = source()
    splits = [("train", digits.train()), ("val", digits.val()), ("test", digits.test())]
    assert len(said) == 8 + 3 + 3
    for name, split in splits:
        for i in range(len(split)):
            text, who, rate = said.pop(0)
            assert digits.vocabulary.decode(split[i]["text"]["ids"].tolist()) == text
            assert who.name in voice_names(name) and rate == 16000
            assert split[i]["audio"]["waveform"].shape[0] >= len(synthesise(text, who, rate))


def test_waveforms_of_the_dataset():
    clips = waveforms(source(num_train=24, num_val=0, num_test=0).train())
    peaks = torch.stack([clip.abs().max() for clip in clips])
    assert 0.19 < peaks.min() < 0.4 and 0.8 < peaks.max() <= 1, "loudness differs from clip to clip"
    before = torch.tensor([int((clip != 0).nonzero()[0]) for clip in clips]) / 16000
    after = torch.tensor([int((clip.flip(0) != 0).nonzero()[0]) for clip in clips]) / 16000
    for silence in (before, after):
        assert silence.max() < 0.25 and silence.std() > 0.02


def test_labels_are_for_single_digits():
    assert set(source().specs) == {"audio", "text"} and "label" not in source().train()[0]
    single = source(max_digits=1)
    assert single.specs["label"].class_names == NAMES
    for i in range(8):
        sample = single.train()[i]
        assert single.vocabulary.decode(sample["text"]["ids"].tolist()) == NAMES[int(sample["label"]["class"])]


def test_the_specs_do_not_depend_on_the_draw():
    assert source().specs["audio"] == source(split_seed=1, num_train=3).specs["audio"]
    spec = source(sample_rate_hz=8000).specs["audio"]
    assert spec.sample_rate_hz == 8000 and spec.fields["waveform"].max_length == round((3 * 0.6 + 0.5 + 0.4) * 8000)


def test_a_clip_is_a_function_of_seed_split_and_index():
    few, many = source(), source(num_train=10, num_val=4, num_test=2)
    assert same(waveforms(few.train()), waveforms(many.train())[:8])
    assert same(waveforms(few.val()), waveforms(many.val())[:3])
    assert same(waveforms(few.test())[:2], waveforms(many.test()))
    assert not same(waveforms(few.train()), waveforms(source(split_seed=1).train()))


def test_splits_can_be_left_out():
    alone = source(num_val=0, num_test=0)
    assert alone.val() is None and alone.test() is None and len(alone.train()) == 8


def all_waveforms(digits):
    return [*waveforms(digits.train()), *waveforms(digits.val()), *waveforms(digits.test())]


def refuse(*_):
    raise AssertionError("it was in the cache")


def test_the_second_time_clips_come_from_the_cache(cache, monkeypatch):
    fresh = all_waveforms(source())
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(spoken_digits, "synthesise", refuse)
    assert same(all_waveforms(source()), fresh)
    with pytest.raises(AssertionError, match="it was in the cache"):
        source(split_seed=1)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "array", "fewer"])
def test_a_damaged_cache_is_made_anew(cache, capfd, damage):
    fresh = all_waveforms(source())
    file = next(cache.iterdir())
    content = file.read_bytes()
    middle = len(content) // 2
    array = io.BytesIO()
    numpy.save(array, numpy.zeros(3))
    fewer = io.BytesIO()
    numpy.savez(fewer, train_waveforms=numpy.zeros(1, numpy.int16), train_offsets=numpy.arange(2))
    file.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "other": pickle.dumps("not arrays"),
            "array": array.getvalue(),
            "fewer": fewer.getvalue(),
        }[damage]
    )
    assert same(all_waveforms(source()), fresh)
    printed = capfd.readouterr().err
    assert printed.startswith(f"mmtx: {file} cannot be read (") and printed.endswith("it is generated again\n")
    assert printed.count("\n") == 1 and file.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_no_error(cache, capfd):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert len(source().train()) == 8
    assert f"{cache}" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_can_make_the_cache_at_once(cache, monkeypatch):
    children = [in_a_child(lambda: all_waveforms(source())) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    with monkeypatch.context() as patch:
        patch.setattr(spoken_digits, "synthesise", refuse)
        theirs = all_waveforms(source())
    next(cache.iterdir()).unlink()
    assert same(all_waveforms(source()), theirs)


def test_splits_can_go_to_a_process_that_was_not_forked():
    split = source().train()
    assert pickle.loads(pickle.dumps(split))[3]["audio"]["waveform"].equal(split[3]["audio"]["waveform"])


@pytest.mark.parametrize(
    "key, value, limit",
    [
        ("min_digits", 0, "1..3"),
        ("min_digits", 4, "1..3"),
        ("max_digits", 0, "1..20"),
        ("max_digits", 21, "1..20"),
        ("num_train", 0, "1..1000000"),
        ("num_val", -1, "0..1000000"),
        ("num_test", -1, "0..1000000"),
        ("sample_rate_hz", 16, "8000..48000"),
    ],
)
def test_bad_values_are_named(key, value, limit):
    with pytest.raises(InvalidValue, match=f"^{key}={value} must lie in {limit}; nearest: "):
        source(**{key: value})
