"""Datasets of recordings."""

import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest
import torch
from contracts import check_source
from small_data import small_audio_manifest, small_fsdd, small_librispeech, small_speech_commands, write_sound

from mmtx import errors
from mmtx.data.audio import librispeech, speech_commands
from mmtx.data.audio.audio_manifest import AudioManifest
from mmtx.data.audio.fsdd import FSDD
from mmtx.data.audio.librispeech import LibriSpeech
from mmtx.data.audio.sound_file import read_sound, trim_silence
from mmtx.data.audio.speech_commands import SpeechCommands
from mmtx.data.base import origin_of
from mmtx.data.files import public_file
from mmtx.data.files.public_archive import PublicArchive
from mmtx.data.fitted import FittedState
from mmtx.data.text.bpe import BPE
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError


def text_of(source, sample):
    return source.specs["text"].vocabulary.decode(sample["text"]["ids"].tolist())


def texts_of(source, split):
    return [text_of(source, split[i]) for i in range(len(split))]


def sounds_of(split):
    return {split[i]["audio"]["waveform"].numpy().tobytes() for i in range(len(split))}


def files_of(recordings):
    return {recording.file for recording in recordings}


# --- spoken digits ----------------------------------------------------------------------------------------------------


def fsdd(path, test_speakers=None, val_fraction=0.1, split_seed=0, **changed):
    given = {
        "vocabulary": Characters(),
        "sample_rate_hz": 8000,
        "resample": False,
        "max_seconds": 2.5,
        "trim_db": None,
        **changed,
    }
    return FSDD(path=str(path), test_speakers=test_speakers, val_fraction=val_fraction, split_seed=split_seed, **given)


@pytest.fixture
def digits(tmp_path):
    small_fsdd(tmp_path)
    return tmp_path


def test_contract_of_fsdd(digits):
    check_source(fsdd(digits))
    check_source(fsdd(digits, test_speakers=["bob"]))
    check_source(fsdd(digits, val_fraction=0.0, sample_rate_hz=16_000, resample=True))
    check_source(fsdd(digits, vocabulary=BPE(vocab_size=265, path=None)))


def test_the_official_split_of_fsdd(digits):
    source = fsdd(digits)
    assert [len(source.train()), len(source.val()), len(source.test())] == [54, 6, 100]
    assert {int(file.stem[-1]) for file in files_of(source.items["test"])} == {0, 1, 2, 3, 4}
    assert {int(file.stem[-1]) for file in files_of([*source.items["train"], *source.items["val"]])} == {5, 6, 7}
    assert len(sounds_of(source.train()) | sounds_of(source.val()) | sounds_of(source.test())) == 160
    assert fsdd(digits, val_fraction=0.0).val() is None
    assert files_of(fsdd(digits, split_seed=1).items["val"]) != files_of(source.items["val"])
    assert files_of(fsdd(digits, split_seed=1).items["test"]) == files_of(source.items["test"])


def test_speakers_of_the_test_are_not_in_training(digits):
    small_fsdd(digits, speakers=("eve",))
    source = fsdd(digits, test_speakers=["bob", "eve"])
    assert [len(source.train()), len(source.val()), len(source.test())] == [72, 8, 160]
    assert {file.stem.split("_")[1] for file in files_of([*source.items["train"], *source.items["val"]])} == {"ann"}
    assert files_of(source.items["test"]) == {file for file in digits.glob("*.wav") if "ann" not in file.name}


def test_validation_of_fsdd_is_stratified(digits):
    source = fsdd(digits, val_fraction=1 / 3)
    val = source.val()
    assert torch.stack([val[i]["label"]["class"] for i in range(len(val))]).bincount().tolist() == [2] * 10


def test_speakers_of_fsdd_are_known_and_new_ones_lack_the_name(digits, tmp_path_factory):
    source = fsdd(digits)
    assert source.specs["speaker"].class_names == ("ann", "bob")
    for i, recording in enumerate(source.items["test"]):
        assert int(source.test()[i]["speaker"]["class"]) == ("_bob_" in recording.file.name)
    others = tmp_path_factory.mktemp("others")
    small_fsdd(others, speakers=("bob", "eve"))
    with FittedState.from_run(source.specs, source.fitted.state()).active():
        later = fsdd(others)
    assert later.specs["speaker"].class_names == ("ann", "bob")
    samples = [(later.test()[i], recording.file.name) for i, recording in enumerate(later.items["test"])]
    assert all(("speaker" in sample) == ("_bob_" in name) for sample, name in samples)


