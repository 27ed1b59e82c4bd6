"""The pages of an Ogg file: whether it is complete, which libsndfile does not check."""

from collections.abc import Iterator
from typing import NamedTuple

from mmtx.data.files.file_bytes import ByteStream

HEAD_BYTES = 27
FIRST, LAST = 2, 4
"""Flags of the first and of the last page of a stream."""


class _Page(NamedTuple):
    flags: int
    end: int


def problem_with_pages(stream: ByteStream, start: int, length: int) -> str | None:
    """What is wrong with an Ogg file, as a predicate; None for a complete one, or another format.

    Args:
        stream: the file, opened for reading bytes.
        start: offset of the sound, after tags.
        length: of the file in bytes.
    """
    pages = list(_pages(stream, start))
    if not pages:
        return None
    is_first = [bool(page.flags & FIRST) for page in pages]
    num_streams = is_first.index(False) if False in is_first else len(pages)
    if any(is_first[num_streams:]):
        return "holds several sounds, one after the other, of which only the first can be read; write each to a file"
    if pages[-1].end > length or sum(bool(page.flags & LAST) for page in pages) < num_streams:
        return (
            "is cut short: the page that ends the sound is missing; fetch it again, take it out, or, if it never had "
            "more, rewrite it (ffmpeg -i OLD -c copy NEW)"
        )
    return None


def _pages(stream: ByteStream, at: int) -> Iterator[_Page]:
    while True:
        stream.seek(at)
        head = stream.read(HEAD_BYTES + 255)
        if head[:4] != b"OggS" or len(head) < HEAD_BYTES:
            return
        sizes = head[HEAD_BYTES : HEAD_BYTES + head[26]]
        at += HEAD_BYTES + head[26] + sum(sizes)
        yield _Page(head[5], at)
