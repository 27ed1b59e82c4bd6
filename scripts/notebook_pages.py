"""A hook of mkdocs: every notebook of the site has a page of its cells, and can be downloaded from there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def on_files(files: Any, config: Any) -> Any:
    """Adds ``NAME.md`` for each ``NAME.ipynb``; the navigation names the former."""
    from mkdocs.structure.files import File

    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = Path(notebook.src_uri)
        page = page_of(json.loads(notebook.content_string), name.name)
        files.append(File.generated(config, str(name.with_suffix(".md")), content=page))
    return files


def page_of(notebook: dict[str, Any], name: str) -> str:
    """The cells as Markdown, each with what it printed and showed; below the notebook's title a link to its file."""
    title, *cells = [part for cell in notebook["cells"] for part in _cell(cell)]
    return "\n\n".join([title, f"[Download the notebook]({name})", *cells]) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield _block("text" if source.startswith("!") else "python", source)
    for output in cell["outputs"]:
        yield _output(output)


def _output(output: dict[str, Any]) -> str:
    """A picture stands in the page itself."""
    if output["output_type"] == "stream":
        return _block("text", "".join(output["text"]).rstrip("\n"))
    if picture := "".join(output["data"].get("image/png", "")):
        return f"![What the cell above shows](data:image/png;base64,{picture.strip()})"
    return _block("text", "".join(output["data"]["text/plain"]))


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