def test_a_sample_of_fsdd_is_its_file(digits):
    source = fsdd(digits)
    split = source.test()
    for i, recording in enumerate(source.items["test"]):
        sample, digit = split[i], int(recording.file.name[0])
        assert sample["audio"]["waveform"].equal(
            read_sound(recording.file, sample_rate_hz=8000, resample=False, max_seconds=1.0)
        )
        assert int(sample["label"]["class"]) == digit
        assert text_of(source, sample) == source.specs["label"].class_names[digit]
        assert origin_of(split, i) == str(recording.file)
    split[7]["audio"]["waveform"].zero_()
    assert split[7]["audio"]["waveform"].any(), "what is done to a sample does not reach the data"
    assert source.specs["audio"].sample_rate_hz == 8000
    assert source.specs["audio"].fields["waveform"].max_length == 20_000


@pytest.mark.parametrize(
    "changed, problem",
    [
        ({"test_speakers": ["bop"]}, "^test_speakers=bop is not a speaker; did you mean 'bob'"),
        ({"test_speakers": ["ann", "bob"]}, "^test_speakers=.*leaves no speaker to train on"),
        ({"test_speakers": []}, "^test_speakers=.* names nobody; nearest: null"),
        ({"val_fraction": 1.0}, r"^val_fraction=1.0 must lie in \[0, 1\)"),
        ({"val_fraction": 0.001}, "^val_fraction=0.001 of 60 samples holds none out"),
        ({"sample_rate_hz": 10}, "^sample_rate_hz=10 must lie in 1000..192000"),
        ({"max_seconds": float("nan")}, "^max_seconds=nan must be at least 0.01"),
        ({"max_seconds": 0.0}, "^max_seconds=0.0 must be at least 0.01"),
        (
            {"sample_rate_hz": 16_000},
            r"^160 problems with the recordings:\n(.*8000 Hz.*resample=true.*\n){10} .*150 more",
        ),
        ({"max_seconds": 0.165}, r"^20 problems .*\n.*_7.wav has 0.17 s; data.max_seconds=0.165"),
    ],
)
def test_bad_values_of_fsdd_are_named(digits, changed, problem):
    with pytest.raises(UserError, match=problem):
        fsdd(digits, **changed)


def test_bad_folders_of_fsdd_are_named(digits, tmp_path_factory):
    with pytest.raises(InvalidValue, match="^path=.*nowhere is not a folder"):
        fsdd(digits / "nowhere")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "README.md").write_text("nothing here")
    with pytest.raises(InvalidValue, match="^path=.*empty.* holds no files {digit}_.*https://github.com/Jakob"):
        fsdd(empty)
    small_fsdd(empty / "recordings", indices=[0, 5])
    with pytest.raises(InvalidValue, match="nearest: .*recordings$"):
        fsdd(empty)
    (digits / "README.md").write_text("is named, and left out")
    (digits / "._0_ann_0.wav").write_bytes(b"is hidden")
    fsdd(digits)
    write_sound(digits / "ten_ann_0.wav", rate=8000)
    write_sound(digits / "1_ann_05.WAV", rate=8000)
    with pytest.raises(UserError, match="holds 1_ann_05.WAV, ten_ann_0.wav, where WAV files are called {digit}_"):
        fsdd(digits)


def test_recordings_of_the_test_are_not_among_those_of_training(digits):
    shutil.copy(digits / "3_ann_0.wav", digits / "3_ann_6.wav")
    with pytest.raises(UserError, match="3_ann_0.wav holds the same as .*3_ann_6.wav, which is in another split"):
        fsdd(digits)


def test_digits_that_are_missing_are_named(digits):
    for file in [*digits.glob("3_*_[5-7].wav"), *digits.glob("7_*.wav")]:
        file.unlink()
    with pytest.raises(UserError, match="has no recordings of three, seven to train on, of 48"):
        fsdd(digits)
    for file in digits.glob("*_[5-7].wav"):
        file.unlink()
    with pytest.raises(UserError, match="none of index 5 and above.*for the training.*data.test_speakers"):
        fsdd(digits)


def test_all_damaged_recordings_are_reported_together(digits):
    (digits / "0_ann_0.wav").write_bytes(b"")
    (digits / "9_bob_7.wav").write_bytes((digits / "9_bob_7.wav").read_bytes()[:-10])
    with pytest.raises(UserError, match=r"(?s)^2 problems.*9_bob_7.wav is cut short.*0_ann_0.wav is empty \(0 bytes\)"):
        fsdd(digits)


