"""Builds wheel and sdist, checks what they hold, and uses the wheel where nothing of a checkout is: ``make package``.

That is a new environment, which finds what mmtx depends on in the one that runs this: only mmtx comes from the wheel.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_THE_WHEEL = {"src/mmtx": "mmtx", "conf": "mmtx/conf"}
"""Folders of a checkout, and what they are in a wheel."""
IN_THE_SDIST = ("src", "conf", "tests", "scripts", "docs")
BESIDE_THEM = ("constraints.txt", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")

Contents = dict[str, bytes]

COMMANDS = (["--help"], ["check"], ["train", "trainer.max_steps=1"])
USER = "import mmtx\n\nmmtx.load(1)  # type: ignore[arg-type]\n"
"""A user's file, whose mistake is only found where mmtx has types; that nothing is to be ignored would be one, too."""


def main() -> None:
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _run("-m", "build", "--no-isolation", "--outdir", ROOT / "dist", ROOT)  # the wheel of the sdist
        _run("-m", "build", "--no-isolation", "--outdir", folder, "--wheel", ROOT)
        (wheel,), (sdist,) = (ROOT / "dist").glob("*.whl"), (ROOT / "dist").glob("*.tar.gz")
        problems = problems_of(in_wheel(wheel), in_sdist(sdist), in_wheel(folder / wheel.name))
        if problems:
            raise SystemExit("\n".join(problems))
        _run("-m", "twine", "check", "--strict", wheel, sdist)
        use(wheel, folder)
    print(f"{wheel.name} and {sdist.name} hold what they should, and the wheel trains")


def in_wheel(file: Path) -> Contents:
    with zipfile.ZipFile(file) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def in_sdist(file: Path) -> Contents:
    """Its files by their names in a checkout."""
    with tarfile.open(file) as sdist:
        opened = {member.name: sdist.extractfile(member) for member in sdist if member.isfile()}
        return {name.partition("/")[2]: content.read() for name, content in opened.items() if content is not None}


def problems_of(wheel: Contents, sdist: Contents, of_checkout: Contents) -> list[str]:
    """What is wrong with a wheel that was built of an sdist, with that, and with a wheel of the checkout."""
    of_code = {name: content for name, content in wheel.items() if ".dist-info/" not in name}
    expected = {
        f"{there}/{name}": content for here, there in IN_THE_WHEEL.items() for name, content in _files(ROOT / here)
    }
    beside = {name: (ROOT / name).read_bytes() for name in BESIDE_THEM}
    source = beside | {f"{here}/{name}": content for here in IN_THE_SDIST for name, content in _files(ROOT / here)}
    return [
        *(f"the wheel lacks {name}, or has another" for name in _differing(expected, of_code)),
        *(f"the wheel has {name}, which the checkout has not" for name in sorted(of_code.keys() - expected.keys())),
        *(f"the sdist lacks {name}, or has another" for name in _differing(source, sdist)),
        *(f"{name} is another in the checkout's wheel" for name in _differing(wheel | of_checkout, wheel)),
        *(f"{name} is not in the checkout's wheel" for name in sorted(wheel.keys() - of_checkout.keys())),
    ]


def _files(folder: Path) -> list[tuple[str, bytes]]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)
    return [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]


def _differing(expected: Contents, there: Contents) -> list[str]:
    return [name for name, content in expected.items() if there.get(name) != content]


def use(wheel: Path, folder: Path) -> None:
    """Installs a wheel in a new environment, and gives its commands and types to a user who is in another folder."""
    environment, elsewhere = folder / "environment", folder / "elsewhere"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    _run("-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    elsewhere.mkdir()
    (elsewhere / "user.py").write_text(USER)
    for command in COMMANDS:
        _run(environment / "bin" / "mmtx", *command, cwd=elsewhere)
    (metrics,) = elsewhere.glob("runs/quickstart/*/metrics.json")
    assert "test/accuracy" in metrics.read_text()
    settings = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")  # which has read torch
    _run("-m", "mypy", *settings, "--python-executable", python, "user.py", cwd=elsewhere)


def _run(program: Path | str, *words: Path | str, cwd: Path = ROOT) -> None:
    """Runs a program, or a module of this Python. What it prints is shown if it fails."""
    command = [str(word) for word in ([program] if isinstance(program, Path) else [sys.executable, program])]
    command += map(str, words)
    print(f"$ {' '.join(command)}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}exit code {done.returncode}")


if __name__ == "__main__":
    main()
