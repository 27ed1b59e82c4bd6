"""Reads sound files as samples."""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from jaxtyping import Float32
from torch import Tensor

from mmtx.data.audio.data_chunk import DataChunk, find_data_chunk
from mmtx.data.audio.mp3_frames import whole_mp3
from mmtx.data.audio.ogg_pages import problem_with_pages
from mmtx.data.files.file_bytes import ByteStream, FileBytes, open_bytes
from mmtx.errors import UserError

SHORTEST_SECONDS = 0.01
LOUDEST = 2.0
"""Lossy formats exceed 1 a little; a higher peak means another scale."""
BLOCK_VALUES = 1 << 18
"""Values that are decoded at a time, which bounds the memory of many channels."""
LARGEST_KERNEL = 1 << 22
"""Most weights of a resampling filter, which grows where the rates have no large common divisor."""
UNKNOWN_FRAMES = 1 << 62
"""libsndfile gives a larger number where the header has none."""

MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"dns.", b"NIST", b"fLaC", b"OggS")
MOST_PADDING = 1 << 16
READABLE = "WAV, FLAC, Ogg, and what else libsndfile reads"


@dataclass(frozen=True)
class SoundHeader:
    """The header of a sound file.

    Attributes:
        sample_rate_hz: frames per second.
        frames: number of frames, of one sample for every channel; None where the header has none.
        channels: 1 for mono.
    """

    sample_rate_hz: int
    frames: int | None
    channels: int


def sound_header(file: Path | FileBytes) -> SoundHeader:
    """Reads the header of a sound file, without decoding it.

    Raises:
        UserError: it is missing, empty, truncated (where that shows without decoding, as in WAV), or no sound file.
    """
    with _open_sound(file) as sound:
        return _header(sound)


def check_sound(file: Path | FileBytes, *, sample_rate_hz: int, resample: bool, max_seconds: float) -> SoundHeader:
    """Checks a sound file by its header alone; the arguments are those of `read_sound`.

    Raises:
        UserError: as `sound_header`; or its rate or its length is not allowed.
    """
    header = sound_header(file)
    _check(file, header, sample_rate_hz, resample, max_seconds)
    return header


def read_sound(
    file: Path | FileBytes, *, sample_rate_hz: int, resample: bool, max_seconds: float
) -> Float32[Tensor, " samples"]:
    """The samples of a sound file: mono, in [-1, 1].

    Several channels are mixed down to their mean. Samples a little above 1, as lossy formats and resampling give, are
    clipped. A file without a number of samples in its header (see `find_data_chunk`) is read to its end. A truncated
    MP3 without its length in the first frame is read as a shorter sound, and so is a file of a format without sizes
    (IRCAM, PAF, PVF, AVR, VOC and others).

    Args:
        file: WAV, FLAC, Ogg, or another format of libsndfile, by its content, whatever its suffix; ID3 tags may precede
            it.
        sample_rate_hz: of the result.
        resample: convert from other rates, with torchaudio's windowed sinc; otherwise they are refused.
        max_seconds: longer sounds are refused. No more than this is decoded or held in memory.

    Raises:
        UserError: it cannot be read, is damaged, is no sound, has another rate, or is too short or too long.
    """
    with _open_sound(file) as sound:
        header = _header(sound)
        _check(file, header, sample_rate_hz, resample, max_seconds)
        limit = math.floor(max_seconds * header.sample_rate_hz)
        samples = _decoded(sound, header, limit)
        estimated = sound.format == "MP3"
    if header.frames is None or estimated:
        _check_length(file, len(samples), header.sample_rate_hz, max_seconds)
    elif len(samples) < header.frames:
        raise UserError(
            f"{file} is cut short: its header declares {header.frames} frames, and {len(samples)} can be decoded; "
            f"fetch it again, or take it out"
        )
    _check_values(file, samples)
    waveform = torch.from_numpy(samples)
    if header.sample_rate_hz != sample_rate_hz:
        from torchaudio.functional import resample as resampled

        waveform = resampled(waveform, header.sample_rate_hz, sample_rate_hz)
    return waveform.clamp(-1, 1)