def real(folder):
    if "MMTX_DATA" not in os.environ:
        pytest.skip(f"MMTX_DATA is not set: it names the folder of real data, here {folder}/*.wav")
    return Path(os.environ["MMTX_DATA"]) / folder


@pytest.mark.slow
def test_real_fsdd(unchecked):
    folder = real("fsdd")
    source = fsdd(folder)
    check_source(source)
    assert [len(source.train()), len(source.val()), len(source.test())] == [1620, 180, 200]
    assert source.specs["text"].fields["ids"].max_length == 7
    sizes = [len(split[i]["audio"]["waveform"]) for split in (source.train(), source.val(), source.test())
             for i in range(len(split))]  # fmt: skip
    assert sum(sizes) * 4 == 29_259_536 and max(sizes) == 18_262
    parts = [sounds_of(split) for split in (source.train(), source.val(), source.test())]
    assert parts[0].isdisjoint(parts[2]) and parts[1].isdisjoint(parts[2])
    for speaker in ("jackson", "lucas", "nicolas", "theo"):
        source = fsdd(folder, test_speakers=[speaker])
        assert [len(source.train()), len(source.val()), len(source.test())] == [1350, 150, 500]
        assert {file.stem.split("_")[1] for file in files_of(source.items["test"])} == {speaker}
        assert speaker not in {
            file.stem.split("_")[1] for file in files_of([*source.items["train"], *source.items["val"]])
        }


# --- a manifest -------------------------------------------------------------------------------------------------------


def manifest(path, val_path=None, test_path=None, val_fraction=0.1, test_fraction=0.1, split_seed=0, **changed):
    given = {
        "vocabulary": Characters(),
        "sample_rate_hz": 16_000,
        "resample": False,
        "max_seconds": 0.5,
        "trim_db": None,
        **changed,
    }
    return AudioManifest(
        path=str(path),
        val_path=val_path and str(val_path),
        test_path=test_path and str(test_path),
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        **given,
    )


@pytest.fixture
def folder(tmp_path):
    small_audio_manifest(tmp_path)
    return tmp_path


def listing(folder, name, rows, header="path,text"):
    (folder / name).write_text("\n".join([header, *rows]))
    return folder / name


def test_contract_of_a_manifest(folder):
    check_source(manifest(folder / "train.csv"))
    check_source(manifest(folder / "train.csv", val_fraction=0.0, test_fraction=0.0))
    check_source(manifest(folder / "train.csv", sample_rate_hz=8000, resample=True))
    text = listing(folder, "text.csv", ["sounds/1.wav,one", "sounds/2.wav,two"])
    check_source(manifest(text, val_fraction=0.0, test_fraction=0.0))
    label = listing(folder, "label.csv", [f"sounds/{i}.wav,{i % 2}" for i in range(10)], "path,label")
    paths = listing(folder, "paths.csv", ["sounds/1.wav", "sounds/2.wav"], "path")
    assert set(manifest(paths, val_fraction=0.0, test_fraction=0.0).specs) == {"audio"}
    source = manifest(label, val_fraction=0.2)
    check_source(source)
    assert set(source.specs) == {"audio", "label"} and source.specs["label"].class_names == ("0", "1")


def test_a_manifest_is_dealt_out_stratified_without_overlap(folder):
    source = manifest(folder / "train.csv", val_fraction=0.2, test_fraction=0.3)
    splits = [source.train(), source.val(), source.test()]
    parts = [sounds_of(split) for split in splits]
    assert [len(part) for part in parts] == [10, 4, 6] and len(set.union(*parts)) == 20
    for split in splits:
        assert sum(int(split[i]["label"]["class"]) for i in range(len(split))) == len(split) // 2
    other = manifest(folder / "train.csv", split_seed=1)
    assert sounds_of(other.test()) != sounds_of(manifest(folder / "train.csv").test())
    assert manifest(folder / "train.csv", test_fraction=0.0).test() is None
    assert manifest(folder / "train.csv", val_fraction=0.0).val() is None


def test_rows_of_one_file_stay_together(folder):
    rows = [f"sounds/{i}.wav,{word} {i}" for i in range(10) for word in ("first", "second")]
    source = manifest(listing(folder, "twice.csv", rows), val_fraction=0.3, test_fraction=0.2)
    parts = [source.train(), source.val(), source.test()]
    assert [len(part) for part in parts] == [10, 6, 4]
    assert len(set.union(*map(sounds_of, parts))) == sum(len(sounds_of(part)) for part in parts) == 10


