"""What pyproject.toml declares is what is imported, and fits the versions that are known to work together."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
EXTRAS = {
    extra: [Requirement(each) for each in of if not each.startswith("mmtx[")]
    for extra, of in PROJECT["optional-dependencies"].items()
}
OPTIONAL = {canonicalize_name(each.name) for of in EXTRAS.values() for each in of}
DISTRIBUTIONS = packages_distributions()
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def third_party(source: str) -> dict[str, bool]:
    """Packages that a file imports, and whether it does wherever it is imported itself: neither in a function nor in a
    `try`."""
    found: dict[str, bool] = {}
    for name, at_once in _imports(ast.parse(source), True):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "mmtx":
            found[top] = found.get(top, False) or at_once
    return found


def _imports(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module, at_once
        elif isinstance(child, ast.FunctionDef | ast.Try) or _for_types(child):
            yield from _imports(child, False)
        else:
            yield from _imports(child, at_once)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def undeclared(source: str) -> list[str]:
    """Packages that a file imports, and that an installation without extras, or with all of them, has not."""
    found = []
    for package, at_once in third_party(source).items():
        bringing = {canonicalize_name(name) for name in DISTRIBUTIONS.get(package, [package])}
        if not bringing & (REQUIRED if at_once else REQUIRED | OPTIONAL):
            found.append(package)
    return found


@pytest.mark.parametrize("room", sorted((ROOT / "src" / "mmtx").iterdir()), ids=lambda path: path.name)
def test_what_is_imported_is_declared(room):
    files = room.rglob("*.py") if room.is_dir() else [room] * (room.suffix == ".py")
    assert not {str(file): found for file in files if (found := undeclared(file.read_text()))}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import yaml\nfrom PIL import Image\nimport sklearn.datasets\nimport os", []),
        ("import optuna", ["optuna"]),
        ("class Reads:\n    from ray import remote", ["ray"]),
        ("def read():\n    import optuna\n    import pandas", ["pandas"]),
        ("try:\n    import optuna\nexcept ImportError:\n    optuna = None", []),
        ("if TYPE_CHECKING:\n    import optuna", []),
        ("from mmtx.nn import mlp\nfrom . import optuna", []),
    ],
)
def test_the_rule_finds(source, found):
    assert undeclared(source) == found


def test_every_extra_that_an_error_names_is_there():
    named = {extra for file in (ROOT / "src").rglob("*.py") for extra in re.findall(r"mmtx\[(\w+)\]", file.read_text())}
    assert named <= EXTRAS.keys() and named >= {"speech", "rl", "data", "sentencepiece"}


def test_what_is_required_has_a_version_that_is_known_to_work():
    assert {canonicalize_name(pin.name) for pin in PINS} >= REQUIRED


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_a_version_that_is_known_to_work_is_allowed(pin):
    declared = [*map(Requirement, PROJECT["dependencies"]), *(each for of in EXTRAS.values() for each in of)]
    specifiers = [each.specifier for each in declared if canonicalize_name(each.name) == canonicalize_name(pin.name)]
    version = str(pin.specifier).removeprefix("==")
    assert specifiers and all(specifier.contains(version) for specifier in specifiers)


@pytest.mark.parametrize("package", ["torch", "torchvision", "torchaudio"])
def test_a_version_without_cuda_is_one_that_is_known_to_work(package):
    """By its number (PEP 440): a wheel of torch's CPU index, 2.14.1+cpu, is neither refused nor replaced."""
    (pin,) = (pin for pin in PINS if pin.name == package)
    (declared,) = (each for each in map(Requirement, PROJECT["dependencies"]) if each.name == package)
    version = f"{str(pin.specifier).removeprefix('==')}+cpu"
    assert pin.specifier.contains(version) and declared.specifier.contains(version)


def test_classifiers_name_the_pythons_that_are_allowed():
    named = {part for each in PROJECT["classifiers"] if (part := each.rpartition(" ")[2]).startswith("3.")}
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert named == {version for version in (f"3.{minor}" for minor in range(30)) if allowed.contains(version)}
