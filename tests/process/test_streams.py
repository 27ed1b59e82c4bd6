"""A process goes on when whoever reads what it prints has left."""

import io
import os
import pty
import subprocess
import sys
import threading
import time

import pytest
from run_cli import COMMAND

from mmtx.process.streams import Output

PRINTS = """
import os, sys
from mmtx.process.streams import outlast_readers
output = outlast_readers()
kept = open("kept", "w")
for number in range(3):
    print("a line of \\u2026 and of \\udcff", flush=True)
    print("another", file=sys.stderr)
if output.lost is None:
    os.write(1, b"by itself")
kept.write(f"{kept.fileno() > 2} {output.lost and output.lost.strerror} {sys.stdout.isatty()}")
"""


@pytest.mark.parametrize(
    ("streams", "expected"),
    {
        "read": ("", "True None False"),
        "closed": ("<&- >&- 2>&-", "True None False"),
        "only errors are closed": ("2>&-", "True None False"),
        "nobody reads": ("2>&1 | true", "True None False"),
        "no room": (">/dev/full", "True No space left on device False"),
    }.values(),
)
def test_it_goes_on(streams, expected, tmp_path):
    (tmp_path / "script.py").write_text(PRINTS)
    line = f"set -o pipefail; (sleep 0.2; exec {sys.executable} script.py) {streams}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept").read_text() == expected
    if not streams:
        assert done.stdout == "a line of … and of \\udcff\n" * 3 + "by itself" and done.stderr == "another\n" * 3


def test_a_terminal_that_is_closed_ends_nothing(tmp_path):
    """Whose writers get EIO; what libraries write there by themselves goes nowhere from then on."""
    ours, its = pty.openpty()
    output = Output(its, "wb", closefd=False)
    os.close(ours)
    assert output.write(b"a line\n") == 7 and output.lost is None
    assert os.write(its, b"by itself") == 9 and not os.isatty(its)
    os.close(its)


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything():
    read, write = os.pipe()
    os.set_blocking(write, False)
    content, found = b"x" * (1 << 18), []  # a pipe holds 2 ** 16

    def reading():
        while sum(map(len, found)) < len(content):
            found.append(os.read(read, 1 << 14))

    reader = threading.Thread(target=reading, daemon=True)
    stream = io.BufferedWriter(Output(write, "wb"))
    threading.Timer(0.2, reader.start).start()
    stream.write(content)
    stream.flush()
    time.sleep(0.3)
    reader.join(timeout=30)
    assert b"".join(found) == content
    stream.close()
    os.close(read)


def test_what_a_locale_cannot_write_is_written(tmp_path):
    (tmp_path / "script.py").write_text(PRINTS)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("a line of \\u2026 and of \\udcff\n"), done.stderr


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("list | head -1", 0, ""),
        ("list >&- 2>&-", 0, ""),
        ("list >/dev/full", 1, "mmtx: standard output cannot be written: No space left on device\n"),
        ("train seed=\xff", 2, "mmtx: 'seed=\\udcff' is not UTF-8; rename it, or use another path\n"),
        ("list data", 2, "mmtx: the working directory cannot be found (No such file or directory); go to another\n"),
    ],
)
def test_the_command_ends_in_a_line(line, code, error, tmp_path):
    gone = "mkdir gone; cd gone; rmdir ../gone; " if line == "list data" else ""
    script = f"set -o pipefail; {gone}{COMMAND} {line}".encode("latin-1")
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, error)


def test_an_ascii_locale_opens_and_names_what_is_not_ascii(tmp_path):
    (tmp_path / "ü").mkdir()
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [COMMAND, "report", "ü"]
    done = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("mmtx: ü holds no run"), done.stderr