def test_one_sound_under_two_paths_is_in_one_split(folder):
    rows = []
    for i in range(10):
        (folder / f"link{i}.wav").symlink_to(folder / "sounds" / f"{i}.wav")
        shutil.copy(folder / "sounds" / f"{i}.wav", folder / f"copy{i}.flac")
        rows += [f"sounds/{i}.wav,one", f"sounds/../link{i}.wav,two", f"copy{i}.flac,three"]
    path = listing(folder, "twice.csv", rows)
    for seed in range(3):
        source = manifest(path, val_fraction=0.3, test_fraction=0.2, split_seed=seed)
        parts = [sounds_of(split) for split in (source.train(), source.val(), source.test())]
        assert [len(part) for part in parts] == [5, 3, 2] and len(set.union(*parts)) == 10
        assert [len(split) for split in (source.train(), source.val(), source.test())] == [15, 9, 6]
    (folder / "held").mkdir()
    val = listing(folder / "held", "val.csv", ["../copy3.flac,a", "../link4.wav,b"])
    with pytest.raises(UserError) as caught:
        manifest(listing(folder, "one.csv", rows[::3]), val_path=val)
    reported = str(caught.value).splitlines()
    first = f"{folder}/one.csv, row 5 (train): take one of them out"
    assert reported[1] == f"    - {val}, row 2 (val) holds the same file as {first}"
    assert f"{val}, row 3 (val) holds" in reported[2] and len(reported) == 3


def test_given_manifests_are_the_splits(folder):
    val = listing(folder, "val.csv", ["sounds/a.wav,held out,odd"], "path,text,label")
    test = folder / "more" / "test.jsonl"
    write_sound(folder / "sounds" / "a.wav", seed=100)
    absolute = folder / "more" / "c.wav"
    write_sound(absolute, seed=101)
    rows = [{"path": "b.wav", "text": "bé", "label": "even"}, {"path": str(absolute), "text": "c", "label": "odd"}]
    test.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    write_sound(test.parent / "b.wav", seed=102)
    source = manifest(folder / "train.csv", val_path=val, test_path=test, val_fraction=0.9, test_fraction=0.9)
    assert [len(source.train()), len(source.val()), len(source.test())] == [20, 1, 2]
    assert texts_of(source, source.test()) == ["bé", "c"], "characters that are held out can be written"
    assert [int(source.test()[i]["label"]["class"]) for i in (0, 1)] == [0, 1]
    assert [source.test().origin(i) for i in (0, 1)] == [f"{test}, line 1", f"{test}, line 3"]
    check_source(source)


def test_manifests_of_every_hand(folder):
    """Quotes, a byte-order mark, line ends of Windows, empty lines, other columns and another order."""
    content = 'speaker,text,path\r\nann,"yes, ""sir""\nand no",sounds/1.wav\r\n\r\nbob, nö ,sounds/2.wav\r\n'
    for mark in (b"", b"\xef\xbb\xbf"):
        (folder / "a.csv").write_bytes(mark + content.encode())
        source = manifest(folder / "a.csv", val_fraction=0.0, test_fraction=0.0)
        assert texts_of(source, source.train()) == ['yes, "sir"\nand no', " nö "]
    lines = [
        '{"path": "sounds/1.wav", "label": 3, "text": "one\\u2028two"}',
        '{"path": "sounds/2.wav", "label": "x", "text": "ä"}',
    ]
    for mark in (b"", b"\xef\xbb\xbf"):
        (folder / "a.jsonl").write_bytes(mark + "\r\n".join(lines).encode())
        source = manifest(folder / "a.jsonl", val_fraction=0.0, test_fraction=0.0)
        assert texts_of(source, source.train()) == ["one\u2028two", "ä"]
        assert source.specs["label"].class_names == ("3", "x")


