"""The README's commands are commands that work."""

import re
import shlex
from pathlib import Path

import pytest
from test_every_yaml import small_data_of

from mmtx.commands.main import main

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (mmtx (?:train|check) (?!.*(?:FOLDER|FILE)).*?)(?:\s+#.*)?$", README, re.M)


def test_there_are_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_passes_the_check(command, capsys, tmp_path, monkeypatch):
    for file in ("de.txt", "en.txt"):
        (tmp_path / file).write_text("".join(f"eins zwei drei {number}\n" for number in range(300)))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[2:]
    (recipe,) = [word.removeprefix("experiment=") for word in words if word.startswith("experiment=")]
    given = {word.partition("=")[0] for word in words}  # speech and episodes take minutes to make, the first time
    small = small_data_of(recipe, tmp_path, monkeypatch)
    words += [word for word in small if word.partition("=")[0] not in given]
    wrong = "every mistake" in next(line for line in README.splitlines() if command in line)
    assert main(["check", *words]) == (2 if wrong else 0)
    printed = capsys.readouterr()
    assert "2 problems" in printed.err if wrong else "ok" in printed.out
