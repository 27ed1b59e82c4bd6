"""The standard streams of a process that goes on when whoever reads them has left."""

import errno
import io
import os
import sys
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ENXIO)
"""The pipe has no reader, or the terminal has been closed."""


class Output(io.FileIO):
    """A standard stream which no write to it ends.

    Attributes:
        lost: the error by which something could not be written, other than that nobody reads.
    """

    lost: OSError | None = None

    def write(self, content: Any) -> int:
        """Writes, or drops what cannot be written. Gives the number of bytes that are done with."""
        try:
            written = super().write(content)
        except OSError as error:
            if error.errno in GONE:
                _to_nobody(self.fileno())  # also for what writes there by itself, as libraries and child processes do
            else:
                self.lost = error
            return len(content)
        if written is None:  # a reader has made it non-blocking, and is slower than we are
            os.set_blocking(self.fileno(), True)
            return self.write(content)
        return written


def outlast_readers() -> Output:
    """Sets up `sys.stdout` and `sys.stderr` so that no `print` ends the process. Gives the standard output.

    A stream that is closed leads to nobody: the next file that is opened would else take its number, and get all that
    is written there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _to_nobody(number)
    output = Output(1, "wb", closefd=False)
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(Output(2, "wb", closefd=False), sys.stderr)
    return output


def in_utf8() -> None:
    """Starts this process again in Python's UTF-8 mode where the locale has another encoding: in ASCII, a folder by the
    name of ü can neither be opened nor named."""
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for the processes that it starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _text(output: Output, like: TextIO | None) -> TextIO:
    """With the encoding and the buffering that Python has chosen, where there was a stream; any text can be written."""
    if not isinstance(like, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8", errors="backslashreplace")
    at_once = like.line_buffering or like.write_through
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(buffer, encoding=like.encoding, errors="backslashreplace", line_buffering=at_once)


def _to_nobody(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