def test_everything_wrong_with_a_manifest_is_reported_at_once(folder, monkeypatch):
    monkeypatch.setattr(errors, "MOST_PROBLEMS", 12)
    write_sound(folder / "slow.wav", rate=8000)
    write_sound(folder / "long.wav", seconds=0.6)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "words.wav").write_bytes(b"no sound " * 99)
    train = listing(
        folder,
        "bad.csv",
        [
            "nothing.wav,a,x",
            "slow.wav,b,x",
            "long.wav,c,x",
            "empty.wav,  ,x",
            ",e,x",
            "sounds/1.wav,f,",
            "sounds/2.wav,g,x,more",
        ],
        "path,text,label",
    )
    val = listing(folder, "val.csv", ["words.wav,h,x", "sounds/1.wav,i,y", "slow.wav,j,x"], "path,text,label")
    with pytest.raises(UserError) as caught:
        manifest(train, val_path=val)
    reported = str(caught.value)
    assert reported.startswith(f"12 problems with {train}, {val}:\n")
    for problem in [
        f"{train}, row 8 has 4 fields, and the header 3; text with commas goes in quotes",
        f"{train}, row 5: text is empty",
        f"{train}, row 6: path is empty",
        f"{train}, row 7: label is empty",
        f"{val}, row 3 (val) holds the same file as {train}, row 7 (train): take one of them out",
        f"{val}, row 4 (val) holds the same file as {train}, row 3 (train): take one of them out",
        f"{train}, row 2: path nothing.wav is not a file",
        f"{train}, row 3: path: {folder}/slow.wav has 8000 Hz; data.sample_rate_hz=16000",
        f"{train}, row 4: path: {folder}/long.wav has 0.6 s; data.max_seconds=0.5",
        f"{train}, row 5: path: {folder}/empty.wav is empty",
        f"{val}, row 2: path: {folder}/words.wav cannot be read as sound",
    ]:
        assert problem in reported, reported


