"""A hook of mkdocs: every notebook of the site has a page of its cells, and can be downloaded from there."""

import json
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
    """The cells as Markdown, below the notebook's own title a link to its file; without what they printed."""
    title, *cells = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return "\n\n".join([title, f"[Download the notebook]({name})", *cells]) + "\n"


def _cell(kind: str, source: str) -> str:
    if kind == "markdown":
        return source
    language = "text" if source.startswith("!") else "python"
    return f"```{language}\n{source}\n```"
