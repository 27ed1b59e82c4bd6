"""What is said in sound files of any length."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.data.audio_manifest import listed_sounds
from mmtx.data.collate import collate
from mmtx.data.sound_file import read_sound
from mmtx.errors import InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.modalities.audio import Audio
from mmtx.objectives.ctc import CTC
from mmtx.objectives.seq2seq import Seq2Seq

SUFFIXES = (".wav", ".flac", ".ogg")
WINDOWS_AT_ONCE = 16
LONGEST_SECONDS = 24 * 3600.0
"""A recording that is read whole into memory."""


@dataclass(frozen=True)
class Segment:
    """What is said between two times, in seconds."""

    start: float
    end: float
    text: str


def transcribe(learner: Learner, writer: Seq2Seq | CTC, options: Mapping[str, Any]) -> str:
    """The segments of one sound file, a line each; or a line of JSON for every file of a folder or a manifest.

    A recording that is longer than the model hears is cut into windows that overlap, and what their overlaps both say
    is said once.
    """
    name = writer.source if isinstance(writer, CTC) else _sound_of(learner)
    writer = _with_options(writer, options)
    given = Path(options["audio"]).expanduser()
    files = _files(given)
    lines = []
    for file in files:
        began = time.perf_counter()
        rate = learner.specs[name].sample_rate_hz
        assert rate is not None
        waveform = _read(file, rate, bool(options["resample"]))
        segments = transcribe_waveform(learner, writer, name, waveform, float(options["overlap_seconds"]), options)
        seconds = time.perf_counter() - began
        print(f"{file}: {len(waveform) / rate:.1f} s of sound in {seconds:.1f} s", file=sys.stderr)
        if given.is_file() and given.suffix.lower() in (".csv", ".jsonl") or given.is_dir():
            text = " ".join(segment.text for segment in segments if segment.text)
            record = {"path": str(file), "text": text, "segments": [asdict(segment) for segment in segments]}
            lines.append(json.dumps(record, ensure_ascii=False))
        else:
            lines += [f"[{_clock(s.start)} --> {_clock(s.end)}] {s.text}" for s in segments]
    return "\n".join(lines)


def transcribe_waveform(
    learner: Learner,
    writer: Seq2Seq | CTC,
    name: str,
    waveform: Float[Tensor, " samples"],
    overlap_seconds: float,
    options: Mapping[str, Any],
) -> list[Segment]:
    """What is said in one recording, window after window."""
    spec = learner.specs[name]
    rate, longest = spec.sample_rate_hz, spec.fields["waveform"].max_length
    assert rate is not None and longest is not None
    spans = windows(len(waveform), longest, round(overlap_seconds * rate))
    texts: list[str] = []
    for first in range(0, len(spans), WINDOWS_AT_ONCE):
        samples = [{name: {"waveform": waveform[a:b]}} for a, b in spans[first : first + WINDOWS_AT_ONCE]]
        batch = collate(samples, learner.specs)
        with torch.inference_mode():
            if isinstance(writer, Seq2Seq):
                limit, cache = options["max_new_tokens"], bool(options["cache"])
                texts += writer.write(learner.model, batch, max_new_tokens=limit, cache=cache)
            else:
                texts += writer.write(learner.model, batch)
    shares = [(last - start) / (b - a) for (a, b), (start, last) in zip(spans, _overlaps(spans), strict=True)]
    return [
        Segment(round(a / rate, 3), round(b / rate, 3), text)
        for (a, b), text in zip(spans, joined(texts, shares), strict=True)
    ]


def windows(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """Stretches of at most `longest` samples that cover a recording, each beginning `overlap` before the last ends.

    Raises:
        InvalidValue: windows would not get on.
    """
    if length <= longest:
        return [(0, length)]
    if not 0 <= overlap < longest:
        raise InvalidValue("overlap_seconds", overlap, f"(in samples) must be less than the {longest} that are heard")
    count = -(-(length - overlap) // (longest - overlap))
    step = (length - longest) / (count - 1)  # spread out, so that none is short
    return [(round(i * step), round(i * step) + longest) for i in range(count)]


def _overlaps(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """For each window, what it shares with the one before."""
    last = 0
    for start, stop in spans:
        yield start, max(start, min(last, stop))
        last = stop


def joined(texts: Sequence[str], shares: Sequence[float]) -> list[str]:
    """The texts of overlapping windows, each without what the one before it has said already.

    The longest run of words that the end of one and the beginning of the next have in common is where they are joined:
    what follows the run on the left, and what precedes it on the right, was heard cut off.

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


def _files(given: Path) -> list[Path]:
    if given.is_dir():
        found = sorted(file for file in given.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found:
            raise InvalidValue("audio", given, f"holds no sound files ({', '.join(SUFFIXES)})")
        return found
    if not given.is_file():
        raise InvalidValue("audio", given, "is not a file or folder")
    return listed_sounds(given) if given.suffix.lower() in (".csv", ".jsonl") else [given]


def _read(file: Path, rate: int, resample: bool) -> Float[Tensor, " samples"]:
    """The waveform; an error names the option of this command rather than the key of a dataset."""
    try:
        return read_sound(file, sample_rate_hz=rate, resample=resample, max_seconds=LONGEST_SECONDS)
    except UserError as error:
        raise UserError(str(error).replace("data.resample=true", "resample=true")) from None


def _sound_of(learner: Learner) -> str:
    for name in learner.model.names:
        if isinstance(learner.model.tokenizer(name), Audio):
            return name
    raise UserError(f"the set of this model holds no sound, but {', '.join(learner.model.names)}")


def _with_options(writer: Seq2Seq | CTC, options: Mapping[str, Any]) -> Seq2Seq | CTC:
    if isinstance(writer, Seq2Seq):
        if options["beam_size"] is not None:
            writer.beam_size = options["beam_size"]
        if options["length_penalty"] is not None:
            writer.length_penalty = float(options["length_penalty"])
    return writer


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}" if hours else f"{minutes:02d}:{rest:06.3f}"