def test_bad_lines_of_jsonl_are_named(folder):
    lines = ['{"path": "sounds/1.wav", "text": "a"}', "{path: 1}", "[1]", '{"text": "b"}', '{"path": 3, "text": "c"}']
    (folder / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        manifest(folder / "a.jsonl")
    reported = [line.partition("a.jsonl, ")[2] for line in str(caught.value).splitlines()[1:]]
    wanted = [
        "2 is not JSON: Expecting",
        "3 is not an object, as {",
        "4: path is missing",
        "5: path is 3, neither a path nor",
    ]
    assert len(reported) == len(wanted)
    assert all(line.startswith(f"line {problem}") for line, problem in zip(reported, wanted, strict=True)), reported
    (folder / "a.jsonl").write_text('{"path": "a\\u0000.wav", "text": "a"}')
    with pytest.raises(UserError, match=r"a.jsonl, line 1: path .* is not a file"):
        manifest(folder / "a.jsonl")
    (folder / "a.jsonl").write_text("x")
    with pytest.raises(UserError, match=r"a.jsonl, line 1 is not JSON"):
        manifest(folder / "a.jsonl")


@pytest.mark.parametrize(
    "content, problem",
    [
        ("", "^path=.* holds no rows"),
        ("path,text\n", "^path=.* holds no rows"),
        ("file,text\na.wav,b\n", "a.csv has no column path; choose from: file, text"),
        ("path,text,text\na.wav,b,c\n", "has a column twice: text"),
        ('path,text\na.wav,"b\n', r"a.csv, row 2 \(up to line 2\) is not CSV.*: unexpected end of data"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path, content, problem):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=problem):
        manifest(tmp_path / "a.csv")


def test_bad_values_of_a_manifest_are_named(folder):
    train = folder / "train.csv"
    for changed, problem in [
        ({"path": folder / "none.csv"}, "^path=.*none.csv is not a file"),
        ({"path": folder / "train.txt"}, "^path=.*train.txt is not a file, nor a pattern"),
        ({"path": train, "val_path": folder / "none.csv"}, "^val_path=.*none.csv is not a file"),
        ({"path": train, "val_fraction": 0.5, "test_fraction": 0.5}, "^val_fraction=0.5 leaves no training with test_"),
        ({"path": train, "test_fraction": -0.1}, r"^test_fraction=-0.1 must lie in \[0, 1\)"),
        ({"path": train, "val_fraction": 0.01}, "^val_fraction=0.01 of 20 samples holds none out"),
        ({"path": train, "max_seconds": 0.1}, "^19 problems with .*train.csv:"),
    ]:
        with pytest.raises(UserError, match=problem):
            manifest(**changed)
    (folder / "latin.csv").write_bytes("path,text\nsounds/1.wav,é".encode("latin-1"))
    with pytest.raises(UserError, match="latin.csv is not UTF-8: byte 0xe9"):
        manifest(folder / "latin.csv")
    val = listing(folder, "val.csv", ["sounds/x.wav,x"])
    with pytest.raises(UserError, match="val.csv has no column label; choose from: path, text"):
        manifest(train, val_path=val)


def test_a_file_that_was_damaged_since_is_named_when_it_is_read(folder):
    split = manifest(folder / "train.csv").train()
    for file in (folder / "sounds").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"\d.wav is cut short"):
        split[0]


def test_a_split_can_go_to_a_process_that_was_not_forked(folder):
    split = manifest(folder / "train.csv").train()
    copied = pickle.loads(pickle.dumps(split))
    assert copied[3]["audio"]["waveform"].equal(split[3]["audio"]["waveform"])
    assert copied[3]["text"]["ids"].equal(split[3]["text"]["ids"])


# --- Speech Commands --------------------------------------------------------------------------------------------------


def commands(path, **changed):
    given = {"vocabulary": Characters(), "sample_rate_hz": 16_000, "resample": False, "max_seconds": 1.0, **changed}
    return SpeechCommands(path=path and str(path), **given)


@pytest.fixture
def spoken(tmp_path):
    small_speech_commands(tmp_path)
    return tmp_path


def test_contract_of_speech_commands(spoken):
    check_source(commands(spoken))
    assert (
        commands(spoken).specs["label"].class_names.index("zero") == 34
        and len(commands(spoken).specs["label"].class_names) == 35
    )


def test_files_that_systems_leave_are_no_recordings(spoken, tmp_path_factory, capsys):
    inner, library = spoken / "SpeechCommands" / "speech_commands_v0.02", tmp_path_factory.mktemp("library")
    small_librispeech(library)
    chapter = next((library / "LibriSpeech" / "dev-clean").glob("*/1"))
    for place in (inner, inner / "yes", library / "LibriSpeech" / "dev-clean", chapter.parent, chapter):
        for junk in ("._00000001_nohash_0.wav", "._a.flac", ".DS_Store", "Thumbs.db"):
            (place / junk).write_bytes(b"no sound")
        (place / "__MACOSX").mkdir()
    assert len(commands(spoken).train()) == 12 and len(books(library).val()) == 8
    assert capsys.readouterr().err == ""
    (inner / "yes" / "00000001_nohash_0.WAV").write_bytes(b"")
    commands(spoken)
    assert "a file left out, as no recording <speaker>_nohash_<number>.wav: yes/00000001" in capsys.readouterr().err


def test_speech_commands_are_split_as_torchaudio_does(spoken):
    from torchaudio.datasets import SPEECHCOMMANDS

    source = commands(spoken)
    for subset, part, count in (("training", "train", 12), ("validation", "val", 3), ("testing", "test", 3)):
        listed = SPEECHCOMMANDS(spoken, subset=subset)
        metadata = [listed.get_metadata(i) for i in range(len(listed))]
        recordings = source.items[part]
        assert files_of(recordings) == {spoken / "SpeechCommands" / entry[0] for entry in metadata}
        assert len(recordings) == len(listed) == count
        assert {(r.file.name, r.text) for r in recordings} == {(Path(e[0]).name, e[2]) for e in metadata}
    sample = source.test()[0]
    assert text_of(source, sample) == source.specs["label"].class_names[int(sample["label"]["class"])] == "no"


def test_the_folders_of_the_words_will_do(spoken):
    inner = spoken / "SpeechCommands" / "speech_commands_v0.02"
    assert files_of(commands(inner).items["train"]) == files_of(commands(spoken).items["train"])


def test_bad_folders_of_speech_commands_are_named(spoken):
    inner = spoken / "SpeechCommands" / "speech_commands_v0.02"
    with pytest.raises(InvalidValue, match="^path=.*nowhere is not a folder; http.*tar.gz has it"):
        commands(spoken / "nowhere")
    with pytest.raises(InvalidValue, match=f"holds neither .*testing_list.txt .*nearest: {spoken}$"):
        commands(spoken / "SpeechCommands")
    (inner / "yess").mkdir()
    with pytest.raises(UserError, match="holds yess, not among the 35 words"):
        commands(spoken)
    (inner / "yess").rmdir()
    (inner / "no" / "00000001_nohash_0.wav").unlink()
    with pytest.raises(UserError, match="validation_list.txt, line 2: no/00000001_nohash_0.wav is not in"):
        commands(spoken)
    (inner / "validation_list.txt").write_text((inner / "testing_list.txt").read_text())
    with pytest.raises(UserError, match="no/00000003_nohash_0.wav, .* stands in both validation_list.txt and testing_"):
        commands(spoken)
    (inner / "validation_list.txt").unlink()
    with pytest.raises(UserError, match="validation_list.txt cannot be read"):
        commands(spoken)


# --- LibriSpeech ------------------------------------------------------------------------------------------------------


def books(path, train=("train-clean-100",), val=("dev-clean",), test=("test-clean",), **changed):
    given = {"vocabulary": Characters(), "sample_rate_hz": 16_000, "resample": False, "max_seconds": 1.0, **changed}
    return LibriSpeech(path=path and str(path), train=list(train), val=list(val), test=list(test), **given)


@pytest.fixture
def library(tmp_path):
    small_librispeech(tmp_path)
    return tmp_path


def test_contract_of_librispeech(library):
    check_source(books(library))
    check_source(books(library, val=[], test=[]))


def test_librispeech_is_read_as_torchaudio_does(library):
    from torchaudio.datasets import LIBRISPEECH

    source = books(library)
    for subset, part in (("train-clean-100", "train"), ("dev-clean", "val"), ("test-clean", "test")):
        listed = LIBRISPEECH(library, url=subset)
        recordings = source.items[part]
        assert len(listed) == len(recordings) == 8
        for i, recording in enumerate(recordings):
            path, rate, text, *_ = listed.get_metadata(i)
            assert recording.file == library / "LibriSpeech" / path and rate == 16_000
            assert text_of(source, getattr(source, part)()[i]) == text.lower() != text


def test_subsets_are_joined(library):
    source = books(library, train=["train-clean-100", "dev-clean"], val=[], test=["test-clean"])
    assert len(source.train()) == 16 and source.val() is None
    assert "of dev-clean" in texts_of(source, source.train())[-1]


@pytest.mark.parametrize(
    "changed, problem",
    [
        ({"train": ["train-clean-10"]}, "^train=train-clean-10 is not a subset; did you mean 'train-clean-100'"),
        ({"train": []}, "^train=.* names no subset to learn from"),
        ({"val": ["train-clean-100"]}, "^val=train-clean-100 is in train already"),
        (
            {"test": ["test-other"]},
            "^path=.* holds no LibriSpeech/test-other, which data.test names; unpack http://www.o",
        ),
    ],
)
def test_bad_subsets_are_named(library, changed, problem):
    with pytest.raises(InvalidValue, match=problem):
        books(library, **changed)


def test_bad_folders_of_librispeech_are_named(library):
    with pytest.raises(InvalidValue, match="^path=.*nowhere is not a folder"):
        books(library / "nowhere")
    with pytest.raises(InvalidValue, match=f"nearest: {library}$"):
        books(library / "LibriSpeech")
    with pytest.raises(InvalidValue, match=f"nearest: {library}$"):
        books(library / "LibriSpeech" / "dev-clean")


def test_everything_wrong_with_a_subset_is_reported_at_once(library):
    place = library / "LibriSpeech" / "dev-clean" / "11"
    (place / "1" / "11-1-0002.flac").unlink()
    text = (place / "1" / "11-1.trans.txt").read_text().splitlines()
    (place / "1" / "11-1.trans.txt").write_text("\n".join(["11-1-0000", text[2], text[3], text[3]]))
    (place / "2" / "11-2.trans.txt").unlink()
    with pytest.raises(UserError) as caught:
        books(library)
    reported = str(caught.value)
    for problem in [
        "5 problems with ",
        "11-1.trans.txt, line 4: 11-1-0003 stands there twice",
        "11-1.trans.txt has no text of 11-1-0001.flac",
        "11-1.trans.txt, line 1: 11-1-0000 has no text",
        "11-1.trans.txt, line 2: 11-1-0002.flac is missing",
        "11-2.trans.txt is missing, the texts of 4 recordings",
    ]:
        assert problem in reported, reported


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "mmtx"


def packed(folder):
    """A folder as a ``.tar.gz``, and its checksum."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, ".")
    return stream.getvalue(), hashlib.sha256(stream.getvalue()).hexdigest()


@pytest.fixture
def server():
    """Serves bytes by their file names; counts what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files: dict[str, bytes] = {}
        asked: list[str] = []
        delay = pause = 0.0

        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            type(self).asked.append(name)
            time.sleep(self.delay)
            if name not in self.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.files[name])))
            self.end_headers()
            self.wfile.write(self.files[name][:100])
            time.sleep(self.pause)
            self.wfile.write(self.files[name][100:])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.handle_error = lambda *arguments: None  # who is given up on
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        Handler.address = f"http://127.0.0.1:{running.server_address[1]}/"
        yield Handler
        running.shutdown()


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()


