"""Runs docs/notebooks/*.ipynb without Jupyter, and keeps what their cells print: python scripts/notebooks.py [NAME ...]

A cell is Python, with two things of IPython: ``%%writefile NAME`` in its first line, and lines ``!COMMAND``, in which
``{name}`` is a variable. Its last expression is shown, as a picture if it is one.
"""

import ast
import base64
import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"

Shell = Callable[[list[str]], str]
"""Runs a command in the working directory, and gives what it prints. Raises where it fails."""


def read(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return notebook


def run(notebook: dict[str, Any], shell: Shell, variables: dict[str, Any] | None = None) -> None:
    """Runs the cells in their order in the working directory, and puts what each gives into it.

    Args:
        notebook: as `read` gives it.
        shell: for commands.
        variables: values for what a cell assigns, in the place of its own.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), start=1):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            shown = _run_cell("".join(cell["source"]), names, shell, variables or {})
        cell["execution_count"], cell["outputs"] = number, _outputs(_without_folder(text), shown, number)


def _without_folder(text: io.StringIO) -> str:
    return text.getvalue().replace(f"{Path.cwd()}{os.sep}", "")


def _run_cell(source: str, names: dict[str, Any], shell: Shell, variables: dict[str, Any]) -> Any:
    """What the last expression gives."""
    if source.startswith("%%writefile "):
        name, _, content = source.removeprefix("%%writefile ").partition("\n")
        Path(name).write_text(content, encoding="utf-8")
        return None
    if source.startswith("!"):
        for line in source.replace("\\\n", "").splitlines():
            print(shell(shlex.split(line.removeprefix("!").format_map(names))), end="")
        return None
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    names |= {name: value for name, value in variables.items() if name in names}
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def _outputs(text: str, shown: Any, number: int) -> list[dict[str, Any]]:
    """As a notebook has them."""
    printed = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []
    if shown is None:
        return printed
    data: dict[str, Any] = {"text/plain": [repr(shown)]}
    if hasattr(shown, "_repr_png_"):
        data = {"image/png": base64.b64encode(shown._repr_png_()).decode(), "text/plain": ["a picture"]}
    return [*printed, {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": number}]


def _in_a_process(words: list[str]) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for file in [FOLDER / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        notebook = read(file.stem)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            run(notebook, _in_a_process)
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
