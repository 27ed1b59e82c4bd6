"""Rewards: what the model writes becomes more probable, the more its reward is above that of other attempts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.objectives.advantages import Method
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.distance_from_reference import distance_error, distance_stats, expected_distance
from mmtx.objectives.drawn_codes import vocabulary_of_pictures
from mmtx.objectives.judged_picture import JudgedPicture
from mmtx.objectives.log_probabilities import read_text, reference_log_probabilities
from mmtx.objectives.policy_loss import DIRECTIONS, Drawn, PolicyLoss, statistics
from mmtx.objectives.predictions import where
from mmtx.objectives.reward_frontier import Reached, draw_frontier
from mmtx.objectives.rewards import PictureReward, Reward
from mmtx.objectives.text_head import TextHead
from mmtx.objectives.text_rollouts import ROLLOUTS, TextRollouts, evaluation_generator
from mmtx.objectives.value_baseline import ValueBaseline, at_the_end


class PolicyGradient(Objective):
    """Policy gradient on rewards that can be checked. Before every step, the model writes several texts for each
    sample, by cached decoding, from the generator of the step; each is used once, so that the probability ratio of PPO
    is 1 and nothing is ever clipped. What is given of a sample, and what is written, is as for `NextToken`: after a
    prompt, its answer.

    The model at the start of the run is the reference. Scores are those of a head that is tied to the text's embedding.

    Metrics are ``reward``, and of each reward ``reward_<name>``, those of weight 0 too, which show what is gained at
    the cost of what; ``kl`` to the reference, in nats of a text; ``length``, in ids; and ``silent``, the share of
    samples whose roll-outs all have one reward, from which nothing is learnt. In evaluations, ``kl`` is averaged over
    all ids that might have been drawn, and ``kl_error`` is its standard error. With ``weight=0`` nothing is drawn in
    training, and evaluations have these metrics.

    Args:
        text: name of the set that is written.
        rewards: of a text, by name; their sum, by their weights, is learnt.
        method: how rewards become advantages, and how ids are averaged, see `mmtx.objectives.advantages`.
        group: roll-outs of each sample.
        max_new_tokens: of a roll-out; None: what the context holds.
        beta: weight of the distance from the reference, in nats; 0: it is only watched.
        logit_scale: multiplies all scores, as in `TextHead`.
        softcap: likewise.
    """

    uses_reference = rolls_out = True
    columns: Mapping[str, Any] = {"predicted": str, "truth": str, "reward": float}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        rewards: Mapping[str, Reward | PictureReward],
        method: Method,
        group: int,
        max_new_tokens: int | None,
        beta: float,
        logit_scale: float,
        softcap: float | None,
    ) -> None:
        super().__init__(weight=weight)
        keys: dict[str, Any] = {"tied": True, "logit_scale": logit_scale, "softcap": softcap, "label_smoothing": 0.0}
        self.head = TextHead(specs=specs, model=model, text=text, **keys)
        check_at_least("group", group, 2)
        check_at_least("max_new_tokens", max_new_tokens, 1)
        if not any(reward.weight for reward in rewards.values()):
            raise InvalidValue("rewards", list(rewards), "has no reward with a weight, so that nothing is learnt")
        self.value = ValueBaseline(model.backbone.dim, model.backbone.init_std) if method == "ppo" else None
        limit = self.head.context if max_new_tokens is None else max_new_tokens
        if any(isinstance(reward, PictureReward) for reward in rewards.values()):
            codes = vocabulary_of_pictures(self.head).num_tokens - 1
            check_at_least("max_new_tokens", max_new_tokens, codes)
        self._rollouts = TextRollouts(head=self.head, rewards=rewards, group=group, max_new_tokens=limit)
        self._loss = PolicyLoss(method, beta, limit)
        self.reads, self.text, self.rewards = (text,), text, dict(rewards)
        self.directions = {
            "reward": "max",
            **{f"reward_{name}": "max" for name in rewards},
            **DIRECTIONS,
            "kl_error": None,
        }

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        own = generator if self.training else evaluation_generator(batch, self.text)
        return self._rollouts.drawn(model, batch, own) if self._draws else batch

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        if not self._draws:
            return torch.zeros_like(batch.lengths[self.text].sum())
        return self._loss.count(batch[ROLLOUTS]["written"].flatten(0, 1))

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        return self.head.tied_vectors(model)

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        if not self._draws:
            return Score(torch.zeros((), device=batch.lengths[self.text].device), self.count(batch))
        drawn = self._drawn(model, batch)
        stats = self._stats(drawn, batch)
        if not self.training:
            nats = expected_distance(model, self.reference, self.head, self._rollouts.flat(batch))
            stats |= distance_stats(nats.view_as(drawn.rewards), batch.present(ROLLOUTS).sum())
        return Score(self._loss(drawn, self.value), self._loss.count(drawn.written), stats)

    def metrics(self, score: Score) -> dict[str, float]:
        found = [name for name in self.directions if name in score.stats]
        metrics = {"loss": score.mean_loss()} | {name: score.ratio(name) for name in found}
        return metrics | ({"kl_error": distance_error(score)} if "kl_square" in score.stats else {})

    @torch.no_grad()
    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The first roll-out of each sample, and the true text."""
        own = evaluation_generator(batch, self.text)
        columns = self.predictions(model, self._rollouts.drawn(model, batch, own))
        rows = zip(columns["predicted"], columns["truth"], columns["reward"], strict=True)
        return [Example(*("", "") if reward is None else (predicted, truth)) for predicted, truth, reward in rows]

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The first roll-out of each sample, the true text, and the mean reward of all its roll-outs."""
        present = batch.present(ROLLOUTS).tolist()
        ids = zip(batch[self.text]["ids"].tolist(), batch.lengths[self.text].tolist(), strict=True)
        return {
            "predicted": where(present, (texts[0] for texts in self._rollouts.texts(batch))),
            "truth": where(present, (self.head.decode(row[:length]) for row, length in ids)),
            "reward": where(present, self._reward(batch).mean(1).tolist()),
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of the id that follows each id of the text, ``(B, n, ids)``."""
        return {"logits": self.head.logits(model, model(batch).tokens(self.text)).float()}

    @torch.no_grad()
    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Each reward against the distance from the reference, beside the best that there is."""
        now, before = (
            self._rollouts.drawn(each, batch, evaluation_generator(batch, self.text))
            for each in (model, self.reference)
        )
        reached = []
        for name in self.rewards:
            values = [each[ROLLOUTS][f"reward/{name}"][each.present(ROLLOUTS)] for each in (before, now)]
            is_share = all(((value == 0) | (value == 1)).all().item() for value in values)
            first, last = (float(value.mean()) for value in values)
            reached.append(Reached(name, first, last, is_share=bool(is_share)))
        draw_frontier(self.metrics(self(model, now))["kl"], reached, path)

    @property
    def judged(self) -> dict[str, JudgedPicture]:
        """The rewards that need a judge, by name."""
        return {name: reward for name, reward in self.rewards.items() if isinstance(reward, JudgedPicture)}

    @property
    def _draws(self) -> bool:
        """Whether texts are drawn: for evaluations, and where something is learnt from them."""
        return not self.training or self.weight > 0

    def _drawn(self, model: MultimodalTransformer, batch: Batch) -> Drawn:
        flat = self._rollouts.flat(batch)
        found, rewards = read_text(model, self.head, flat), self._reward(batch)
        reference = reference_log_probabilities(self.reference, self.head, flat)
        earned = at_the_end(rewards.flatten(), found.real)
        return Drawn(found.own, reference, found.real, found.hidden, earned, rewards)

    def _reward(self, batch: Batch) -> Float[Tensor, "B G"]:
        fields = batch[ROLLOUTS]
        return torch.stack([each.weight * fields[f"reward/{name}"] for name, each in self.rewards.items()]).sum(0)

    def _stats(self, drawn: Drawn, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        texts, fields = drawn.written.any(1).sum(), batch[ROLLOUTS]
        rewards = {"reward": drawn.rewards} | {f"reward_{name}": fields[f"reward/{name}"] for name in self.rewards}
        sums = {name: (value.sum(), texts) for name, value in rewards.items()}
        return sums | statistics(drawn, batch.present(ROLLOUTS))
