"""Decoded texts against accepted ones, counted in sums over batches and ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmtx.batch import Batch, Spec, Vocabulary
from mmtx.errors import InvalidValue
from mmtx.metric_directions import Direction
from mmtx.objectives.base import Example, Score, required_spec
from mmtx.objectives.text_metrics import TextMetric


def check_metrics(metrics: Mapping[str, TextMetric]) -> None:
    """Raises InvalidValue for what is no text metric, or does not declare its direction."""
    for name, metric in metrics.items():
        if not isinstance(metric, TextMetric):
            raise InvalidValue(f"metrics.{name}", metric, "is no TextMetric")
        if getattr(metric, "direction", None) not in ("min", "max"):
            needed = "direction = 'max' where higher is better, 'min' where lower is"
            problem = f"declares no direction; its class needs {needed}"
            raise InvalidValue(f"metrics.{name}", type(metric).__name__, problem)


def text_directions(metrics: Mapping[str, TextMetric]) -> dict[str, Direction | None]:
    """The direction of each metric."""
    return {name: metric.direction for name, metric in metrics.items()}


def check_references(references: str | None, specs: Mapping[str, Spec]) -> None:
    """Raises ValueError if the data has no such texts, or no vocabulary for them."""
    if references is not None and required_spec(references, specs, "references").vocabulary is None:
        raise InvalidValue("references", references, "has no vocabulary")


def accepted_texts(batch: Batch, text: str, references: str | None, vocabulary: Vocabulary) -> list[list[str]]:
    """All accepted texts of each sample, its own first; none for a sample that has no text."""
    own = _ids(batch, text)
    if references is None:
        return [[vocabulary.decode(ids)] if ids else [] for ids in own]
    accepted = []
    for ids, others in zip(own, _ids(batch, references), strict=True):
        texts = [vocabulary.decode(ids)] if ids else []
        texts += [vocabulary.decode(other) for other in _split(others, vocabulary.end)] if ids else []
        accepted.append(list(dict.fromkeys(texts)))
    return accepted


def transcript_stats(
    metrics: Mapping[str, TextMetric], written: Sequence[str], accepted: Sequence[Sequence[str]], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """The stats of all metrics over the samples that have a text."""
    pairs = [(text, list(truth)) for text, truth in zip(written, accepted, strict=True) if truth]
    stats: dict[str, tuple[Tensor, Tensor]] = {}
    for metric in metrics.values():
        counted = metric.score([text for text, _ in pairs], [truth for _, truth in pairs])
        for name, pair in counted.items():
            total, count = (torch.tensor(float(value), dtype=torch.float64, device=device) for value in pair)
            stats[name] = (total, count)
    return stats


def transcript_metrics(metrics: Mapping[str, TextMetric], score: Score) -> dict[str, float]:
    """The metrics of added-up `transcript_stats`."""
    sums = {name: (float(total), float(count)) for name, (total, count) in score.stats.items()}
    return {name: metric.value(sums) for name, metric in metrics.items()}


def transcript_examples(written: Sequence[str], accepted: Sequence[Sequence[str]]) -> list[Example]:
    """Each decoded text with the first accepted one."""
    pairs = zip(written, accepted, strict=True)
    return [Example(text, truth[0] if truth else "", text in truth if truth else None) for text, truth in pairs]


def _ids(batch: Batch, name: str) -> list[list[int]]:
    lengths = batch.lengths[name].tolist()
    return [row[:length] for row, length in zip(batch[name]["ids"].tolist(), lengths, strict=True)]


def _split(ids: list[int], end: int | None) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for i in ids:
        if i == end:
            parts.append([])
        else:
            parts[-1].append(i)
    return [part for part in parts if part]
