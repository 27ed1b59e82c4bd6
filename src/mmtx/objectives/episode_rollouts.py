"""Roll-outs of episodes: a batch with what the model has done in the environment of its data."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.history import padded
from mmtx.decoding.recorder import Played, Recorder
from mmtx.decoding.rollouts import roll_out
from mmtx.decoding.step_decoder import Actor
from mmtx.environment import FIRST_SEED, Playable
from mmtx.model import MultimodalTransformer
from mmtx.objectives.text_rollouts import ROLLOUTS


class EpisodeWindows(NamedTuple):
    """Windows of all steps of episodes, as the model had them when it acted, one after the other.

    Attributes:
        batch: a sample for each window. The first of an episode has its first steps; each later one ends a step later.
        counted: which of their steps no window before has: those of an episode, in the order of time.
        steps: of each episode, which steps there are.
    """

    batch: Batch
    counted: Bool[Tensor, "windows context"]
    steps: Bool[Tensor, "episodes T"]

    def by_episode(self, values: Shaped[Tensor, "windows context *size"]) -> Shaped[Tensor, "episodes T *size"]:
        """The values of counted steps, episode by episode, 0 behind the last."""
        out = values.new_zeros(*self.steps.shape, *values.shape[2:])
        out[self.steps] = values[self.counted]
        return out


class _Places(NamedTuple):
    """Where windows lie in their episodes: the number of the episode, the step at each place of the window, which of
    them are real, and which no window before has."""

    episode: Int[Tensor, " windows"]
    step: Int[Tensor, "windows context"]
    real: Bool[Tensor, "windows context"]
    counted: Bool[Tensor, "windows context"]

    def gathered(self, values: Shaped[Tensor, "episodes T *size"]) -> Shaped[Tensor, "windows context *size"]:
        """The values of these steps, and zeros behind the end of an episode."""
        found = values[self.episode[:, None], self.step]
        return found * self.real.view(*self.real.shape, *[1] * (found.dim() - 2))


class EpisodeRollouts:
    """Plays several episodes for each sample of a batch, which begin alike and differ in the actions that are drawn.

    Of a batch of the data only the number of samples is used: how an episode begins, and what is drawn in it, follow
    from the generator. Under `ROLLOUTS` it has then of every name ``<name>/<field>``, ``(B, G, T, ...)`` or, for what
    holds for a whole episode, ``(B, ...)`` and ``<name>/length``; the ``reward`` of each step, ``(B, G, T)``; and
    ``steps``, how many an episode has, ``(B, G)``. The length of a sample is that of its longest episode, or 0.

    Args:
        actor: draws actions.
        specs: of the data.
        group: episodes of each sample, G.
        target_return: to act for; None: the best of the data.
    """

    def __init__(self, *, actor: Actor, specs: Mapping[str, Spec], group: int, target_return: float | None) -> None:
        self._actor, self._specs, self._group, self._target = actor, specs, group, target_return

    def drawn(self, model: MultimodalTransformer, batch: Batch, source: Playable, generator: torch.Generator) -> Batch:
        """The batch with roll-outs; of samples without actions there are none.

        Args:
            model: that acts.
            batch: of the data.
            source: the data, in whose environment it acts.
            generator: of the batch's device.
        """
        device, present = generator.device, batch.present(self._actor.action)
        begins = torch.randint(FIRST_SEED["val"], (len(batch),), generator=generator, device=device)
        draws = torch.randint(2**62, (len(batch), self._group), generator=generator, device=device)
        seeds = begins[present].repeat_interleave(self._group).tolist()
        if not seeds:
            return batch
        specs = {name: spec for name, spec in self._specs.items() if name in batch}
        target = source.best_return if self._target is None else self._target
        played = self._played(model, specs, source, seeds, draws[present].flatten().tolist(), target)
        fields = self._fields(model, specs, played, target, source.return_scale)
        fields = {key: _spread(values.to(device), present) for key, values in fields.items()}
        return batch.with_name(ROLLOUTS, fields, fields["steps"].amax(1))

    def windows(self, model: MultimodalTransformer, batch: Batch) -> EpisodeWindows:
        """The steps of all episodes, as windows of as many as the data has in one. They are padded, also where the
        batch was packed."""
        fields, timed = batch[ROLLOUTS], self._timed(model, batch)
        lengths = fields["steps"].flatten()
        places = _places(lengths, min(self._specs[name].max_length for name in timed))
        made: dict[str, dict[str, Tensor]] = {}
        counts = dict.fromkeys(timed, places.real.sum(1))
        for name in timed:
            keys = (key for key in self._specs[name].fields if key != "times")
            made[name] = {key: places.gathered(fields[f"{name}/{key}"].flatten(0, 1)) for key in keys}
            made[name]["times"] = places.step
        sample = places.episode // self._group
        for name in (name for name in model.names if name in batch and name not in timed):
            made[name] = {key: fields[f"{name}/{key}"][sample] for key in self._specs[name].fields}
            counts[name] = fields[f"{name}/length"][sample]
        steps = torch.arange(fields["reward"].shape[2], device=lengths.device) < lengths[:, None]
        return EpisodeWindows(Batch(made, counts, part=batch.part), places.counted, steps)

    def _played(
        self,
        model: MultimodalTransformer,
        specs: Mapping[str, Spec],
        source: Playable,
        seeds: Sequence[int],
        draws: Sequence[int],
        target: float,
    ) -> Played:
        environment, was_training = Recorder(source.environment(len(seeds))), model.training
        model.eval()
        try:
            roll_out(
                model,
                self._actor,
                specs,
                environment,
                seeds,
                target_returns=[target] * len(seeds),
                return_scale=source.return_scale,
                drawn_from=draws,
            )
            return environment.played
        finally:
            model.train(was_training)
            environment.close()

    def _fields(
        self, model: MultimodalTransformer, specs: Mapping[str, Spec], played: Played, target: float, scale: float
    ) -> dict[str, Tensor]:
        """What is kept of the episodes, those of one sample side by side."""
        before = played.rewards.cumsum(1) - played.rewards
        last = torch.cat([torch.zeros_like(before[:, :1]), played.rewards[:, :-1]], 1)
        action = self._actor.action
        key = next(key for key in ("class", "values") if key in specs[action].fields)
        known: dict[str, Mapping[str, Tensor]] = {
            "return": {"values": (target - before)[..., None] / scale},
            "reward": {"values": last[..., None] / scale},
        }
        known |= {**played.observed, action: {key: played.actions}}
        found = {"reward": played.rewards / scale, "steps": played.lengths}
        for name in dict.fromkeys([*(name for name in model.names if name in specs), action]):
            if name in known:
                found |= {f"{name}/{key}": values for key, values in known[name].items()}
        grouped = {key: values.unflatten(0, (-1, self._group)) for key, values in found.items()}
        for name in (name for name in model.names if name in specs and name not in known):
            values, lengths, _ = padded([each[name] for each in played.constants[:: self._group]], specs[name])
            grouped |= {f"{name}/{key}": each for key, each in values.items()} | {f"{name}/length": lengths}
        return grouped

    def _timed(self, model: MultimodalTransformer, batch: Batch) -> list[str]:
        names = dict.fromkeys([*(name for name in model.names if name in batch), self._actor.action])
        return [name for name in names if "times" in self._specs[name].fields]


def _places(lengths: Int[Tensor, " episodes"], context: int) -> _Places:
    """The windows of episodes: one from the first step on, also of an episode without any, and one for each step that
    it does not reach, which ends there."""
    counts, device = (lengths - context).clamp(min=0) + 1, lengths.device
    episode = torch.arange(len(lengths), device=device).repeat_interleave(counts)
    begin = torch.arange(len(episode), device=device) - (counts.cumsum(0) - counts)[episode]
    size = lengths[episode].clamp(max=context)
    reach = torch.arange(int(size.max().clamp(min=1)), device=device)
    real = reach < size[:, None]
    counted = real & ((begin == 0)[:, None] | (reach == context - 1))
    return _Places(episode, (begin[:, None] + reach) * real, real, counted)


def _spread(values: Shaped[Tensor, "some ..."], present: Bool[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
    """Rows of the samples that have some, and zeros for the others."""
    out = values.new_zeros(len(present), *values.shape[1:])
    out[present] = values
    return out
