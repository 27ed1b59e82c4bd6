"""Online learning: actions become more probable, the more the return of an episode is above that of other attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.sampling import SAMPLED
from mmtx.environment import Playable
from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.objectives.action import Action
from mmtx.objectives.advantages import Method
from mmtx.objectives.base import Score
from mmtx.objectives.episode_rollouts import EpisodeRollouts
from mmtx.objectives.policy_loss import DIRECTIONS, Drawn, PolicyLoss, statistics
from mmtx.objectives.steps import first_steps
from mmtx.objectives.text_rollouts import ROLLOUTS
from mmtx.objectives.value_baseline import ValueBaseline
from mmtx.tokens import HiddenStates


class ActionByReturn(Action):
    """`PolicyGradient`, of actions. Before every step, the model plays several episodes for each sample of the batch in
    the environment of the data, from the generator of the step; each is used once, so that the probability ratio of PPO
    is 1. They begin alike, and differ in the actions that are drawn, from the model's own distribution whatever
    `temperature` is. What is in the samples is not read. With ``return`` in the set, it acts for the first of
    `target_returns`.

    A step is learnt from in the window in which its action was drawn. So an episode that is longer than the context
    of the data costs a window for each step behind that.

    It begins with a run of `Action`, whose head it takes over (``init_from``). Evaluations are those of `Action`: the
    loss on actions of the data, and episodes. In training, metrics are ``return``, the mean of all episodes;
    ``length``, in steps; and ``silent``, the share of samples whose episodes all have one return, from which nothing is
    learnt.

    Args:
        action: name of the data that is predicted, a class. Where it is in the set, it comes after `read`.
        read: name whose hidden states of a step predict its action: their mean, where there are several.
        val_episodes: played in every validation.
        test_episodes: played in the test.
        target_returns: the first is acted for. None: the best of the data.
        temperature: of classes that are drawn in evaluations; 0 takes the best.
        method: how returns become advantages, and how steps are averaged, see `mmtx.objectives.advantages`.
        group: episodes of each sample.
    """

    rolls_out = True

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        action: str,
        read: str,
        val_episodes: int,
        test_episodes: int,
        target_returns: list[float] | None,
        temperature: float,
        method: Method,
        group: int,
    ) -> None:
        super().__init__(
            specs=specs,
            model=model,
            weight=weight,
            action=action,
            read=read,
            squash=False,
            dropout=0.0,
            val_episodes=val_episodes,
            test_episodes=test_episodes,
            target_returns=target_returns,
            temperature=temperature,
        )
        if not self.is_discrete:
            raise InvalidValue("action", action, "has numbers, which have no probability to be raised; classes have")
        check_at_least("group", group, 2)
        target = None if target_returns is None else target_returns[0]
        self._rollouts = EpisodeRollouts(actor=_Explorer(self), specs=specs, group=group, target_return=target)
        self.value = ValueBaseline(model.backbone.dim, model.backbone.init_std) if method == "ppo" else None
        longest = specs[action].fields["times"].num_classes if "times" in specs[action].fields else 1
        self._loss = PolicyLoss(method, 0.0, longest or 1)
        self._sources: dict[str, Playable] = {}
        self.directions = {**self.directions, "return": "max", "length": None, "silent": DIRECTIONS["silent"]}

    def play_in(self, part: str, source: Playable) -> None:
        if not source.can_play:
            where = f"data.parts.{part}" if part else "data"
            raise UserError(f"{where} has no environment to act in, from which its objective learns; give {where}.env")
        self._sources[part] = source

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        if not self.training or self.weight == 0:
            return batch
        return self._rollouts.drawn(model, batch, self._sources[batch.part], generator)

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        if not self.training:
            return super().count(batch)
        if ROLLOUTS not in batch:
            return torch.zeros_like(batch.lengths[self.action].sum())
        steps = batch[ROLLOUTS]["steps"].flatten()
        return self._loss.count(torch.arange(int(steps.max()), device=steps.device) < steps[:, None])

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        if not self.training:
            score = super().forward(model, batch)
            return replace(score, loss_sum=score.loss_sum + self._nothing())
        if ROLLOUTS not in batch:
            return Score(self._nothing(), self.count(batch))
        drawn = self._drawn(model, batch)
        return Score(self._loss(drawn, self.value), self._loss.count(drawn.written), self._stats(drawn, batch))

    def metrics(self, score: Score) -> dict[str, float]:
        found = [name for name in self.directions if name in score.stats]
        return {"loss": score.mean_loss()} | {name: score.ratio(name) for name in found}

    def _nothing(self) -> Float[Tensor, ""]:
        """0, with every parameter in its graph, as ranks have the same."""
        return torch.stack([0.0 * parameter.sum() for parameter in self.parameters()]).sum()

    def _drawn(self, model: MultimodalTransformer, batch: Batch) -> Drawn:
        windows, earned = self._rollouts.windows(model, batch), batch[ROLLOUTS]["reward"].flatten(0, 1)
        actions = windows.batch[self.target][self.field]
        hidden = first_steps(model(windows.batch).tokens(self.read), self.tokens_per_step, actions.shape[1])
        scores = self.head(hidden).float()
        own = -F.cross_entropy(scores.flatten(0, 1), actions.flatten(), reduction="none").view_as(actions)
        by_episode = windows.by_episode
        rewards = earned.sum(1).view(len(batch), -1)
        return Drawn(by_episode(own), None, windows.steps, by_episode(hidden), earned, rewards)

    def _stats(self, drawn: Drawn, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        episodes, scale = drawn.written.any(1).sum(), self._sources[batch.part].return_scale
        return {"return": (drawn.rewards.sum() * scale, episodes), **statistics(drawn, batch.present(ROLLOUTS))}


@dataclass(frozen=True)
class _Explorer:
    """An objective that acts by drawing from its own distribution as it is."""

    objective: Action

    @property
    def action(self) -> str:
        return self.objective.action

    @property
    def read(self) -> str:
        return self.objective.read

    def act(
        self, states: HiddenStates, num_steps: int, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]:
        predicted = self.objective.predict(states, num_steps)[:, -1]
        return self.objective.chosen(predicted, generators, SAMPLED)