def test_speech_commands_are_downloaded_once(tmp_path, cache, server, monkeypatch):
    small_speech_commands(tmp_path / "published")
    content, checksum = packed(tmp_path / "published" / speech_commands.FOLDER)
    server.files = {"archive.tar.gz": content}
    monkeypatch.setattr(speech_commands, "ADDRESS", f"{server.address}archive.tar.gz")
    monkeypatch.setattr(speech_commands, "SHA256", checksum)
    source = commands(None)
    assert len(source.train()) == 12
    assert files_in(cache) == files_in(tmp_path / "published"), "torchaudio's layout, and nothing besides"
    assert files_of(commands(None).items["test"]) == files_of(commands(cache).items["test"])
    assert server.asked == ["archive.tar.gz"], "the second time, all is in the cache"


def test_subsets_that_are_not_there_are_downloaded(tmp_path, cache, server, monkeypatch):
    small_librispeech(tmp_path / "published")
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        whole = tmp_path / subset / "LibriSpeech"
        shutil.copytree(tmp_path / "published" / "LibriSpeech" / subset, whole / subset)
        (whole / "README.TXT").write_text("goes with every subset")
        content, checksum = packed(tmp_path / subset)
        server.files[f"{subset}.tar.gz"] = content
        monkeypatch.setitem(librispeech.SHA256S, subset, checksum)
    monkeypatch.setattr(librispeech, "ADDRESS", server.address)
    assert len(books(None, val=[], test=[]).train()) == 8
    assert server.asked == ["train-clean-100.tar.gz"]
    assert len(books(None).test()) == 8
    assert sorted(server.asked) == ["dev-clean.tar.gz", "test-clean.tar.gz", "train-clean-100.tar.gz"]
    assert files_in(cache) == files_in(tmp_path / "published")


