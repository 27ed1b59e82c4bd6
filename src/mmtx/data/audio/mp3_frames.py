"""The number of frames of an MP3.

Encoders write it to a frame before the sound (``Xing``, ``Info``, ``VBRI``). Without it, libsndfile estimates the
number from the bit rate of the first frame, and reads no more than that.
"""

from __future__ import annotations

from typing import NamedTuple

from mmtx.data.files.file_bytes import ByteStream

FULL, HALF, QUARTER = 3, 2, 0
"""The version bits of a header by the sample rate relative to MPEG 1: MPEG 1, 2, and 2.5."""
RATES_HZ = (44_100, 48_000, 32_000)
KILOBITS = {
    FULL: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    HALF: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
KILOBITS[QUARTER] = KILOBITS[HALF]
SAME = 0xFFFE0C00
"""Bits of a header that all frames of a file share: sync word, version, layer, and sample rate."""
VBRI_AT = 36
LONGEST_FRAME = 1441


class Beginning(NamedTuple):
    """From where an MP3 has to be read to get all of it.

    Attributes:
        start: offset in bytes of the first frame that is read.
        before: a frame to put before it, with the number of frames; empty if the file has one.
    """

    start: int
    before: bytes


def whole_mp3(stream: ByteStream, start: int, length: int) -> Beginning | str:
    """From where an MP3 has to be read, or what is wrong with it, as a predicate; other files from `start`.

    Args:
        stream: the file, opened for reading bytes.
        start: offset of the sound, after tags.
        length: of the file in bytes.
    """
    stream.seek(start)
    content = stream.read(LONGEST_FRAME)
    first = _Frame.of(content)
    if first is None:
        return Beginning(start, b"")
    info = _read_info(content, first)
    if info is not None:
        if info.size is not None and start + info.size > length:
            counts = f"its header declares {info.size} bytes, and {length - start} are there"
            return f"is cut short: {counts}; fetch it again, or take it out"
        if info.has_count and (info.size is None or not _continues(stream, start + info.size, first)):
            return Beginning(start, b"")
        start += first.length
    stream.seek(start)
    bit_rates = _bit_rates(stream.read(), first)
    return Beginning(start, first.info_frame(len(bit_rates)) if info or len(set(bit_rates)) > 1 else b"")


class _Frame(NamedTuple):
    """The header of a frame of layer III: bit rate in kbit/s, bytes of the frame, and bytes of its side information."""

    header: int
    bit_rate: int
    length: int
    side: int

    @classmethod
    def of(cls, content: bytes) -> _Frame | None:
        header = int.from_bytes(content[:4], "big")
        version, bit_rate, rate = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
        is_layer_3 = header >> 21 == 0x7FF and version != 1 and header >> 17 & 3 == 1
        if not is_layer_3 or not 0 < bit_rate < 15 or rate == 3:
            return None
        kilobits, is_mono = KILOBITS[version][bit_rate - 1], header >> 6 & 3 == 3
        samples, sides = (1152, (32, 17)) if version == FULL else (576, (17, 9))
        hertz = RATES_HZ[rate] >> {FULL: 0, HALF: 1, QUARTER: 2}[version]
        return cls(header, kilobits, samples // 8 * kilobits * 1000 // hertz + (header >> 9 & 1), sides[is_mono])

    def info_frame(self, count: int) -> bytes:
        """A silent frame like this one, with the number of frames that follow."""
        header = self.header & ~0xF200 | 0x1E000  # the largest, not padded, without a checksum
        largest = _Frame.of(header.to_bytes(4, "big"))
        assert largest is not None
        frame = header.to_bytes(4, "big") + bytes(self.side) + b"Info" + bytes([0, 0, 0, 1]) + count.to_bytes(4, "big")
        return frame.ljust(largest.length, b"\0")


class _Info(NamedTuple):
    """The frame before the sound: bytes of all frames, this one included, if it has them; and whether it has a number
    of frames that libsndfile reads."""

    size: int | None
    has_count: bool


def _read_info(content: bytes, first: _Frame) -> _Info | None:
    if content[VBRI_AT : VBRI_AT + 4] == b"VBRI":  # which libsndfile does not read
        return _Info(int.from_bytes(content[VBRI_AT + 10 : VBRI_AT + 14], "big"), False)
    for at in (4 + first.side, 6 + first.side):  # the latter after a checksum
        if content[at : at + 4] in (b"Xing", b"Info"):
            flags, *numbers = (int.from_bytes(content[at + i : at + i + 4], "big") for i in (4, 8, 12))
            return _Info(numbers[flags & 1] if flags & 2 else None, bool(flags & 1))
    return None


def _continues(stream: ByteStream, at: int, like: _Frame) -> bool:
    """Whether two more frames follow, as in concatenated files; some writers do not count a file's first frame."""
    for _ in range(2):
        stream.seek(at)
        frame = _Frame.of(stream.read(4))
        if frame is None or (frame.header ^ like.header) & SAME:
            return False
        at += frame.length
    return True


def _bit_rates(content: bytes, like: _Frame) -> list[int]:
    """The bit rates of all frames, with or without other bytes between them."""
    at, found = 0, []
    while at >= 0:
        frame = _Frame.of(content[at : at + 4])
        if frame is None or (frame.header ^ like.header) & SAME:
            at = content.find(b"\xff", at + 1)
        else:
            at += frame.length
            found.append(frame.bit_rate)
    return found
