"""Who may import whom, and that the library runs where what it does not need is not installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mmtx

SOURCE = Path(mmtx.__file__).parent

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"
ALL_ABOVE = "all above"


def rooms_of(page: str) -> dict[str, set[str]]:
    """The rooms that each may import, besides itself, by the table of a page."""
    rooms: dict[str, set[str]] = {}
    for room, named in re.findall(r"^\| `(\w+)/?` \|.*\| ?([^|]*?) ?\|$", page, re.MULTILINE):
        rooms[room] = set(rooms) if named == ALL_ABOVE else {name for name in named.split(", ") if name}
    return rooms


ROOMS = rooms_of(DESIGN.read_text(encoding="utf-8")) | {"__init__": {"experiment", "interop", "run", "tokens"}}
OUTSIDE: dict[str, set[str]] = {
    # package: the only rooms that may import it
    "hydra": {"config"},
    "omegaconf": {"config"},
    "lightning": {"training", "run"},
    "wandb": {"run"},
    "huggingface_hub": {"hub"},
    "torchao": {"nn"},
}
PLAIN = {"attention", "batch", "metric_directions", "errors", "nn", "tokens", "environment"}
"""Rooms that need torch and the annotations of its shapes, and nothing else that is not Python's own."""
EXTRAS = {"torchao"}
"""That they import where a key of a config names them, and not before."""


