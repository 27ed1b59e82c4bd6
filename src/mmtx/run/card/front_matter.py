"""The head of a model card: what a hub reads of it, as YAML. What is not known has no key."""

import math
from typing import Any

from mmtx.hub.address import Address, is_address
from mmtx.learner import Learner
from mmtx.modalities import Audio, Image, Text, Vectors
from mmtx.objectives import CTC, Classify, MaskedToken, NextToken, Regression, Seq2Seq
from mmtx.run.card.facts import Facts

PIPELINES: dict[tuple[type, frozenset[type]], str] = {
    (Classify, frozenset({Image})): "image-classification",
    (Classify, frozenset({Text})): "text-classification",
    (Classify, frozenset({Audio})): "audio-classification",
    (Classify, frozenset({Vectors})): "tabular-classification",
    (Regression, frozenset({Vectors})): "tabular-regression",
    (NextToken, frozenset()): "text-generation",
    (NextToken, frozenset({Image})): "image-to-text",
    (Seq2Seq, frozenset({Image})): "image-to-text",
    (MaskedToken, frozenset()): "fill-mask",
    (CTC, frozenset({Audio})): "automatic-speech-recognition",
    (Seq2Seq, frozenset({Audio})): "automatic-speech-recognition",
}
"""The hub's names of tasks, by an objective and the classes of what it predicts from."""

LIBRARIES = {"hf": "transformers", "peft": "peft", "onnx": "onnx"}
"""What reads a format, where that is not mmtx or torch alone."""


def front_matter(facts: Facts, form: str, license: str | None) -> dict[str, Any]:
    """The keys that a hub knows."""
    begun, source = str(facts.config.get("init_from") or ""), facts.source
    known = {
        "license": license,
        "library_name": LIBRARIES.get(form, "mmtx"),
        "pipeline_tag": pipeline_of(facts.learner),
        "tags": list(dict.fromkeys(["mmtx", "multimodal", *facts.learner.model.names, *facts.learner.objectives])),
        "datasets": [source.hub_id] if source is not None and source.hub_id else None,
        "base_model": Address.parse(begun).repository if is_address(begun) else None,
        "metrics": list(dict.fromkeys(name.rpartition("/")[2] for name in facts.figures)) or None,
        "model-index": _results(facts),
    }
    return {key: value for key, value in known.items() if value is not None}


def pipeline_of(learner: Learner) -> str | None:
    """The hub's name of what a model of one objective does; None where it has none."""
    if len(learner.objectives) != 1:
        return None
    inputs = frozenset(type(learner.model.tokenizer(n)) for n in learner.model.names if not learner.predicts(n))
    return PIPELINES.get((type(learner.objective(next(iter(learner.objectives)))), inputs))


def _results(facts: Facts) -> list[dict[str, Any]] | None:
    """The figures as a hub's leader boards read them; None where it has no name for the task."""
    task, source = pipeline_of(facts.learner), facts.source
    figures = {name: value for name, value in facts.figures.items() if math.isfinite(value or math.nan)}
    if task is None or source is None or not figures:
        return None
    results = []
    for split in dict.fromkeys(name.partition("/")[0] for name in figures):
        metrics = [
            {"type": name.rpartition("/")[2], "name": name, "value": value}
            for name, value in figures.items()
            if name.startswith(f"{split}/")
        ]
        dataset = {"name": source.__name__, "type": source.hub_id or source.__name__, "split": split}
        results.append({"task": {"type": task}, "dataset": dataset, "metrics": metrics})
    return [{"name": str(facts.config.get("name", "mmtx")), "results": results}]
