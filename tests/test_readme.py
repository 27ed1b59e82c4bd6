"""The README's commands are commands that work."""

import re
import shlex
from pathlib import Path

import pytest

from mmtx.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (mmtx (?:train|check) (?!.*FOLDER).*?)(?:\s+#.*)?$", README, re.M)


def test_there_are_commands():
    assert len(COMMANDS) >= 6


FEW_CLIPS = ["data.num_train=12", "data.num_val=3", "data.num_test=3"]
"""Speech takes half a minute to synthesise, the first time."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_passes_the_check(command, capsys, tmp_path, monkeypatch):
    for file in ("de.txt", "en.txt"):
        (tmp_path / file).write_text("".join(f"eins zwei drei {number}\n" for number in range(300)))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[2:]
    if "whisper_digits" in command:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        words += FEW_CLIPS
    wrong = "every mistake" in next(line for line in README.splitlines() if command in line)
    assert main(["check", *words]) == (2 if wrong else 0)
    printed = capsys.readouterr()
    assert "2 problems" in printed.err if wrong else "ok" in printed.out
