"""What a shell completes, as the shell does it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmtx.commands.completion import SCRIPTS, words
from mmtx.commands.main import COMMANDS, main
from mmtx.config.groups import describe_options

PRESS_TAB = """
eval "$(mmtx completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
_mmtx
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(line, folder):
    """What bash puts in the place of what stands behind the last ``=`` or blank of a line."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["bash", "--norc", "-c", PRESS_TAB, "bash", line]
    done = subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "vit_own.yaml").write_text("# mine\n")
    assert in_bash("mmtx comp", tmp_path) == ["completion "]
    assert in_bash("mmtx train exper", tmp_path) == ["experiment="]
    assert in_bash("mmtx train seed=1 experiment=vit_m", tmp_path) == ["vit_mnist "]
    assert in_bash("mmtx train experiment=vit_o", tmp_path) == ["vit_own "]
    assert in_bash("mmtx check modality=[image,te", tmp_path) == ["[image,text"]
    assert in_bash("mmtx list backbone/ml", tmp_path) == ["backbone/mlp "]
    assert in_bash("mmtx evaluate runs/", tmp_path) == [""]  # files are the shell's own


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_scripts(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    subprocess.run([shell, "-n"], input=SCRIPTS[shell], text=True, check=True, timeout=60)


def test_every_group_and_option_is_offered():
    for group, options in describe_options().items():
        key = group.replace("launcher", "hydra/launcher").replace("sweeper", "hydra/sweeper")
        assert f"{key}=" in words(f"mmtx train {key}") and group in words(f"mmtx list {group}")
        offered = {word.partition("=")[2].lstrip("[") for word in words(f"mmtx train {key}=")}
        assert offered == set(options), group


def test_commands_are_offered():
    assert words("mmtx ") == sorted(COMMANDS) and words("mmtx completion z") == ["zsh"]
    assert words("mmtx tune l") == ["lr"] and "data=" in words("mmtx tune lr d")


@pytest.mark.parametrize("arguments", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(arguments, capsys):
    assert main(["completion", *arguments]) == 2
    assert "name a shell: mmtx completion bash|zsh|fish" in capsys.readouterr().err