def archive(server, sha256="0" * 64, name="a.tar.gz"):
    return PublicArchive(f"{server.address}{name}", sha256, ".", "Some/thing")


def test_a_failed_download_names_the_manual_way(tmp_path, cache, server):
    how = "With the archive at hand, unpack it yourself, and data.path=FOLDER reads FOLDER/Some/thing"
    with pytest.raises(UserError, match=f"a.tar.gz could not be downloaded .*404.*{how}"):
        archive(server).fetch()
    server.files = {"a.tar.gz": b"something else"}
    with pytest.raises(UserError, match=f"not what was published: 14 bytes with the SHA-256 .*{how}"):
        archive(server).fetch()
    with pytest.raises(UserError, match=f"could not be downloaded and unpacked.*{how}"):
        archive(server, hashlib.sha256(b"something else").hexdigest()).fetch()
    assert not list(cache.iterdir()), "nothing damaged is kept"


@pytest.mark.parametrize("stuck", ["delay", "pause"])
def test_what_does_not_answer_is_given_up(cache, server, monkeypatch, stuck):
    monkeypatch.setattr(public_file, "ANSWER_SECONDS", 0.4)
    server.files = {"a.tar.gz": bytes(10_000)}
    setattr(server, stuck, 3.0)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"could not be downloaded .*(no answer within|timed out)"):
        archive(server).fetch()
    assert time.monotonic() - started < 2
    assert not list(cache.iterdir())


def test_an_archive_cannot_write_elsewhere(tmp_path, cache, server):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../../escaped"), io.BytesIO())
    server.files = {"a.tar.gz": stream.getvalue()}
    with pytest.raises(UserError, match="could not be downloaded and unpacked .*outside"):
        archive(server, hashlib.sha256(stream.getvalue()).hexdigest()).fetch()
    assert not list(tmp_path.rglob("escaped"))


def test_two_that_fetch_at_the_same_time_get_the_same(tmp_path, cache, server):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("content")
    server.files["a.tar.gz"], checksum = packed(tmp_path / "one")
    server.delay = 0.2
    found = []
    fetch = functools.partial(archive, server, checksum)
    threads = [threading.Thread(target=lambda: found.append(fetch().fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache] * 3 and files_in(cache) == {"Some/thing/file"}


def test_silent_ends_are_trimmed(tmp_path: Path) -> None:
    """In every split, and the spec says so, for whoever reads another recording for the same model."""
    small_fsdd(tmp_path)
    plain, trimmed = fsdd(tmp_path), fsdd(tmp_path, trim_db=20.0)
    assert plain.specs["audio"].trim_db is None
    assert trimmed.specs["audio"].trim_db == 20.0
    whole, rest = (source.train()[0]["audio"]["waveform"] for source in (plain, trimmed))
    quiet = torch.cat([torch.zeros(800), whole, torch.full((1600,), 1e-3)])
    assert trim_silence(quiet, 8000, 20.0).equal(trim_silence(whole, 8000, 20.0))
    assert trim_silence(whole, 8000, 20.0).equal(rest)
    assert trim_silence(quiet, 8000, None).equal(quiet)
    with pytest.raises(InvalidValue, match="trim_db=0.0 must be above 0"):
        fsdd(tmp_path, trim_db=0.0)
