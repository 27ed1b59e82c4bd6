"""A level of BabyAI to act in."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.audio.clips import LOUDEST
from mmtx.data.episodes.babyai_demonstrations import episode_seed, stepped
from mmtx.data.episodes.babyai_level import Level
from mmtx.data.episodes.babyai_speech import Speakers
from mmtx.data.episodes.babyai_view import ViewFormat
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.environment import Environment, Observation, Outcome
from mmtx.errors import check_within
from mmtx.process.stopping import check, track

FRAME_CELL_PIXELS = 16
"""Side of a cell in the frames of a video."""


class BabyAIEnvironment(Environment):
    """A level to act in. Its episodes are in no demonstrations.

    Args:
        level: of MiniGrid's.
        num_episodes: side by side, at most.
        view: in what form the model is given what the agent sees.
        vocabulary: of the missions.
        speakers: who says missions aloud; None: nobody.
    """

    def __init__(
        self,
        *,
        level: Level,
        num_episodes: int,
        view: ViewFormat,
        vocabulary: TextVocabulary,
        speakers: Speakers | None,
    ) -> None:
        check_within("num_episodes", num_episodes, 1, 1_000_000)
        self._level, self._num_episodes, self._view_format = level, num_episodes, view
        self._vocabulary, self._speakers = vocabulary, speakers
        self._environments: list[Any] = []
        self._clips: dict[tuple[str, int], Float[Tensor, " samples"]] = {}

    @property
    def max_steps(self) -> int:
        return self._level.max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        """Begins an episode for each seed, which is an index (from 0) of the test's episodes, not the environment's
        seed.

        Returns:
            The ``view`` of each, and its ``mission`` and perhaps ``speech``.
        """
        if len(seeds) > self._num_episodes:
            raise ValueError(f"{len(seeds)} seeds for {self._num_episodes} episodes")
        begun = track(seeds, "beginning episodes")
        self._environments = [self._level.begin(episode_seed("test", seed, 0, 0)) for seed in begun]
        views = [environment.gen_obs()["image"] for environment in self._environments]
        self._cells = torch.from_numpy(numpy.stack(views))
        self._over = torch.zeros(len(seeds), dtype=torch.bool)
        self._success = torch.zeros(len(seeds), dtype=torch.bool)
        missions = [environment.mission for environment in self._environments]
        begun_missions = track(zip(missions, seeds, strict=True), "missions of episodes", len(seeds))
        return self._observed(), [self._constants(mission, seed) for mission, seed in begun_missions]

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        reward = torch.zeros(len(self._environments))
        for i, action in enumerate(actions.reshape(len(self._environments)).tolist()):
            check()
            if self._over[i]:
                continue
            view, earned, terminated, truncated = stepped(self._environments[i], int(action))
            self._cells[i], reward[i] = torch.from_numpy(view), earned
            self._over[i], self._success[i] = terminated or truncated, earned > 0
        return Outcome(self._observed(), reward, self._over.clone(), self._success.clone())

    def frame(self, index: int) -> Float[Tensor, "3 height width"]:
        """The whole grid, with the agent's view highlighted."""
        drawn = self._environments[index].get_frame(tile_size=FRAME_CELL_PIXELS)
        return torch.from_numpy(drawn).permute(2, 0, 1) / 255

    def _observed(self) -> Observation:
        fields = self._view_format.of(self._cells)
        return [{"view": {key: values[i] for key, values in fields.items()}} for i in range(len(self._cells))]

    def _constants(self, mission: str, seed: int) -> Sample:
        constants = {"mission": {"ids": torch.tensor(self._vocabulary.encode_marked(mission))}}
        if self._speakers is not None:
            constants["speech"] = {"waveform": self._speech(mission, seed, self._speakers)}
        return constants

    def _speech(self, mission: str, seed: int, speakers: Speakers) -> Float[Tensor, " samples"]:
        pair = mission, seed % speakers.voices
        if pair not in self._clips:
            self._clips[pair] = speakers.say(*pair).float() / LOUDEST
        return self._clips[pair]
