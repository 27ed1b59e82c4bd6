"""Groups of configs, and the options that there are in each."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmtx.config.folders import config_folders
from mmtx.config.hydra_session import HydraSession
from mmtx.errors import nearest

NAMED_GROUPS = ("modality", "objective", "callbacks", "logger")
"""Groups of which several may be chosen; each of their files holds one named node."""

OF_ONE = ("data", "loader", "backbone", "optim", "trainer", "checkpoint", "lora")
"""Groups of which one is chosen. Several files of ``experiment`` are laid over each other."""


def group_options(group: str) -> list[str]:
    """What there is to choose from in a group; nothing where it is none."""
    with HydraSession() as loader:
        options: list[str] = loader.get_group_options(group)
    return options


def files_by_group() -> dict[str, list[str]]:
    """``{group: options}``, the user's own included, by the names of files alone: quick enough for a shell to ask."""
    found: dict[str, set[str]] = {}
    for folder in config_folders():
        for file in folder.glob("*/**/*.yaml"):
            found.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def describe_options() -> dict[str, dict[str, str]]:
    """``{group: {option: its file's first comment}}``, the user's own included."""
    described: dict[str, dict[str, str]] = {}
    with HydraSession() as loader:
        files = loader.repository  # the loader itself would set up its sources anew for each group
        for group in _all_groups(files, ""):
            lines = {option: first_comment(f"{group}/{option}") for option in files.get_group_options(group)}
            if lines:
                described[group] = lines
    return described


def unknown_choices(group: str, value: Any, known: Sequence[str]) -> Iterator[str]:
    choices = value if isinstance(value, list) else [value]
    if len(choices) > 1 and group in OF_ONE:
        yield f"{group}=[{','.join(map(str, choices))}] are several; there is one {group}"
    for choice in dict.fromkeys(map(str, choices)):
        if choices.count(choice) > 1:
            yield f"{group}=[{','.join(map(str, choices))}] names {choice} twice"
    for choice in choices:
        if choice is not None and str(choice) not in known:
            yield f"{group}={choice}: there is no such {group}; {nearest(str(choice), known)}"


def first_comment(path: str) -> str:
    """What a choice is, by its file's first comment; `path` is such as ``backbone/vit``."""
    for folder in config_folders():
        file = folder / f"{path}.yaml"
        if file.is_file():
            comments = [line.lstrip("# ").strip() for line in file.read_text().splitlines() if line.startswith("#")]
            return next((c for c in comments if not c.startswith("@package")), "")
    return ""


def _all_groups(files: Any, parent: str) -> Iterator[str]:
    from hydra.core.object_type import ObjectType

    for name in files.get_group_options(parent, ObjectType.GROUP):
        path = f"{parent}/{name}" if parent else name
        if path != "hydra":
            yield path
            yield from _all_groups(files, path)
