"""Pictures of predictions: what the model was given, what it predicted, and the truth."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.modalities.audio import Audio
from mmtx.modalities.image import Image
from mmtx.objectives.base import Example, Objective
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.training.samples.attention_maps import attention_maps

MOST_SPECTROGRAMS = 4


def draw_predictions(
    learner: Learner, objective: Objective, batch: Batch, examples: list[Example], path: Path
) -> Path | None:
    """Draws what a person can look at: pictures if the batch has any, else sound; None if there is neither.

    Args:
        learner: in eval mode.
        objective: whose predictions they are.
        batch: what they were made from, on the device of the model.
        examples: one for each sample.
        path: of the picture.
    """
    for name, tokenizer in learner.model.tokenizers.items():
        if isinstance(tokenizer, Image) and name in batch:
            pixels = batch[name]["pixels"].cpu()
            if tokenizer.is_ragged:  # of several pictures, the last
                pixels = pixels[torch.arange(len(pixels)), (batch.lengths[name].cpu() - 1).clamp(min=0)]
            return _draw_pictures(tokenizer, pixels, examples, path)
    for name, tokenizer in learner.model.tokenizers.items():
        if isinstance(tokenizer, Audio) and name in batch:
            return _draw_sounds(learner, objective, name, tokenizer, batch, examples, path)
    return None


def write_sounds(learner: Learner, batch: Batch, stem: Path) -> None:
    """Writes the waveform of each sample that has one, to ``<stem>_<index>.wav``."""
    for name, tokenizer in learner.model.tokenizers.items():
        if isinstance(tokenizer, Audio) and name in batch:
            import soundfile

            rate = tokenizer.spectrogram.sample_rate_hz
            for index, length in enumerate(batch.lengths[name].tolist()):
                if length:
                    waveform = batch[name]["waveform"][index, :length].cpu()
                    soundfile.write(f"{stem}_{index}.wav", waveform.numpy(), rate)
            return


def _draw_pictures(
    tokenizer: Image, pixels: Float[Tensor, "B C height width"] | Tensor, examples: list[Example], path: Path
) -> Path:
    """A grid of pictures with their patches, prediction and truth above."""
    from matplotlib.figure import Figure

    columns = min(4, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    for index, (picture, example) in enumerate(zip(pixels, examples, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
        height, width = picture.shape[1:]
        axes.set_xticks([x - 0.5 for x in range(0, width + 1, tokenizer.patch_size)])
        axes.set_yticks([y - 0.5 for y in range(0, height + 1, tokenizer.patch_size)])
        axes.grid(color="tab:orange", linewidth=0.6)
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        _title(axes, example)
    figure.savefig(path, dpi=110)
    return path


def _draw_sounds(
    learner: Learner,
    objective: Objective,
    name: str,
    tokenizer: Audio,
    batch: Batch,
    examples: list[Example],
    path: Path,
) -> Path:
    """Spectrograms, and beneath each, where each id of the text attends to it."""
    from matplotlib.figure import Figure

    count = min(MOST_SPECTROGRAMS, len(examples))
    frames = tokenizer.spectrogram(batch[name]["waveform"], batch.lengths[name]).cpu()
    num_frames = tokenizer.spectrogram.num_frames(batch.lengths[name]).tolist()
    maps = _cross_attention(learner, objective, name, batch)
    rows = 2 if maps is not None else 1
    hop_s = tokenizer.spectrogram.hop_length / tokenizer.spectrogram.sample_rate_hz
    figure = Figure(figsize=(4.2 * count, 2.6 * rows), layout="constrained")
    for index in range(count):
        seconds = max(num_frames[index], 1) * hop_s
        axes = figure.add_subplot(rows, count, index + 1)
        mel = frames[index, : max(num_frames[index], 1)].T.numpy()
        axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(mel)))
        axes.set_ylabel("mel bin" if index == 0 else "")
        _title(axes, examples[index])
        if maps is not None:
            _draw_map(figure.add_subplot(rows, count, count + index + 1), *maps[index], seconds)
        figure.axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    return path


def _cross_attention(
    learner: Learner, objective: Objective, name: str, batch: Batch
) -> list[tuple[Float[Tensor, "Q M"], list[str]]] | None:
    """For each sample, how the true text attends to the sound in the last layer, and that text's ids as they read."""
    model = learner.model
    if not isinstance(objective, Seq2Seq) or model.encoded != [name]:
        return None
    inputs, targets, real = objective.head.shift(batch)
    with torch.no_grad(), attention_maps(model.backbone, "cross_attention") as weights:
        states = model(inputs)
    span, lengths = states.spans[objective.text], states.lengths(name).tolist()
    maps = []
    for row, length, ids, count in zip(
        weights[max(weights)].cpu(), lengths, targets.tolist(), real.sum(1).tolist(), strict=True
    ):
        pieces = [objective.vocabulary.decode([i]) or "·" for i in ids[:count]]
        maps.append((row[span.content_start : span.content_start + count, : max(length, 1)], pieces))
    return maps


def _draw_map(axes: Any, weights: Float[Tensor, "Q M"], pieces: list[str], seconds: float) -> None:
    extent = (0, seconds, len(pieces) - 0.5, -0.5)
    axes.imshow(weights.numpy(), aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
    axes.set_yticks(range(len(pieces)), pieces, fontsize=7)


def _title(axes: Any, example: Example) -> None:
    colour = "black" if example.right is None else "tab:green" if example.right else "tab:red"
    axes.set_title(f"{example.predicted}\n(truth: {example.truth})", fontsize=10, color=colour, wrap=True)
