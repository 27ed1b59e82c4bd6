"""A yaml file of ``conf/``: what it sets, the comments of its keys, and what it is laid over."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mmtx.config.folders import config_directory
from mmtx.config.groups import NAMED_GROUPS
from mmtx.config.plain_yaml import read_yaml
from mmtx.config.schema import stack_node

COMMENT = re.compile(r"\s# (.*)$")
CHOICE = re.compile(r"(?:override )?/?(?P<group>[\w/]+)(?:@(?P<place>[\w.]+))?$")


ELSEWHERE = {
    "launcher/policy": "hydra.launcher",
    "modality/picture_augment": "modality.NAME.augment",
    "backbone/rotary_scaling": "backbone.positions.rotary.scaling",
}
"""Places of groups that are not called as they are."""


@dataclass(frozen=True, eq=False)
class File:
    """A choice of a group.

    Attributes:
        group: such as ``backbone/mlp``.
        name: such as ``gelu``.
        base: the file of the same group that it is laid over; None where it stands alone.
        parts: by the place in it, the choices of another group that stand there, each as ``(group, name)``; the name of
            none is "".
        own: what it sets itself.
        comments: by key, dots between levels, what stands behind it.
    """

    group: str
    name: str
    base: "File | None"
    parts: dict[str, list[tuple[str, str]]]
    own: dict[str, Any]
    comments: dict[str, str]

    @property
    def node(self) -> dict[str, Any]:
        """What it sets, laid over what its base sets; without parts."""
        node = self.own if self.base is None else merged(self.base.node, self.own)
        return stack_node({"backbone": node}, "backbone") if self.group == "backbone" else node

    def comment(self, key: str) -> str:
        """What stands behind a key, here or in the base."""
        return self.comments.get(key) or (self.base.comment(key) if self.base else "")


@cache
def read(group: str, name: str) -> File:
    path = config_directory() / group / f"{name}.yaml"
    own = dict(read_yaml(path))
    base, parts = None, {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            base = read(group, entry)
        elif isinstance(entry, dict):
            ((choice, chosen),) = entry.items()
            found = CHOICE.match(choice)
            nested = found["group"] if f"/{found['group']}" in choice else f"{group}/{found['group']}"
            names = chosen if isinstance(chosen, list) else [chosen]
            parts[found["place"] or found["group"].rpartition("/")[2]] = [(nested, name or "") for name in names]
    return File(group, name, base, parts, own, comments_of(path))


def comments_of(path: Path) -> dict[str, str]:
    """By key, dots between levels, the comment on its line; of several keys on one line it is the first one's."""
    text = path.read_text(encoding="utf-8")
    lines, taken, found = text.splitlines(), set(), {}

    def walk(node: yaml.Node, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                line = key.start_mark.line
                comment = COMMENT.search(lines[line])
                if comment and line not in taken:
                    found[f"{prefix}{key.value}"] = comment[1]
                taken.add(line)
                walk(value, f"{prefix}{key.value}.")

    walk(yaml.compose(text), "")
    return found


def merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def place_of(group: str) -> str:
    """Where the keys of a group stand, as they are written on a command line."""
    top, _, nested = group.partition("/")
    if group in ELSEWHERE:
        return ELSEWHERE[group]
    if top in ("launcher", "sweeper"):
        return f"hydra.{group.replace('/', '.')}"
    return ".".join([top, *["NAME"] * (top in NAMED_GROUPS and nested != ""), *nested.split("/")]).rstrip(".")
