"""Films of episodes: few and small frames while they take place, then a file of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.environment import Environment, Observation, Outcome
from mmtx.objectives.film import beside_each_other, save_gif
from mmtx.process.stopping import track

MOST_FRAMES = 200
"""Of an episode; of longer ones every second, third, ... step is kept, and the end."""
MOST_PIXELS = 240
"""Along the longer side."""


class Filmed(Environment):
    """Another environment, whose frames are small and not too many: None where one is dropped.

    Args:
        environment: that is filmed.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment, self._every = environment, -(-environment.max_steps // MOST_FRAMES)

    @property
    def max_steps(self) -> int:
        return self._environment.max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self._steps, self._over = 0, torch.zeros(len(seeds), dtype=torch.bool)
        return self._environment.reset(seeds)

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        outcome = self._environment.step(actions)
        self._steps, self._over = self._steps + 1, self._over | outcome.over
        return outcome

    def frame(self, index: int) -> Float[Tensor, "3 height width"] | None:
        if self._steps % self._every and not self._over[index]:
            return None
        frame = self._environment.frame(index)
        return None if frame is None else _small(frame)

    def close(self) -> None:
        self._environment.close()


def write_gif(path: Path, films: Sequence[Sequence[Float[Tensor, "3 height width"]]]) -> None:
    """Films beside each other, each with a line at its right, as an animation that begins again; one that ends before
    others stands still.

    Args:
        path: of the file.
        films: frames of each, at least one, all of one size.
    """
    longest = max(map(len, films))
    save_gif(path, track(beside_each_other(films), "drawing a film, frame", longest), longest)


def _small(frame: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 small_height small_width"]:
    height, width = frame.shape[1:]
    longer = max(height, width)
    if longer <= MOST_PIXELS:
        return frame
    size = [max(1, round(side * MOST_PIXELS / longer)) for side in (height, width)]
    return F.interpolate(frame[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
