"""Writes docs/reference/, the reference of every config key: python scripts/reference_pages.py

A key has its line from the comment behind it in ``conf/``, or from the docstring of the class that takes it; one that
has neither is an error.
"""

from collections.abc import Iterator
from pathlib import Path

from reference.files import File, place_of, read
from reference.keys import Key, keys_of, own_keys
from reference.markdown import prose, table

from mmtx.config.folders import config_directory
from mmtx.config.groups import NAMED_GROUPS, files_by_group, first_comment
from mmtx.config.overrides import written
from mmtx.config.plain_yaml import read_yaml

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
LINES = {
    "data": "the samples, and the names they have",
    "loader": "samples of a batch, and who prepares them",
    "modality": "the names of the set, a tokenizer each; several",
    "backbone": "the transformer that all tokens enter",
    "objective": "what is predicted, and the loss; several",
    "optim": "the optimiser and the schedule of its rate",
    "trainer": "length, devices and precision of a run",
    "checkpoint": "what is saved, and when",
    "callbacks": "what happens beside training; several",
    "logger": "where metrics go besides `metrics.jsonl`; several",
    "lora": "low-rank updates in the place of weights",
    "launcher": "where the jobs of a sweep run",
    "sweeper": "how a search chooses what to try",
    "sweep": "overrides of a sweep in a file",
}
"""What is chosen of each group."""

OF_A_SWEEP = ("launcher", "sweeper")
"""Groups that are written with ``hydra/`` before them."""

NOTE = "<!-- written by scripts/reference_pages.py -->\n"
INTRODUCTION = """# Every key

A config is a tree. Its parts are chosen by group (`backbone=vit`, `backbone/mlp=swiglu`; several where a group takes a
list, `modality=[image,text]`), and every value is set by its path (`backbone.dim=256`). `mmtx list GROUP` prints the
choices, `mmtx check` names what is wrong with a key or a value, and `config.yaml` in the directory of a run is its
whole tree. A *node* is a mapping whose `_target_` names a class; its other keys are arguments of that class. `NAME`
stands for a name of the set, or for an objective.

| group | what is chosen |
|---|---|
"""
OWN = """
`experiment=` lays a recipe over all of them: the [gallery](../gallery.md) shows each.

## Keys of no group

"""


def pages() -> dict[str, str]:
    """The text of each page, by its file's name. Raises SystemExit with every key that has no line."""
    groups = {group: options for group, options in files_by_group().items() if group != "experiment"}
    files = [read(group, option) for group, options in groups.items() for option in options]
    keys = {file: keys_of(file) for file in files if file.group != "sweep"}
    own = list(own_keys())
    bare = [key.path for some in (*keys.values(), own) for key in some if not key.line]
    if bare:
        raise SystemExit(f"no line of {', '.join(bare)}: write it behind the key in conf/, or in its class's docstring")
    return {"index.md": _index(own), **{f"{top}.md": _page(top, keys) for top in LINES if top != "sweep"}} | {
        "sweep.md": _sweep_files(groups["sweep"])
    }


def _index(own: list[Key]) -> str:
    rows = [f"| [`{group}`]({group}.md) | {line} |" for group, line in LINES.items()]
    return "\n".join([NOTE, INTRODUCTION + "\n".join(rows), OWN + "\n".join(table(own))]) + "\n"


def _page(top: str, keys: dict[File, list[Key]]) -> str:
    lines = [NOTE, f"# `{top}`", "", f"{LINES[top][0].upper()}{LINES[top][1:]}. {_how_to_choose(top)}"]
    for file in (file for file in keys if file.group.partition("/")[0] == top):
        line = first_comment(f"{file.group}/{file.name}")
        lines += ["", f"## `{_choice(file.group, file.name)}`", "", prose(f"{line[0].upper()}{line[1:]}.")]
        lines += ["", _composed(file)] if file.base or file.parts else []
        lines += ["", *table(keys[file])] if keys[file] else []
    return "\n".join(lines) + "\n"


def _how_to_choose(top: str) -> str:
    if top in OF_A_SWEEP:
        return f"A choice of `mmtx train -m`: `hydra/{top}=...`."
    entries = read_yaml(config_directory() / "train.yaml")["defaults"]
    default = next(written(entry[top]) for entry in entries if top in entry)
    return f"Chosen by `{top}={'[...]' if top in NAMED_GROUPS else '...'}`; the default is `{default}`."


def _composed(file: File) -> str:
    """Of what else a choice is made."""
    base = [f"what it does not set is that of {_link(file.group, file.base.name)}"] if file.base else []
    chosen = {place: ", ".join(_link(*choice) for choice in choices) for place, choices in file.parts.items()}
    here = [f"{links} belongs to it" for place, links in chosen.items() if place == "_here_"]
    parts = [f"`{place_of(file.group)}.{place}` is {links}" for place, links in chosen.items() if place != "_here_"]
    sentence = "; ".join([*base, *here, *parts])
    return f"{sentence[0].upper()}{sentence[1:]}."


def _choice(group: str, name: str) -> str:
    return f"{'hydra/' if group.startswith(OF_A_SWEEP) else ''}{group}={name}"


def _link(group: str, name: str) -> str:
    if not name:
        return f"null, or chosen by `{group}@{place_of(group)}=...`"
    choice = _choice(group, name)
    return f"[`{choice}`]({group.partition('/')[0]}.md#{choice.replace('/', '').replace('=', '')})"


def _sweep_files(names: list[str]) -> str:
    lines: list[str] = [NOTE, "# `sweep`", "", "Overrides of a sweep in a file, for `mmtx train -m sweep=NAME`."]
    for name in names:
        lines += ["", f"## `sweep={name}`", "", prose(f"{first_comment(f'sweep/{name}')}."), "", *_overrides(name)]
    return "\n".join(lines) + "\n"


def _overrides(name: str) -> Iterator[str]:
    for key, value in read("sweep", name).own.items():
        yield f"- `{key}={value}`"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
