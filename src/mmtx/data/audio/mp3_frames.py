"""The frames of an MP3: how many there are.

An encoder says it in a frame that comes before the sound (``Xing``, ``Info``, ``VBRI``). Where it does not, libsndfile
guesses by the bit rate of the first frame, and reads no more than it guessed.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

FULL, HALF, QUARTER = 3, 2, 0
"""Of the rates of MPEG 1, in the bits of a header that hold its version: MPEG 1, 2, and 2.5."""
RATES_HZ = (44_100, 48_000, 32_000)
KILOBITS = {
    FULL: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    HALF: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
KILOBITS[QUARTER] = KILOBITS[HALF]
SAME = 0xFFFE0C00
"""Bits of a header that are the same in all frames of a file: the beginning, version, layer, and rate."""
VBRI_AT = 36
LONGEST_FRAME = 1441


class Beginning(NamedTuple):
    """How an MP3 is to be read, so that all of it is.

    Attributes:
        start: offset in bytes of the first frame that is read.
        before: a frame that belongs before it, and says how many there are; empty if the file has one.
    """

    start: int
    before: bytes


def whole_mp3(stream: BinaryIO, start: int, length: int) -> Beginning | str:
    """How an MP3 is to be read, or what is wrong with it, as a predicate; other files as they are.

    Args:
        stream: the file, opened for reading bytes.
        start: where the sound begins in it, after tags.
        length: of the file in bytes.
    """
    stream.seek(start)
    content = stream.read(LONGEST_FRAME)
    first = _Frame.of(content)
    if first is None:
        return Beginning(start, b"")
    said = _said(content, first)
    if said is not None:
        if said.size is not None and start + said.size > length:
            counts = f"its header says {said.size} bytes, and {length - start} are there"
            return f"is cut short: {counts}; fetch it again, or take it out"
        if said.is_known and (said.size is None or not _goes_on(stream, start + said.size, first)):
            return Beginning(start, b"")
        start += first.length
    stream.seek(start)
    bit_rates = _bit_rates(stream.read(), first)
    return Beginning(start, first.saying(len(bit_rates)) if said or len(set(bit_rates)) > 1 else b"")


class _Frame(NamedTuple):
    """What the header of a frame of layer III says: its bit rate in kbit/s, bytes of the frame, and of the side
    information behind it."""

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

    def saying(self, count: int) -> bytes:
        """A frame like this, with no sound in it, that says how many follow."""
        header = self.header & ~0xF200 | 0x1E000  # the largest, not padded, without a checksum
        largest = _Frame.of(header.to_bytes(4, "big"))
        assert largest is not None
        said = header.to_bytes(4, "big") + bytes(self.side) + b"Info" + bytes([0, 0, 0, 1]) + count.to_bytes(4, "big")
        return said.ljust(largest.length, b"\0")


class _Said(NamedTuple):
    """What the frame before the sound says: bytes of all, this one included, if it does; and whether libsndfile knows
    from it how many frames there are."""

    size: int | None
    is_known: bool


def _said(content: bytes, first: _Frame) -> _Said | None:
    if content[VBRI_AT : VBRI_AT + 4] == b"VBRI":  # which libsndfile does not know
        return _Said(int.from_bytes(content[VBRI_AT + 10 : VBRI_AT + 14], "big"), False)
    for at in (4 + first.side, 6 + first.side):  # the latter behind a checksum
        if content[at : at + 4] in (b"Xing", b"Info"):
            flags, *numbers = (int.from_bytes(content[at + i : at + i + 4], "big") for i in (4, 8, 12))
            return _Said(numbers[flags & 1] if flags & 2 else None, bool(flags & 1))
    return None


def _goes_on(stream: BinaryIO, at: int, like: _Frame) -> bool:
    """Whether there are two frames more, as where files were joined; some writers do not count the first of a file."""
    for _ in range(2):
        stream.seek(at)
        frame = _Frame.of(stream.read(4))
        if frame is None or (frame.header ^ like.header) & SAME:
            return False
        at += frame.length
    return True


def _bit_rates(content: bytes, like: _Frame) -> list[int]:
    """Of the frames that follow each other, with or without other bytes between them."""
    at, found = 0, []
    while at >= 0:
        frame = _Frame.of(content[at : at + 4])
        if frame is None or (frame.header ^ like.header) & SAME:
            at = content.find(b"\xff", at + 1)
        else:
            at += frame.length
            found.append(frame.bit_rate)
    return found
