"""The chunks of a PNG file that its picture depends on."""

import io
import zlib

from mmtx.data.files.file_bytes import ByteStream

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"tRNS", b"eXIf")
"""Optional chunks that change the picture: transparency, orientation."""
TEXTS, ORIENTATION = (b"tEXt", b"zTXt", b"iTXt"), (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Chunks of text, and the keywords of those with an orientation: EXIF as ImageMagick writes it, and XMP."""
LARGEST_TEXT = 1 << 20


def needed_chunks(stream: ByteStream) -> ByteStream:
    """The chunks of a PNG file that its picture depends on; other files unchanged. Colour profiles, texts and further
    frames are dropped, however large or broken; a text with an orientation is needed if its checksum is right.

    Raises:
        ValueError: the checksum of a chunk that is needed is wrong.
    """
    if stream.read(8) != SIGNATURE:
        stream.seek(0)
        return stream
    needed = io.BytesIO()
    needed.write(SIGNATURE)
    name = b""
    while name != b"IEND" and len(head := stream.read(8)) == 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        is_needed = not name[0] & 0x20 or name in NEEDED  # a lower-case letter marks an optional chunk
        if not is_needed and (name not in TEXTS or size > LARGEST_TEXT):
            stream.seek(size + 4, io.SEEK_CUR)
            continue
        content = stream.read(size + 4)
        is_sound = zlib.crc32(name + content[:-4]) == int.from_bytes(content[-4:], "big")
        if not is_needed and not (is_sound and _has_orientation(name, content[:-4])):
            continue
        if len(content) == size + 4 and not is_sound:
            raise ValueError(f"the checksum of its chunk {name.decode('latin-1')} is wrong")
        needed.write(head + content)
    needed.seek(0)
    return needed


def _has_orientation(name: bytes, content: bytes) -> bool:
    """Whether a text has an orientation, and its decompressed size is limited."""
    keyword, _, rest = content.partition(b"\0")
    if keyword not in ORIENTATION:
        return False
    if name == b"tEXt" or (name == b"iTXt" and rest[:1] == b"\0"):
        return True
    packed = rest[1:] if name == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, LARGEST_TEXT)
    except zlib.error:
        return False
    return unpacking.eof
