"""Films of a digit that moves."""

import random
from collections.abc import Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.specs import class_spec
from mmtx.errors import InvalidValue, check_at_least, check_within

STEPS = {
    "right": (0, 1),
    "down right": (1, 1),
    "down": (1, 0),
    "down left": (1, -1),
    "left": (0, -1),
    "up left": (-1, -1),
    "up": (-1, 0),
    "up right": (-1, 1),
}
"""Rows and columns of a step in each direction."""


class MovingDigits(ItemSource):
    """Names: ``video`` (``frames`` of a digit that moves straight on), ``label`` (which way), ``digit`` (which one).

    What leaves the canvas on one side comes in on the other, and the digit begins anywhere: so no single frame shows
    which way it moves. Every sample is a function of (`split_seed`, split, index).

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``; each split has the digits of its own.
        canvas: side of a frame in pixels, at least that of a digit.
        min_frames: of the shortest film.
        max_frames: of the longest.
        speed: pixels from a frame to the next, in rows, columns, or both; less than half of the canvas.
        num_train: training films.
        num_val: validation films.
        num_test: test films.
        split_seed: of the films.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        canvas: int,
        min_frames: int,
        max_frames: int,
        speed: int,
        num_train: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        splits = {"train": pictures.train(), "val": pictures.val(), "test": pictures.test()}
        self._pictures = {split: found for split, found in splits.items() if found is not None}
        names = pictures.specs["label"].class_names
        if names is None or len(self._pictures) < len(splits):
            raise InvalidValue("pictures", type(pictures).__name__, "has no names of classes, or no test or validation")
        channels, height, width = (size or 0 for size in pictures.specs["image"].fields["pixels"].shape)
        check_at_least("canvas", canvas, max(height, width))
        check_at_least("min_frames", min_frames, 1)
        check_at_least("max_frames", max_frames, min_frames)
        check_within("speed", speed, 1, (canvas - 1) // 2)
        counts = {"train": num_train, "val": num_val, "test": num_test}
        for split, count in counts.items():
            check_at_least(f"num_{split}", count, 1)
        self.items = {split: range(count) for split, count in counts.items()}
        self.canvas, self.frames, self.speed, self.seed = canvas, (min_frames, max_frames), speed, split_seed
        self._channels, self._names = channels, names

    @property
    def specs(self) -> Mapping[str, Spec]:
        shape = (None, self._channels, self.canvas, self.canvas)
        return {
            "video": Spec({"frames": Field(shape, torch.uint8, max_length=self.frames[1])}),
            "label": class_spec(tuple(STEPS)),
            "digit": class_spec(self._names),
        }

    def sample(self, item: int, split: str) -> Sample:
        draw, pictures = random.Random(f"{self.seed} {split} {item}"), self._pictures[split]
        picture = pictures[draw.randrange(len(pictures))]
        direction, begin = draw.randrange(len(STEPS)), (draw.randrange(self.canvas), draw.randrange(self.canvas))
        count = draw.randint(*self.frames)
        return {
            "video": {"frames": self._film(picture["image"]["pixels"], begin, [*STEPS.values()][direction], count)},
            "label": {"class": torch.tensor(direction)},
            "digit": picture["label"],
        }

    def _film(
        self, pixels: UInt8[Tensor, "C height width"], begin: tuple[int, int], step: tuple[int, int], count: int
    ) -> UInt8[Tensor, "T C canvas canvas"]:
        """The picture, whose upper left corner is at `begin` in the first frame."""
        frame = pixels.new_zeros(len(pixels), self.canvas, self.canvas)
        frame[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        places = [[at + i * self.speed * by for at, by in zip(begin, step, strict=True)] for i in range(count)]
        return torch.stack([frame.roll(place, (1, 2)) for place in places])
