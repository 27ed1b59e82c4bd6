"""The commands of the pages, and how each is tried: as it is pasted, but for a size at which it takes a moment."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from run_cli import mmtx, text_of
from test_every_yaml import small_data_of

ROOT = Path(__file__).parents[1]
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
MARKS = ("needs", "run by", "takes", "fails")
"""What may stand above a block, ``<!-- needs: a GPU -->``: what it needs that a test has not, the test that runs it,
how long it takes (its runs are checked, each job of a sweep, not trained), or a part of the error that it shows."""

BLOCK = re.compile(r"(?:^<!-- ([^:\n]+): (.+?) -->\n+)?^```bash\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?:[^\n]*<<'END'\n.*?\nEND$)|(?:(?:[^\n]*\\\n)*[^\n]+)", re.M | re.S)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

STEPS = ["trainer.max_epochs=null", "trainer.max_steps=2", "trainer.val_every_steps=2"]
UNLESS_GIVEN = ["loader.batch_size=4", "loader.num_workers=0", "logger=[]", "callbacks=[]", "log_every_steps=1"]
ACTS = {"generalist": "move"} | dict.fromkeys(
    ("dt_cartpole", "dt_key_to_door", "babyai_local", "babyai_spoken", "t_maze_notes"), "action"
)
"""Recipes that act in an evaluation, by the objective that does."""


@dataclass(frozen=True)
class Command:
    """A command, with what stands above its block."""

    text: str
    mark: str
    value: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text.replace("\\\n", " "), comments=True)


def commands(text: str) -> list[Command]:
    """The commands of a page, in order. Lines that end in a backslash go on, and ``<<'END'`` until END."""
    return [
        Command(command.strip(), mark, value)
        for mark, value, block in BLOCK.findall(text)
        for command in COMMAND.findall(block)
    ]


def small(words: list[str], folder: Path, monkeypatch) -> list[str]:
    """The arguments of ``train`` or ``check`` with two steps, and small data in the place of a recipe's own."""
    given = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    recipe = given.get("experiment")
    own = [] if recipe is None or "data" in given else small_data_of(recipe, folder, monkeypatch)
    more = [word for word in (*own, *UNLESS_GIVEN) if word.partition("=")[0] not in given]
    if recipe in ACTS:
        more += [f"objective.{ACTS[recipe]}.{split}_episodes=1" for split in ("val", "test")]
    if "seed" in given:
        more.append("seed=1")  # of several the first
    if any("optuna" in word or word == "sweep=lr" for word in words):
        more.append("hydra.sweeper.n_trials=2")
    return [*words, *more, *STEPS]


def paste(command: Command, folder: Path, monkeypatch) -> str:
    """Runs a command as a reader does, in `folder`. Gives what it printed."""
    words = command.words if "<<" not in command.text else []
    if words[:2] == ["pip", "install"]:
        named = re.findall(r"mmtx[\w.-]*\[([\w,]+)\]", command.text)
        assert {extra for extras in named for extra in extras.split(",")} <= EXTRAS.keys()
        return ""
    if words[:1] != ["mmtx"]:
        shell = command.text.replace("python -", f"{shlex.quote(sys.executable)} -", 1)
        done = subprocess.run(["bash", "-ec", shell], cwd=folder, capture_output=True, text=True, timeout=180)
    else:
        sized = small(words[2:], folder, monkeypatch) if words[1] in ("train", "check") else words[2:]
        done = mmtx("check" if command.mark == "takes" else words[1], *sized, cwd=folder)
    expected = 2 if command.mark == "fails" else 0
    assert done.returncode == expected and (not expected or command.value in done.stderr), (
        f"{command.text}\n{text_of(done)}"
    )
    return done.stdout
