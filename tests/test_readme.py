"""The README's commands are commands that work."""

import re
import shlex
from pathlib import Path

import pytest

from mmtx.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (mmtx (?:train|check) .*?)(?:\s+#.*)?$", README, re.M)


def test_there_are_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_passes_the_check(command, capsys):
    words = shlex.split(command)[2:]
    wrong = "every mistake" in next(line for line in README.splitlines() if command in line)
    assert main(["check", *words]) == (2 if wrong else 0)
    printed = capsys.readouterr()
    assert "2 problems" in printed.err if wrong else "ok" in printed.out
