"""Files that were harmed at random, the same on every run."""

import numpy


def damaged(content, seed, times=1):
    """Bytes flipped, cut off, repeated, zeroed, or written over, once or several times."""
    random, harmed = numpy.random.default_rng(seed), bytearray(content)
    for _ in range(times):
        if not harmed:
            break
        at, length = int(random.integers(len(harmed))), int(random.integers(1, 64))
        match int(random.integers(5)):
            case 0:
                harmed[at] ^= 1 << int(random.integers(8))
            case 1:
                del harmed[at:]
            case 2:
                harmed[at:at] = harmed[at : at + length]
            case 3:
                harmed[at : at + length] = bytes(len(harmed[at : at + length]))
            case _:
                harmed[at : at + length] = random.bytes(length)
    return bytes(harmed)
