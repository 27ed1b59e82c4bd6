"""The outside packages are what a user would write: few small files, public names, and each in docs/extending.md."""

import ast
from pathlib import Path

import pytest
from packages import HERE, PLUGINS, files

GUIDE = HERE.parents[1] / "docs" / "extending.md"
PYTHON = [file for package in PLUGINS for file in files(package) if file.suffix == ".py"]


def private_names(code: str) -> list[str]:
    """Modules, imports and attributes whose name begins with an underscore, also in the text of a target."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found += [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Constant):
            found += str(node.value).split(".") if str(node.value).startswith("mmtx.") else []
    return [name for name in found if name.startswith("_") and not name.endswith("__")]


def test_every_package_is_on_the_list() -> None:
    assert sorted(PLUGINS) == sorted(folder.name for folder in HERE.iterdir() if any(folder.glob("conf")))


@pytest.mark.parametrize("package", PLUGINS)
def test_a_package_has_at_most_three_small_files(package: str) -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in files(package)}
    assert 2 <= len(lines) <= 3 and max(lines.values()) < 100, lines


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.stem)
def test_it_has_no_underscored_name_of_mmtx(file: Path) -> None:
    assert not private_names(file.read_text())


def test_an_underscored_name_is_found() -> None:
    code = "import mmtx._one\nfrom mmtx._two import _three\nmodel._four()\nf('mmtx._five')\nsuper().__init__()"
    assert sorted(private_names(code)) == ["_five", "_four", "_one", "_three", "_two"]


@pytest.mark.parametrize("package", PLUGINS)
def test_the_guide_shows_it_word_for_word(package: str) -> None:
    for file in files(package):
        name = str(file.relative_to(HERE / package))
        kind = "python" if file.suffix == ".py" else "yaml"
        assert f"{name}`" in GUIDE.read_text(), name
        assert f"\n```{kind}\n{file.read_text()}```\n" in GUIDE.read_text(), name
