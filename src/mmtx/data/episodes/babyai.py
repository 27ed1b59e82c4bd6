"""BabyAI (Chevalier-Boisvert et al. 2019): missions in a grid environment, demonstrated by MiniGrid's bot."""

from collections.abc import Mapping

import torch

from mmtx.batch import Field, Spec
from mmtx.data.base import Source, Split
from mmtx.data.episodes.babyai_demonstrations import demonstrations
from mmtx.data.episodes.babyai_environment import BabyAIEnvironment
from mmtx.data.episodes.babyai_level import Level, language
from mmtx.data.episodes.babyai_speech import SAMPLE_RATE_HZ, Speakers, longest_speech, spoken
from mmtx.data.episodes.babyai_view import Codes, Pixels, ViewFormat
from mmtx.data.episodes.babyai_windows import MissionWindows, PerEpisode
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.environment import Playable
from mmtx.errors import check_within

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


class BabyAI(Source, Playable):
    """Names: ``mission`` (an instruction in words), ``view`` (what the agent sees), ``action``, ``return``, and
    optionally ``speech`` (the mission said aloud by espeak-ng).

    A sample is a window of an episode: in training, one begins at every step; in validation, they do not overlap.
    ``times`` are the steps' indices in their episode. The view is MiniGrid's own: 7 x 7 cells ahead of the agent, walls
    hide what is behind them, and what the agent carries is in its own cell. The return is the return-to-go,
    1 - 0.9 steps / limit for a mission that is done.

    Episode `i` of a split is a pure function of (`level`, `split_seed`, split, `i`). Episodes that the bot does not
    solve are redrawn. Training, validation and the environment have no seed in common, nor, where missions are
    spoken, a speaker; the environment's episodes do not depend on `split_seed`. Demonstrations and clips are generated
    once and cached (`mmtx.data.files.cache`).

    Args:
        vocabulary: of missions, fitted to all words of BabyAI's language, whatever the level.
        level: id of a level of MiniGrid (``BabyAI-GoToLocal-v0``).
        num_episodes: training demonstrations.
        num_val: validation demonstrations; 0: none.
        context: most steps of a window.
        pixels: the view as a picture of 56 x 56 pixels instead of the codes of its cells.
        speech: add the spoken missions.
        voices: with `speech`, how many voices say each mission in each split.
        split_seed: of the episodes.

    Attributes:
        num_redrawn: episodes that the bot did not solve, or not in time.
    """

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        level: str,
        num_episodes: int,
        num_val: int,
        context: int,
        pixels: bool,
        speech: bool,
        voices: int,
        split_seed: int,
    ) -> None:
        self.level = Level(level)
        check_within("num_episodes", num_episodes, 1, 1_000_000)
        check_within("num_val", num_val, 0, 1_000_000)
        check_within("context", context, 1, self.level.max_steps)
        check_within("voices", voices, 1, 1000)
        check_within("split_seed", split_seed, 0, 2**31 - 1)
        self.vocabulary, self.context, self.speech = vocabulary, context, speech
        self._view: ViewFormat = Pixels() if pixels else Codes()
        self._speakers = {split: Speakers(split, voices, split_seed) for split in ("train", "val")}
        self._speakers["test"] = Speakers("test", voices, 0)
        counts = {split: count for split, count in (("train", num_episodes), ("val", num_val)) if count}
        self._demonstrations = {split: demonstrations(self.level, split, n, split_seed) for split, n in counts.items()}
        self._speech = {
            split: spoken(shown, self._speakers[split]) for split, shown in self._demonstrations.items() if speech
        }
        self.num_redrawn = sum(int(shown.num_redrawn) for shown in self._demonstrations.values())
        shown = self._demonstrations["train"]
        self.best_return = max(float(each.reward.max()) for each in self._demonstrations.values())
        self.mean_return, self.return_scale = float(shown.reward.mean()), 1.0
        texts = shown.texts[shown.mission].tolist()
        self.fitted.vocabulary("mission", vocabulary, texts, marks=True, held_out=language())

    @property
    def specs(self) -> Mapping[str, Spec]:
        longest = self.level.longest_mission(lambda text: len(self.vocabulary.encode(text))) + 2
        action = Field((None,), torch.long, num_classes=len(ACTIONS), max_length=self.context)
        return {
            "mission": text_spec(self.vocabulary, longest),
            **({"speech": Spec({"waveform": self._waveform()}, sample_rate_hz=SAMPLE_RATE_HZ)} if self.speech else {}),
            "view": self._steps(self._view.fields(self.context)),
            "action": self._steps({"class": action}, class_names=ACTIONS),
            "return": self._steps({"values": Field((None, 1), torch.float32, max_length=self.context)}),
        }

    def train(self) -> Split:
        return self._windows("train", stride=1)

    def val(self) -> Split | None:
        return self._windows("val", stride=self.context) if "val" in self._demonstrations else None

    def test(self) -> None:
        """None: models are tested by acting in `environment`."""

    def environment(self, num_episodes: int) -> BabyAIEnvironment:
        return BabyAIEnvironment(
            level=self.level,
            num_episodes=num_episodes,
            view=self._view,
            vocabulary=self.vocabulary,
            speakers=self._speakers["test"] if self.speech else None,
        )

    def _steps(self, fields: dict[str, Field], class_names: tuple[str, ...] | None = None) -> Spec:
        times = Field((None,), torch.long, num_classes=self.level.max_steps, max_length=self.context, rising=True)
        return Spec({**fields, "times": times}, class_names=class_names)

    def _waveform(self) -> Field:
        longest = self.level.longest_mission(lambda text: len(text.split()))
        return Field((None,), torch.float32, max_length=round(longest_speech(longest) * SAMPLE_RATE_HZ))

    def _windows(self, split: str, stride: int) -> MissionWindows:
        shown = self._demonstrations[split]
        ids = [torch.tensor(self.vocabulary.encode_marked(text)) for text in shown.texts.tolist()]
        per_episode = {"mission": PerEpisode("ids", ids, shown.mission)}
        if self.speech:
            per_episode["speech"] = PerEpisode("waveform", *self._speech[split])
        return MissionWindows(shown, per_episode, self._view, self.context, stride)
