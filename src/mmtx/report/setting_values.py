"""The values in which runs differ: of each run, by the names of its axes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmtx.run.run_record import RunRecord

SEED = "seed"
NAMED_GROUPS = ("modality", "objective")
"""Groups of which several options may be chosen: the value is the list of their names."""
IGNORED = ("run_dir", "logger", "callbacks", "checkpoint")

Values = dict[str, str]


def values_of(records: Sequence[RunRecord]) -> list[Values]:
    """The overrides of each job within one sweep; otherwise the keys in which the configs differ. Runs that differ in
    more than their seed have different values."""
    sweeps = {record.path.parent if record.sweep else None for record in records}
    if len(sweeps) == 1 and None not in sweeps:
        return [dict(_split(override) for override in record.overrides) for record in records]
    flat = [dict(_leaves(record.config)) for record in records]
    shared = set.intersection(*(set(config) for config in flat if config)) if any(flat) else set()
    differing = [key for key in next((c for c in flat if c), {}) if key in shared]
    differing = [key for key in differing if len({config[key] for config in flat if config}) > 1]
    values = [
        {key: config[key] for key in differing} if config else _from_overrides(record, differing)
        for config, record in zip(flat, records, strict=True)
    ]
    _tell_apart([record.config for record in records], flat, values)
    return values


def _tell_apart(configs: Sequence[Mapping[str, Any]], flat: Sequence[Values], values: Sequence[Values]) -> None:
    """Adds keys that only some configs have, where without them different runs would have the same values: the
    outermost node of one shape here and another there, as ``optim.matrices``, null for AdamW and a node for Muon."""
    while paths := _differences(configs, flat, values):
        for config, of_run in zip(configs, values, strict=True):
            if config:
                of_run |= {path: _shown(_at(config, path)) for path in paths}


def _differences(configs: Sequence[Mapping[str, Any]], flat: Sequence[Values], values: Sequence[Values]) -> list[str]:
    """The paths at which two runs of equal values differ; null and nothing there, as in older configs, are the same."""
    for alike in _alike(values):
        begun = [row for row in alike if flat[row]]
        for row in begun[1:]:
            one, other = configs[begun[0]], configs[row]
            keys = [key for key in {**flat[begun[0]], **flat[row]} if key != SEED]
            differing = [key for key in keys if flat[begun[0]].get(key) != flat[row].get(key)]
            paths = dict.fromkeys(_outermost(key, one, other) for key in differing)
            if found := [path for path in paths if _shown(_at(one, path)) != _shown(_at(other, path))]:
                return found
    return []


def _alike(values: Sequence[Values]) -> list[list[int]]:
    """Rows of equal values, but for the seed."""
    groups = defaultdict(list)
    for row, of_run in enumerate(values):
        groups[tuple(item for item in of_run.items() if item[0] != SEED)].append(row)
    return list(groups.values())


def _outermost(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The shortest beginning of a key at which not both are nodes, or one of them is empty."""
    parts = key.split(".")
    paths = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next(path for path in paths if not (_is_node(_at(one, path)) and _is_node(_at(other, path))))


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a path; None where there is none."""
    node: Any = config
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _shown(node: Any) -> str:
    """A value in short; of a node what it makes, where it makes something."""
    return str(node.get("_target_", dict(node))) if isinstance(node, Mapping) else str(node)


def _from_overrides(record: RunRecord, keys: Sequence[str]) -> Values:
    """The values of a job that never began, and so has overrides but no config."""
    own = dict(_split(override) for override in record.overrides)
    return {key: own.get(key, "?") for key in keys}


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+"), value


def _leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of a config; for `NAMED_GROUPS` also the list of names."""
    for key, value in node.items():
        where = f"{path}.{key}" if path else key
        if where in IGNORED:
            continue
        if _is_node(value):
            if where in NAMED_GROUPS:
                yield where, f"[{','.join(value)}]"
            yield from _leaves(value, where)
        else:
            yield where, str(value)
