"""Films of samples, as an animation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import backbone, batch_of, image, image_batch, model
from PIL import Image
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.modalities.video import Video
from mmtx.objectives.base import Example
from mmtx.objectives.film import LAST_FRAME_MS, LINE_PIXELS, SLOW_FRAME_MS
from mmtx.objectives.shown import show_examples

EXAMPLES = [Example("left", "right", False)] * 6


def frames(channels: int, dtype: torch.dtype) -> Tensor:
    """Of six samples, all black but the pixel ``(i, i)`` of frame `i`."""
    film = torch.zeros(6, 3, channels, 8, 8, dtype=dtype)
    for i in range(3):
        film[:, i, :, i, i] = 255 if dtype == torch.uint8 else 1.0
    return film


@pytest.mark.parametrize(("channels", "dtype"), [(1, torch.uint8), (3, torch.float32)])
def test_the_first_films_are_shown_beside_each_other(tmp_path: Path, channels: int, dtype: torch.dtype) -> None:
    """Without those that are absent; a shorter one stands still; a pixel is as large as can be seen."""
    spec = Spec({"frames": Field((None, channels, 8, 8), dtype, max_length=3)})
    keys = {"patch_size": 4, "tubelet_frames": 2, "causal": True, "mean": 0.5, "std": 0.5}
    whole = model({"film": Video(spec=spec, dim=24, clock=None, **keys)}, backbone(dim=24)).eval()
    batch = batch_of({"film": {"frames": frames(channels, dtype)}}, {"film": [3, 0, 2, 3, 3, 3]})
    with torch.no_grad():
        files = show_examples(whole, batch, EXAMPLES, tmp_path / "examples")
    assert [file.suffix for file in files] == [".jsonl", ".png", ".gif"] and all(file.is_file() for file in files)
    lit, durations = [], []
    with Image.open(files[2]) as film:
        assert film.size == (4 * (96 + LINE_PIXELS), 96) and film.n_frames == 3
        for number in range(3):
            film.seek(number)
            grey = film.convert("L")
            lit.append(
                [
                    [grey.getpixel((j * (96 + LINE_PIXELS) + 12 * i + 6, 12 * i + 6)) > 128 for i in range(3)]
                    for j in range(2)
                ]
            )
            durations.append(film.info["duration"])
    assert lit[0] == [[True, False, False]] * 2 and lit[1] == [[False, True, False]] * 2
    assert lit[2] == [[False, False, True], [False, True, False]]
    assert durations == [SLOW_FRAME_MS, SLOW_FRAME_MS, LAST_FRAME_MS]


def test_a_set_without_films_has_no_animation(tmp_path: Path) -> None:
    whole, batch = model({"image": image(dim=24)}, backbone(dim=24)).eval(), image_batch([1] * 6)
    with torch.no_grad():
        files = show_examples(whole, batch, EXAMPLES, tmp_path / "examples")
    assert [file.suffix for file in files] == [".jsonl", ".png"]
