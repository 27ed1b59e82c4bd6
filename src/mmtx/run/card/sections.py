"""The sections of a model card. What was never recorded says so."""

import math
from collections.abc import Iterable, Sequence

from mmtx.run.card.facts import Facts

UNKNOWN = "not recorded"


def heading(facts: Facts) -> str:
    learner = facts.learner
    what = f"Set: {', '.join(learner.model.names)}. Objectives: {', '.join(learner.objectives)}."
    size = f"{learner.num_parameters:,} parameters. Made by mmtx."
    return f"# {facts.config.get('name', 'A model of mmtx')}\n\n{what} {size}"


def set_section(facts: Facts) -> str:
    """The modalities, with their types and positions."""
    model = facts.learner.model
    rows = []
    for name in model.names:
        tokenizer, positions = model.tokenizer(name), model.stack_of(name).positions
        absolute = dict(model.position_embeddings).get(name)
        schemes = [type(part).__name__ for part in (absolute, positions.rotary) if part is not None]
        schemes += ["bias of scores"] if positions.bias is not None else []
        size = " x ".join(map(str, tokenizer.extent)) or "one"
        kind = "learned" if name in model.type_embeddings else "none"
        stack = "encoder" if name in model.encoded else "backbone"
        rows.append([name, type(tokenizer).__name__, size, f"{tokenizer.max_tokens}", kind, " + ".join(schemes), stack])
    head = ["name", "tokenizer", "extent", "most tokens", "type embedding", "positions", "stack"]
    return f"## The set\n\n{_table(head, rows)}"


def data_section(facts: Facts) -> str:
    """What it was trained on: class, samples of each split, hash, licence."""
    source, hashes = facts.source, facts.trained.get("fingerprint", {})
    rows = [
        [split, f"{count:,}", hashes.get(split, {}).get("hash_of_some", UNKNOWN)]
        for split, count in facts.num_samples.items()
    ]
    path = (facts.config.get("data") or {}).get("path")
    lines = [
        f"Data: {source.__name__ if source else UNKNOWN}" + (f", `{path}`" if path else "") + ".",
        f"Licence of the data: {source.license if source and source.license else UNKNOWN}.",
    ]
    table = _table(["split", "samples", "hash of some of them"], rows) if rows else f"Samples: {UNKNOWN}."
    return f"## The data\n\n{' '.join(lines)}\n\n{table}"


def figures_section(facts: Facts) -> str:
    """The metrics of validation and test."""
    counts = facts.num_samples
    rows = [
        [name, f"{value:.6g}" if math.isfinite(value or math.nan) else "none", _count(counts, name.partition("/")[0])]
        for name, value in facts.figures.items()
    ]
    table = _table(["metric", "value", "samples of the split"], rows) if rows else f"Figures: {UNKNOWN}."
    return f"## Figures\n\n{table}"


def training_section(facts: Facts) -> str:
    """How it was trained: command, steps, seed, versions, hardware."""
    known, trained = facts.environment, facts.trained
    versions, git, devices = known.get("versions") or {}, known.get("git") or {}, known.get("devices") or {}
    gpus = devices.get("gpus") or []
    hardware = ", ".join(gpus) if gpus else f"{devices['cpu']}, {devices['num_threads']} threads" if devices else None
    commit = f"{git['commit']}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else None
    per_step = trained.get("samples_per_step")
    rows = {
        "command": f"`{known['command']}`" if known.get("command") else None,
        "begun with": facts.config.get("init_from") or "fresh weights",
        "steps": f"{trained['step']:,}" + (f", of {per_step:,} samples" if per_step else "")
        if "step" in trained
        else None,
        "seed": facts.config.get("seed"),
        "seconds": f"{facts.seconds:,.0f}" if facts.seconds is not None else None,
        "hardware": hardware,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version) or None,
        "commit": commit,
    }
    cells = [[key, UNKNOWN if value is None else str(value)] for key, value in rows.items()]
    return f"## How it was trained\n\n{_table(['what', 'as it was'], cells)}"


def licence_section(license: str | None) -> str:
    given = f"`{license}`" if license else "none was given; `--license ID` of `mmtx export` and `mmtx push` does"
    return f"## Licence of the weights\n\n{given}"


def _count(counts: dict[str, int], split: str) -> str:
    return f"{counts[split]:,}" if split in counts else UNKNOWN


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; what would end a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
