"""What is said in sound files of any length."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.audio.audio_manifest import listed_sounds
from mmtx.data.audio.sound_file import read_sound, sound_header, trim_silence
from mmtx.data.collate import collate
from mmtx.data.files.folder import list_folder, report_skipped
from mmtx.data.files.table import KINDS
from mmtx.errors import InvalidValue, UserError, check_within
from mmtx.generation.rest_of_set import inputs_of, with_field
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Writes
from mmtx.process.stopping import track

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif")
"""Files that are sounds by their names alone."""
WINDOWS_AT_ONCE = 16
FILES_AT_ONCE = 64
LONGEST_SECONDS = 24 * 3600.0
"""Of a recording, which is read whole into memory."""


@dataclass(frozen=True)
class Segment:
    """What is said between two times, in seconds."""

    start: float
    end: float
    text: str


def transcribe(
    trained: Trained,
    objective: Writes,
    *,
    audio: str,
    resample: bool = True,
    overlap_seconds: float = 1.0,
    **options: Any,
) -> str:
    """What is said in a sound file, with times; of many files, a line of JSON for each (objective=[seq2seq] or [ctc]).

    A recording that is longer than the model's context is cut into windows that overlap, and what two of them both say
    is written once.

    Args:
        trained: the model.
        objective: that writes.
        audio: the sound file, a folder, or a manifest (.csv, .tsv, .jsonl)
        resample: convert a sound whose rate is not the model's; false refuses it
        overlap_seconds: of the windows that a long recording is cut into
        options: of the objective, for each window.

    Raises:
        UserError: an option cannot be, or there is no sound that can be read.
    """
    check_within("overlap_seconds", overlap_seconds, 0, LONGEST_SECONDS)
    learner = trained.learner
    name = with_field(learner, inputs_of(learner, objective.writes), "audio")[0]

    def write(batch: Batch) -> list[str]:
        return objective.write(learner.model, trained.sent(batch), **options)

    rate = learner.specs[name].sample_rate_hz
    assert rate is not None
    given = Path(audio).expanduser()
    files = sound_files(given)
    overlap, began, read_s = round(overlap_seconds * rate), time.perf_counter(), 0.0
    lines: list[str] = []
    rates: Counter[int] = Counter()
    for first in track(range(0, len(files), FILES_AT_ONCE), f"{len(files)} files, part"):
        some = files[first : first + FILES_AT_ONCE]
        rates += Counter(sound_header(file).sample_rate_hz for file in some)
        waveforms = [_read(file, rate, resample) for file in some]
        read_s += sum(map(len, waveforms)) / rate
        for file, segments in zip(some, _segments(learner, write, name, waveforms, overlap), strict=True):
            lines += [_record(file, segments)] if files != [given] else map(_line, segments)
    if others := [f"{_files(count)} of {own} Hz" for own, count in sorted(rates.items()) if own != rate]:
        print(f"converted to the {rate} Hz that this model takes: {', '.join(others)}", file=sys.stderr)
    print(f"{_files(len(files))}, {read_s:.1f} s of sound, in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return "\n".join(lines)


def _segments(
    learner: Learner, write: Callable[[Batch], list[str]], name: str, waveforms: Sequence[Tensor], overlap: int
) -> Iterator[list[Segment]]:
    """What is said in each recording, all windows of all of them together in batches."""
    rate, longest = learner.specs[name].sample_rate_hz, learner.specs[name].fields["waveform"].max_length
    assert rate is not None and longest is not None
    spans = [windows(len(waveform), longest, overlap) for waveform in waveforms]
    trim = partial(trim_silence, sample_rate_hz=rate, trim_db=learner.specs[name].trim_db)
    cut = [trim(waveform[a:b]) for waveform, own in zip(waveforms, spans, strict=True) for a, b in own]
    texts: list[str] = []
    for first in track(range(0, len(cut), WINDOWS_AT_ONCE), "transcribing, batch"):
        samples = [{name: {"waveform": window}} for window in cut[first : first + WINDOWS_AT_ONCE]]
        texts += write(collate(samples, learner.specs))
    for own in spans:
        said, texts = joined(texts[: len(own)], _shares(own)), texts[len(own) :]
        yield [Segment(round(a / rate, 3), round(b / rate, 3), text) for (a, b), text in zip(own, said, strict=True)]


def _record(file: Path, segments: Sequence[Segment]) -> str:
    text = " ".join(segment.text for segment in segments if segment.text)
    record = {"path": str(file), "text": text, "segments": [asdict(segment) for segment in segments]}
    return json.dumps(record, ensure_ascii=False)


def _line(segment: Segment) -> str:
    return f"[{_clock(segment.start)} --> {_clock(segment.end)}] {segment.text}"


def windows(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """Stretches of at most `longest` samples that cover a recording, each beginning `overlap` before the last ends.

    Raises:
        InvalidValue: the windows would not advance.
    """
    if length <= longest:
        return [(0, length)]
    if not 0 <= overlap < longest:
        raise InvalidValue("overlap_seconds", overlap, f"(in samples) must be less than the {longest} of a window")
    count = -(-(length - overlap) // (longest - overlap))
    step = (length - longest) / (count - 1)  # spread out, so that none is short
    return [(round(i * step), round(i * step) + longest) for i in range(count)]


def _shares(spans: Sequence[tuple[int, int]]) -> list[float]:
    """How much of each window lies in the one before."""
    stops = [spans[0][0], *(stop for _, stop in spans[:-1])]
    return [max(0, last - start) / (stop - start) for (start, stop), last in zip(spans, stops, strict=True)]


def joined(texts: Sequence[str], shares: Sequence[float]) -> list[str]:
    """The texts of overlapping windows, each without what the one before it has already.

    The longest run of words that the end of one and the beginning of the next have in common is where they are joined:
    what follows the run on the left, and what precedes it on the right, may be cut off.

    Args:
        texts: of the windows, in order.
        shares: of each window, how much of it lies in the window before.
    """
    parts = [text.split() for text in texts]
    for i in range(1, len(parts)):
        left, right = parts[i - 1], parts[i]
        near = max(1, round(2 * shares[i] * max(len(left), len(right)))) if shares[i] else 0
        tail, head = left[len(left) - min(near, len(left)) :], right[:near]
        match = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
        if match.size:
            cut = len(left) - len(tail) + match.a + match.size
            parts[i - 1], parts[i] = left[:cut], right[match.b + match.size :]
    return [" ".join(part) for part in parts]


def sound_files(given: Path) -> list[Path]:
    """The file itself, those that a manifest lists, or those in a folder, of which a line on stderr names the others.

    Raises:
        UserError: there are none.
    """
    if given.is_dir():
        inside = list_folder(given).files
        found = [file for file in inside if _is_sound(file)]
        if not found:
            raise InvalidValue("audio", given, f"holds no sound files ({', '.join(SUFFIXES)} and others)")
        report_skipped(given, [file for file in inside if file not in found], "sound file that can be read")
        return found
    if not given.is_file():
        raise InvalidValue("audio", given, "is not a file or folder")
    return listed_sounds(given) if given.suffix.lower() in KINDS else [given]


def _is_sound(file: Path) -> bool:
    """By its name, or by what it holds."""
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        sound_header(file)
    except UserError:
        return False
    return True


def _read(file: Path, rate: int, resample: bool) -> Float[Tensor, " samples"]:
    own = sound_header(file).sample_rate_hz
    if own != rate and not resample:
        raise UserError(f"{file} has {own} Hz, and this model takes {rate} Hz: resample=true, the default, converts it")
    return read_sound(file, sample_rate_hz=rate, resample=resample, max_seconds=LONGEST_SECONDS)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}" if hours else f"{minutes:02d}:{rest:06.3f}"
