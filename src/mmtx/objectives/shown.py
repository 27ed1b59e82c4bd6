"""Predictions as files for people: texts beside the truth, pictures of what the model was given, its sounds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example
from mmtx.objectives.film import write_films
from mmtx.objectives.sample_grid import Below, draw_samples


def show_examples(
    model: MultimodalTransformer,
    batch: Batch,
    examples: Sequence[Example],
    stem: Path,
    below: Mapping[str, Below] | None = None,
) -> list[Path]:
    """Writes ``<stem>.jsonl``, ``<stem>_<index>.wav`` of every sound, ``<stem>.gif`` of some films, and of each name
    of the set ``<stem>.png``.

    Args:
        model: in eval mode.
        batch: what the examples were made from, on the device of the model.
        examples: one for each sample.
        stem: of the files.
        below: of some names, what is drawn beneath them.

    Returns:
        The files for loggers, which find sounds beside the table.
    """
    table = stem.with_suffix(".jsonl")
    lines = [
        json.dumps({"truth": e.truth, "predicted": e.predicted, "right": e.right}, ensure_ascii=False) for e in examples
    ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_sounds(model, batch, stem)
    picture = draw_samples(model, batch, examples, stem.with_suffix(".png"), below or {})
    film = write_films(model, batch, stem)
    return [file for file in (table, picture, film) if file is not None]


def write_sounds(model: MultimodalTransformer, batch: Batch, stem: Path) -> None:
    """Writes the first waveform of each sample that has one, to ``<stem>_<index>.wav``."""
    for name in (name for name in model.names if name in batch):
        rate = model.tokenizer(name).spec.sample_rate_hz
        if rate is not None and "waveform" in batch[name]:
            import soundfile

            for index, length in enumerate(batch.lengths[name].tolist()):
                if length:
                    soundfile.write(f"{stem}_{index}.wav", batch[name]["waveform"][index, :length].cpu().numpy(), rate)
            return
