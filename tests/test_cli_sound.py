"""Sound and text pairs, by the real command line."""

import json

import numpy
import pytest
import soundfile
import torch
from run_cli import TINY, mmtx, text_of
from small_data import small_fsdd, write_sound
from torchaudio.functional import resample

from mmtx.commands.main import main

SMALL = [option for option in TINY if not option.startswith("data/augment")]


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory):
    """A run on a few noises, trained by attention and CTC at once."""
    folder = tmp_path_factory.mktemp("encoder_decoder")
    recordings = small_fsdd(folder / "fsdd")
    done = mmtx(
        "train",
        "experiment=whisper_fsdd",
        *recordings,
        "objective=[seq2seq,ctc]",
        "objective.ctc.weight=0.3",
        "trainer.max_steps=3",
        "run_dir=run",
        *SMALL,
        cwd=folder,
    )
    assert done.returncode == 0, text_of(done)
    return folder


@pytest.mark.slow
def test_both_objectives_are_logged_and_drawn(encoder_decoder):
    metrics = json.loads((encoder_decoder / "run" / "metrics.json").read_text())
    for stage in ("val", "test"):
        assert {f"{stage}/seq2seq/wer", f"{stage}/seq2seq/cer", f"{stage}/ctc/wer", f"{stage}/loss"} <= set(metrics)
        weighted = metrics[f"{stage}/seq2seq/loss"] + 0.3 * metrics[f"{stage}/ctc/loss"]
        assert metrics[f"{stage}/loss"] == pytest.approx(weighted)
        assert metrics[f"{stage}/accuracy"] == metrics[f"{stage}/seq2seq/accuracy"], "only one objective has it"
        assert f"{stage}/wer" not in metrics, "both have it"
    drawn = {file.name for file in (encoder_decoder / "run" / "samples").glob("*.png")}
    assert drawn == {"seq2seq_step000003.png", "ctc_step000003.png"}


def test_a_sound_file_gives_its_transcript_with_times(encoder_decoder):
    file = next((encoder_decoder / "fsdd").glob("*.wav"))
    seconds = soundfile.info(file).duration
    done = mmtx("generate", "run", f"audio={file}", cwd=encoder_decoder)
    assert done.returncode == 0, text_of(done)
    assert done.stdout.startswith(f"[00:00.000 --> 00:{seconds:06.3f}]")
    again = mmtx("generate", "run", f"audio={file}", "cache=false", "beam_size=1", cwd=encoder_decoder)
    assert again.stdout == done.stdout


def test_sounds_of_other_rates_are_converted_and_a_line_says_so(encoder_decoder):
    """As torchaudio converts them before."""
    folder, converted = encoder_decoder / "rates", encoder_decoder / "converted"
    folder.mkdir(), converted.mkdir()
    for name, rate in (("a", 8000), ("b", 16_000), ("c", 44_100), ("d", 16_000)):
        write_sound(folder / f"{name}.wav", 0.15, rate, rate)
        samples, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        soundfile.write(converted / f"{name}.wav", resample(torch.from_numpy(samples), rate, 8000), 8000, "FLOAT")
    done, same = (mmtx("generate", "run", f"audio={each}", cwd=encoder_decoder) for each in (folder, converted))
    assert done.returncode == same.returncode == 0, text_of(done) + text_of(same)
    assert "converted to the 8000 Hz that this model takes: 2 files of 16000 Hz, 1 file of 44100 Hz\n" in done.stderr
    assert "converted" not in same.stderr
    texts, expected = ([json.loads(line)["text"] for line in each.stdout.splitlines()] for each in (done, same))
    assert texts == expected and len(texts) == 4


def test_a_folder_and_a_manifest_give_a_line_of_json_per_file(encoder_decoder):
    folder = encoder_decoder / "some"
    for number, seconds in enumerate((0.1, 0.45)):  # the second is longer than the model's context: 0.2 s
        write_sound(folder / f"{number}.wav", seconds, 8000, number)
    (folder / "list.jsonl").write_text("".join(json.dumps({"path": f"{n}.wav"}) + "\n" for n in (1, 0)))
    options = ["overlap_seconds=0.05", "beam_size=2"]
    done = mmtx("generate", "run", f"audio={folder}", *options, cwd=encoder_decoder)
    assert done.returncode == 0, text_of(done)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == [str(folder / f"{n}.wav") for n in (0, 1)]
    assert [len(record["segments"]) for record in records] == [1, 3]
    assert records[1]["segments"][0]["start"] == 0 and records[1]["segments"][-1]["end"] == 0.45
    listed = mmtx("generate", "run", f"audio={folder / 'list.jsonl'}", *options, cwd=encoder_decoder)
    assert [json.loads(line)["path"] for line in listed.stdout.splitlines()] == [r["path"] for r in records[::-1]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("audio=nowhere.wav", "audio=nowhere.wav is not a file or folder"),
        ("audio=wide.wav resample=false", "wide.wav has 16000 Hz, and this model takes 8000 Hz: resample=true, the d"),
        ("audio=wide.wav overlap_seconds=1e300", "overlap_seconds=1e+300 must lie in 0..86400"),
        ("audio=empty", "holds no sound files"),
        ("audio=list.csv", "row 2: path gone.wav is not a file"),
        ("cache=true", "this model writes from audio; give audio=FILE or index=N"),
        (
            "prompt=two",
            "prompt=two is no option of run, which takes audio, resample, overlap_seconds, max_new_tokens, beam_size, ",
        ),
        ("temperature=hot", "temperature=hot is not a number"),
        ("length_penalty=hot", "length_penalty=hot is not a number or null"),
        ("cache=maybe", "cache=maybe is not true or false"),
        ("index=0 beam_size=0", "beam_size=0 must be at least 1"),
    ],
)
def test_what_cannot_be_transcribed_is_named(encoder_decoder, option, message, monkeypatch, capsys):
    soundfile.write(encoder_decoder / "wide.wav", numpy.zeros(1600), 16000)
    (encoder_decoder / "empty").mkdir(exist_ok=True)
    (encoder_decoder / "list.csv").write_text("path,text\ngone.wav,two\n")
    monkeypatch.chdir(encoder_decoder)
    assert main(["generate", "run", *option.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_one_override_makes_a_translation_a_prefix_lm(tmp_path):
    for side, words in (("de", ("eins", "zwei", "drei")), ("en", ("one", "two", "three"))):
        (tmp_path / f"{side}.txt").write_text("".join(f"{words[i % 3]} {words[i // 3 % 3]}\n" for i in range(60)))
    files = ["data.source=de.txt", "data.target=en.txt", "data.test_source=de.txt", "data.test_target=en.txt"]
    files += [f"data.{side}_vocabulary.vocab_size=270" for side in ("source", "target")]
    done = mmtx("train", "-m", "experiment=translation", *files, "encode=[source],[]", "trainer.max_steps=2",
                "run_dir=sweep", *SMALL, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, text_of(done)
    runs = sorted(file.parent for file in (tmp_path / "sweep").rglob("metrics.json"))
    assert len(runs) == 2
    for run in runs:
        assert {"test/bleu", "test/exact_match", "val/bleu"} <= set(json.loads((run / "metrics.json").read_text()))
        written = mmtx("generate", str(run), "prompt=drei eins", "max_new_tokens=4", "beam_size=2", cwd=tmp_path)
        assert written.returncode == 0, text_of(written)