def imported(source: str, package: str) -> set[str]:
    """Dotted names of everything that a module of `package` imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def offences(source: str, room: str, package: str = "mmtx") -> list[str]:
    """What a module of a room imports and must not."""
    if room not in ROOMS:
        return [f"mmtx.{room} has no line in docs/design.md, with what it may import"]
    found = []
    for name in sorted(imported(source, package)):
        top, *inner = name.split(".")
        if top == "mmtx":
            other = inner[0] if inner and inner[0] in {*ROOMS, *_rooms_there()} else "__init__"
            if other not in {room, *ROOMS[room]}:
                found.append(f"{name}; {room} may import {', '.join(sorted(ROOMS[room])) or 'nothing of mmtx'}")
        elif top == "scripts" or name.startswith("hydra_plugins"):
            found.append(f"{name}; nothing imports it")
        elif top in OUTSIDE and room not in OUTSIDE[top]:
            found.append(f"{name}; only {', '.join(sorted(OUTSIDE[top]))} may import {top}")
        elif room in PLAIN and top not in {"torch", "jaxtyping", *EXTRAS, *sys.stdlib_module_names}:
            found.append(f"{name}; {room} needs torch and nothing else")
    return found


@cache
def _rooms_there() -> set[str]:
    return {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")}


def test_rooms_import_only_rooms_above_them() -> None:
    above: set[str] = set()
    for room, others in ROOMS.items():
        assert others <= above or room == "__init__", f"{room} imports {others - above}, below it in the table"
        above.add(room)
    assert _rooms_there() == ROOMS.keys()


def test_rooms_import_what_they_may() -> None:
    found, paths = [], sorted(SOURCE.rglob("*.py"))
    for path in paths:
        *folders, _ = parts = path.relative_to(SOURCE).parts
        room, package = parts[0].removesuffix(".py"), ".".join(["mmtx", *folders])
        source = path.read_text(encoding="utf-8")
        found += [f"{'/'.join(parts)} imports {offence}" for offence in offences(source, room, package)]
    assert len(paths) > 500 and not found, "\n".join(found)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("nn", "from mmtx.modalities.text import Text"),
        ("nn", "def late():\n    import mmtx.model"),
        ("nn", "from ..tokens import join"),
        ("tokens", "import numpy"),
        ("data", "from mmtx import tokens"),
        ("data", "from mmtx import experiment"),
        ("modalities", "from omegaconf import DictConfig"),
        ("run", "from hydra.utils import instantiate"),
        ("run", "from mmtx.commands.main import main"),
        ("commands", "import scripts.prepare"),
        ("objectives", "import wandb"),
        ("experiment", "import lightning.pytorch as pl"),
        ("helpers", "import os"),
    ],
)
def test_the_rule_finds(room: str, source: str) -> None:
    assert len(offences(source, room, f"mmtx.{room}")) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("nn", "import math\nfrom torch import nn\nfrom mmtx.nn.mlp import MLP\nfrom .norms import RMSNorm"),
        ("data", "import numpy\nfrom mmtx.batch import Batch\nfrom mmtx import errors"),
        ("config", "from hydra.errors import HydraException"),
    ],
)
def test_the_rule_lets_pass(room: str, source: str) -> None:
    assert offences(source, room, f"mmtx.{room}") == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Neither at the top, nor within a function, nor for types alone; a room's lazy names are not followed."""
    files = {path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"}
    modules = {".".join(["mmtx", *path.relative_to(SOURCE).with_suffix("").parts]): path for path in files}
    imports: dict[str, list[str]] = {}
    for module, path in modules.items():
        names = imported(path.read_text(encoding="utf-8"), module.rpartition(".")[0])
        imports[module] = sorted({*names, *(name.rpartition(".")[0] for name in names)} & modules.keys() - {module})
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_what_makes_a_set_of_tokens_knows_no_modality_by_name() -> None:
    """That a return, a state and an action of one step follow each other is what the rule of clocks gives."""
    blind = ("attention", "batch", "tokens", "token_order", "embeddings", "model", "learner", "nn")
    files = [file for room in blind for file in (SOURCE / f"{room}.py", *(SOURCE / room).glob("*.py")) if file.exists()]
    name = re.compile(r"""["'](return|reward|state|action|view|mission|text|image|audio)["']""")
    assert len(files) >= 15
    for file in files:
        code = [
            line for line in file.read_text().splitlines() if not line.lstrip().startswith(("#", "Role =", "roles ="))
        ]
        assert not [line for line in code if name.search(line) or "triple" in line], file


def test_what_uses_capabilities_names_no_class_that_has_them() -> None:
    """Whoever offers `generate`, `act`, `show`, `draw` or `invert` is found by that."""
    rooms = ("decoding", "acting", "training", "generation", "commands")
    files = [SOURCE / "model.py", *(file for room in rooms for file in (SOURCE / room).rglob("*.py"))]
    own = re.compile(r"mmtx\.(objectives|modalities)\.(\w+)")
    allowed = {"base", "capabilities", "film", "shown", "step_sums"}
    assert len(files) > 50
    for file in files:
        found = {m[2] for name in imported(file.read_text(encoding="utf-8"), "mmtx") if (m := own.match(name))}
        assert found <= allowed, f"{file} imports {found - allowed}"


WITHOUT = """
import sys

BLOCKED = ("hydra", "omegaconf", "wandb", "lightning", "pytorch_lightning", "hydra_plugins")


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)


sys.meta_path.insert(0, NotInstalled())

import torch
import mmtx.batch, mmtx.attention.rule, mmtx.errors, mmtx.evaluate, mmtx.decoding.generate, mmtx.learner
import mmtx.model, mmtx.tokens
import importlib, pkgutil
import mmtx.data, mmtx.modalities, mmtx.nn, mmtx.objectives

for room in (mmtx.modalities, mmtx.nn, mmtx.objectives):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)

from builders import image, image_spec, label_spec, model, text, text_spec
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import MeanPool

specs = {"image": image_spec(), "text": text_spec(), "label": label_spec()}
whole = model({"image": image(), "text": text()})
objectives = {
    "classify": Classify(
        specs=specs, model=whole, weight=1.0, label="label", pool=MeanPool(), pooler=False, label_smoothing=0.0,
        mixup=0.0, dropout=0.0, class_weights=None, slices=[],
    ),
    "next": NextToken(
        specs=specs, model=whole, weight=1.0, text="text", tied=True, logit_scale=1.0, label_smoothing=0.0
    ),
}
learner = mmtx.learner.Learner(model=whole, objectives=objectives, specs=specs)
batch = mmtx.batch.fake_batch(specs, 4)
scores = learner(batch)
sum(score.loss_sum / score.count for score in scores.values()).backward()
assert all(parameter.grad is not None for parameter in learner.parameters())
assert len(learner.objective("next").examples(whole, batch)) == 4
assert not [name for name in sys.modules if name.split(".")[0] in BLOCKED]
print("done")
"""


def test_the_library_runs_without_hydra_lightning_and_wandb() -> None:
    path = os.pathsep.join([str(SOURCE.parent), str(Path(__file__).parent)])
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "done"