def trim_silence(
    waveform: Float32[Tensor, " samples"], sample_rate_hz: int, trim_db: float | None
) -> Float32[Tensor, " trimmed"]:
    """Trims the ends whose 10 ms blocks are more than `trim_db` quieter than the loudest block; None: unchanged."""
    block = max(1, sample_rate_hz // 100)
    if trim_db is None or len(waveform) < 2 * block:
        return waveform
    power = waveform[: len(waveform) // block * block].unflatten(0, (-1, block)).square().mean(1)
    loud = (power >= power.max() * 10 ** (-trim_db / 10)).nonzero()[:, 0]
    return waveform[int(loud[0]) * block : (int(loud[-1]) + 1) * block]


@contextlib.contextmanager
def _open_sound(file: Path | FileBytes) -> Iterator[Any]:
    """A `soundfile.SoundFile`, all errors of which become `UserError`."""
    import soundfile

    try:
        if isinstance(file, Path):
            _check_regular(file)
        with open_bytes(file, buffering=0) as stream:
            length = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            start = _start(file, stream, length)
            chunk = find_data_chunk(stream, start, length)
            _check_chunk(file, chunk)
            problem = problem_with_pages(stream, start, length)
            mp3 = whole_mp3(stream, start, length)
            if problem or isinstance(mp3, str):
                raise UserError(f"{file} {problem or mp3}")
            patches = chunk.patches if chunk else {}
            stream.seek(0)
            # without its name: libsndfile would read some suffixes as raw samples
            is_unchanged = isinstance(file, Path) and not (mp3.start or mp3.before or patches)
            source = stream.fileno() if is_unchanged else _PatchedFile(stream, mp3.start, mp3.before, patches)
            with soundfile.SoundFile(source, closefd=False) as sound:
                sound.seekable = lambda: False  # seeking after every block fails in FLAC of unknown length
                yield sound
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    except (RuntimeError, TypeError, ValueError) as error:  # those of libsndfile are RuntimeErrors
        problem = str(error).rpartition(": ")[2] or type(error).__name__
        raise UserError(f"{file} cannot be read as sound ({READABLE}): {problem}") from None


def _check_regular(file: Path) -> None:
    if not file.exists():
        raise UserError(f"{file} does not exist")
    if not file.is_file():  # opening a pipe would block
        raise UserError(f"{file} is {'a folder' if file.is_dir() else 'no regular file'}, not a sound file")


def _header(sound: Any) -> SoundHeader:
    return SoundHeader(sound.samplerate, sound.frames if sound.frames < UNKNOWN_FRAMES else None, sound.channels)


def _start(file: Path | FileBytes, stream: ByteStream, length: int) -> int:
    """Offset of the sound, after ID3 tags."""
    if not length:
        raise UserError(f"{file} is empty (0 bytes)")
    start, head = 0, stream.read(12)
    while head[:3] == b"ID3":
        size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
        start += 10 + size + 10 * bool(head[5] & 0x10)  # a footer
        stream.seek(start)
        head = stream.read(12)
    if head[4:8] == b"ftyp":
        raise UserError(f"{file} is an MP4 (M4A), which cannot be read; convert it to WAV or FLAC")
    if head[:1] == b"\0":  # some taggers write more padding before an MP3 than they declare
        stream.seek(start)
        padded = stream.read(MOST_PADDING)
        head = padded.lstrip(b"\0")
        start += len(padded) - len(head)
    return start if head[:4] in MAGICS or head[:1] == b"\xff" else 0


def _check_chunk(file: Path | FileBytes, chunk: DataChunk | None) -> None:
    """Raises UserError for a truncated chunk, which libsndfile reads without an error."""
    if chunk is not None and chunk.declared is not None and chunk.declared > chunk.present:
        counts = f"its header declares {chunk.declared} bytes of samples, and {chunk.present} are there"
        raise UserError(f"{file} is cut short: {counts}; fetch it again, or take it out")


def _check(
    file: Path | FileBytes, header: SoundHeader, sample_rate_hz: int, resample: bool, max_seconds: float
) -> None:
    rate = header.sample_rate_hz
    if rate != sample_rate_hz and not resample:
        raise UserError(
            f"{file} has {rate} Hz; data.sample_rate_hz={sample_rate_hz}: set data.sample_rate_hz={rate}, or "
            f"data.resample=true to convert it"
        )
    common = math.gcd(rate, sample_rate_hz)
    if max(rate, sample_rate_hz) // common * (sample_rate_hz // common) > LARGEST_KERNEL:
        raise UserError(
            f"{file} has {rate} Hz, which cannot be converted to data.sample_rate_hz={sample_rate_hz}: their largest "
            f"common divisor is {common}; convert the file, or take it out"
        )
    if header.frames is not None:
        _check_length(file, header.frames, rate, max_seconds)


def _check_length(file: Path | FileBytes, frames: int, rate: int, max_seconds: float) -> None:
    if not frames:
        raise UserError(f"{file} holds no samples; take it out")
    if frames / rate < SHORTEST_SECONDS:
        raise UserError(
            f"{file} has {frames} sample{'s' * (frames > 1)} at {rate} Hz, {frames / rate:.6f} s; the shortest sound "
            f"is {SHORTEST_SECONDS:g} s: take it out"
        )
    if frames / rate > max_seconds:
        raise UserError(
            f"{file} has {frames / rate:.6g} s; data.max_seconds={max_seconds:g}: cut it, or raise data.max_seconds"
        )


def _decoded(sound: Any, header: SoundHeader, limit: int) -> numpy.ndarray:
    """All frames, mixed down to one channel; of longer sounds a little more than the limit."""
    blocks, total = [numpy.zeros(0, numpy.float32)], 0
    while total <= limit and total != header.frames:  # a tag may follow the last frame
        most = max(BLOCK_VALUES // header.channels, 1)
        most = most if header.frames is None else min(most, header.frames - total)
        block = sound.read(most, dtype="float32", always_2d=True)
        if not len(block):
            break
        total += len(block)
        blocks.append(block[:, 0] if header.channels == 1 else block.mean(1))
    return numpy.concatenate(blocks)


def _check_values(file: Path | FileBytes, samples: numpy.ndarray) -> None:
    finite = numpy.isfinite(samples)
    if not finite.all():
        first = int(finite.argmin())
        raise UserError(
            f"{file} holds {int((~finite).sum())} samples that are NaN or infinite, the first at sample {first}; "
            f"mend it, or take it out"
        )
    peak = float(numpy.abs(samples).max())
    if peak > LOUDEST:
        raise UserError(
            f"{file} peaks at {peak:.6g}; samples that are stored as floats lie in -1..1: divide them by their scale"
        )


class _PatchedFile(io.RawIOBase):
    """A file from byte `start` on, after other bytes, with some of its bytes replaced."""

    def __init__(self, stream: ByteStream, start: int, before: bytes, patches: Mapping[int, bytes]) -> None:
        self._stream, self._first, self._before, self._at = stream, start - len(before), before, 0
        self._patches = {at + i: byte for at, bytes_ in patches.items() for i, byte in enumerate(bytes_)}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        end = self._stream.seek(0, io.SEEK_END) - self._first
        self._at = offset + (0, self._at, end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        size, content = len(memoryview(buffer)), bytearray(self._before[self._at :])
        self._stream.seek(self._first + self._at + len(content))
        content += self._stream.read(max(0, size - len(content)))
        for offset, byte in self._patches.items():
            if 0 <= offset - self._first - self._at < len(content):
                content[offset - self._first - self._at] = byte
        content = content[:size]
        memoryview(buffer).cast("B")[: len(content)] = content
        self._at += len(content)
        return len(content)
