"""Films: which frames are kept, how small they are, and the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from mmtx.acting.video import MOST_FRAMES, MOST_PIXELS, Filmed, write_gif
from mmtx.batch import Sample
from mmtx.environment import Environment, Observation, Outcome
from mmtx.objectives.film import FRAME_MS, LAST_FRAME_MS, LINE_PIXELS


class Clock(Environment):
    """Its frames show the time; episode `i` is over after ``seeds[i]`` steps."""

    def __init__(self, max_steps: int, height: int = 2, width: int = 2) -> None:
        self._max_steps, self.shape, self.closed = max_steps, (3, height, width), False

    @property
    def max_steps(self) -> int:
        return self._max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self.ends, self.time = torch.tensor(seeds), 0
        return [{} for _ in seeds], [{} for _ in seeds]

    def step(self, actions: Tensor) -> Outcome:
        self.time += 1
        return Outcome([{}] * len(self.ends), torch.zeros(len(self.ends)), self.time >= self.ends, None)

    def frame(self, index: int) -> Tensor:
        return torch.full(self.shape, self.time / 1000)

    def close(self) -> None:
        self.closed = True


def times_of(environment: Environment, seeds: Sequence[int], index: int) -> list[int]:
    """At which times an episode has a frame, from its beginning to its end."""
    environment.reset(seeds)
    seen = [0] if environment.frame(index) is not None else []
    for time in range(1, seeds[index] + 1):
        environment.step(torch.zeros(len(seeds)))
        frame = environment.frame(index)
        if frame is not None:
            assert round(float(frame[0, 0, 0]) * 1000) == time
            seen.append(time)
    return seen


@pytest.mark.parametrize("max_steps", [7, MOST_FRAMES, 500])
def test_of_long_episodes_some_frames_are_kept_and_the_last(max_steps: int) -> None:
    every = {7: 1, MOST_FRAMES: 1, 500: 3}[max_steps]
    film = Filmed(Clock(max_steps))
    assert film.max_steps == max_steps
    for end in (max_steps, 5, 2):  # a second episode begins anew
        seen = times_of(film, [max_steps, end], 1)
        assert seen == sorted({*range(0, end + 1, every), end})
        assert len(seen) <= MOST_FRAMES + 2


def test_frames_are_made_small_and_keep_their_sides() -> None:
    film = Filmed(Clock(3, 400, 600))
    film.reset([3])
    film.step(torch.zeros(1))
    frame = film.frame(0)
    assert frame is not None and frame.shape == (3, MOST_PIXELS * 2 // 3, MOST_PIXELS)
    torch.testing.assert_close(frame, torch.full_like(frame, 0.001))
    small = Filmed(Clock(3, 40, 60))
    small.reset([3])
    assert small.frame(0).shape == (3, 40, 60)  # type: ignore[union-attr]


def test_it_closes_its_environment_and_has_no_frame_where_the_environment_has_none() -> None:
    class Unseen(Clock):
        def frame(self, index: int) -> None:  # type: ignore[override]
            return None

    environment = Unseen(3)
    film = Filmed(environment)
    assert times_of(film, [3], 0) == []
    film.close()
    assert environment.closed


def test_the_file_shows_films_beside_each_other(tmp_path: Path) -> None:
    """Red that fades, beside green that ends first."""
    red = [torch.tensor([value, 0.0, 0.0])[:, None, None].expand(3, 4, 6) for value in (1.0, 0.6, 0.2)]
    green = [torch.tensor([0.0, value, 0.0])[:, None, None].expand(3, 4, 6) for value in (1.0, 0.4)]
    write_gif(tmp_path / "film.gif", [red, green])
    shown, durations = [], []
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (2 * (6 + LINE_PIXELS), 4) and film.n_frames == 3 and film.info["loop"] == 0
        for number in range(3):
            film.seek(number)
            picture = film.convert("RGB")
            shown.append([picture.getpixel((2, 2)), picture.getpixel((6 + LINE_PIXELS + 2, 2))])
            durations.append(film.info["duration"])
    assert shown == [[(255, 0, 0), (0, 255, 0)], [(153, 0, 0), (0, 102, 0)], [(51, 0, 0), (0, 102, 0)]]
    assert durations == [FRAME_MS, FRAME_MS, LAST_FRAME_MS]
