"""A flow from noise to the numbers of one or several names."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.decoding.flow import USUAL, Integration
from mmtx.decoding.guided import check_guidance
from mmtx.errors import InvalidValue, check_at_least
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.moment_embedding import MomentEmbedding
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.flow_numbers import (
    Draws,
    NumberLayout,
    Numbers,
    Times,
    attended_names,
    blank_samples,
    check_size,
    draw_moments,
    log_likelihood_of,
    made_numbers,
)
from mmtx.objectives.flowed_name import FlowedName
from mmtx.objectives.shown import show_examples

SHOWN = Integration(num_steps=8)
"""How the examples of a run are made."""


class Flow(Objective):
    """Numbers of a sample are made out of noise, given the rest of the set, by the velocity that is learnt here
    (Lipman et al. 2022, arXiv 2210.02747; Liu et al. 2022, arXiv 2209.03003).

    Time goes from 0, where all is noise, to 1, where all is data: ``x_t = (1 - t) noise + t data``, whose velocity is
    ``data - noise``, as in SiT (Ma et al. 2024, arXiv 2401.08740). The loss is the mean squared error of the velocity
    over all numbers. Noise is mixed with the numbers that tokens are made of, in about unit scale, before their
    tokenizer reads them. The model reads the time from a token before each name, or from its norms, where those are
    adaptive (``backbone/norm=adaptive``).

    Args:
        names: whose numbers are made: of pictures, or series of vectors. Several are made at once, at one time.
        times: of training: uniform, or the sigmoid of a normal number, of which more lie in the middle (Esser et al.
            2024, arXiv 2403.03206).
        likelihood_steps: steps of Heun's method by which an evaluation computes exact likelihoods, the metric ``nats``;
            null: none.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        names: Sequence[str],
        times: Times,
        likelihood_steps: int | None,
    ) -> None:
        super().__init__(weight=weight)
        if not names or len(set(names)) < len(names):
            raise InvalidValue("names", [*names], "must name one or several parts of the set, each once")
        check_at_least("likelihood_steps", likelihood_steps, 1)
        self.reads, self.times, self.likelihood_steps = tuple(names), times, likelihood_steps
        self.heads = nn.ModuleDict({name: FlowedName(specs=specs, model=model, name=name) for name in names})
        self._check_layout(model)
        self.moment = MomentEmbedding(model.backbone.dim)
        self.writes = names[0] if len(names) == 1 and not self.head(names[0]).is_given_in_part else None
        self.fitted_names = tuple(name for name in names if self.head(name).scale is not None)
        if likelihood_steps is not None:
            check_size(self._heads.values(), "likelihood_steps", likelihood_steps, "null")
            self.directions = known("nats")

    def head(self, name: str) -> FlowedName:
        head = self.heads[name]
        assert isinstance(head, FlowedName)
        return head

    def fit(self, batches: Iterable[Batch]) -> None:
        """Takes mean and standard deviation of what has no scale of its own."""
        batches = [*batches] if len(self.fitted_names) > 1 else batches
        for name in self.fitted_names:
            self.head(name).fit(batches)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields of each name: the ``moment`` of each sample, and the ``noise`` of each token.
        Moments are spread evenly over the batch."""
        device = batch.lengths[self.reads[0]].device
        moment = draw_moments(self.times, (len(batch), 1), generator, device)[:, 0]
        for name in self.reads:
            numbers = self.head(name).numbers(batch)
            noise = torch.randn(numbers.shape, generator=generator, device=device, dtype=numbers.dtype)
            batch = batch.with_values(name, moment=moment.to(numbers.dtype), noise=noise)
        return batch

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Numbers of which the loss is the mean."""
        return torch.stack([self._counts(name, batch).sum() for name in self.reads]).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        return self._score(model, batch, self._losses(model, batch))

    def _score(self, model: MultimodalTransformer, batch: Batch, losses: Float[Tensor, " B"]) -> Score:
        stats = {}
        if self.likelihood_steps is not None and not self.training:
            stats["nats"] = self._nats(model, batch).sum(), self.count(batch)
        return Score(losses.sum(), self.count(batch), stats)

    def metrics(self, score: Score) -> dict[str, float]:
        """``loss`` is the mean squared error of the velocity; ``nats`` the mean of -log density, for each number: of
        pixels as their tokenizer scales them, of others in the data's own units."""
        nats = {"nats": score.ratio("nats")} if "nats" in score.stats else {}
        return {"loss": score.mean_loss(), **nats}

    def velocity(
        self, model: MultimodalTransformer, batch: Batch, mixed: Numbers, moment: Float[Tensor, " B"]
    ) -> dict[str, Float[Tensor, "B n k"]]:
        """The velocity of each number, given the rest of the set.

        Args:
            model: whose set has the names.
            batch: with the rest of the set; of the names themselves, only their lengths count.
            mixed: noise and data of each name.
            moment: the time of each sample, in 0..1.
        """
        embedded, is_adaptive = self.moment(moment), model.backbone.is_adaptive
        token = None if is_adaptive else embedded
        token_set = model.tokenize(batch, copies={name: self.head(name).copy(mixed[name], token) for name in mixed})
        if is_adaptive:
            token_set = token_set.conditioned(embedded, mixed)
        states = model.run(token_set)
        return {name: self.head(name).projection(states.tokens(name)).to(mixed[name].dtype) for name in mixed}

    @property
    def columns(self) -> dict[str, Any]:
        return {"loss": float, "numbers": int, **({} if self.likelihood_steps is None else {"nats": float})}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """An estimate of each sample's squared errors, summed over its numbers; how many these are; and with
        `likelihood_steps`, minus the logarithm of its density, in nats."""
        counts = torch.stack([self._counts(name, batch) for name in self.reads]).sum(0)
        values: dict[str, list[Any]] = {"loss": self._losses(model, batch).tolist(), "numbers": counts.tolist()}
        if self.likelihood_steps is not None:
            values["nats"] = self._nats(model, batch).tolist()
        return values

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The numbers that are made given the rest of each sample, and the sample's."""
        truth = {name: self.head(name).numbers(batch) for name in self.reads}
        pairs = zip(self._written(batch, self._shown(model, batch)), self._written(batch, truth), strict=True)
        return [Example(one, other) for one, other in pairs]

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        """What is made is drawn beneath what the data has."""
        made = self._shown(model, batch)
        below = {name: self.head(name).drawn(made[name], batch) for name in self.reads}
        titled = [Example("below", "above") for _ in examples]
        return show_examples(model, batch, titled, stem, below)

    def generate(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        *,
        integration: Integration = USUAL,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
        count: int = 1,
        length: int | None = None,
    ) -> str:
        """Numbers that a flow makes out of noise (objective=[flow]).

        Args:
            model: in eval mode.
            batch: one sample of the rest of the set; of all names, where several are made.
            generator: draws the noise.
            integration: of the velocity; its fields are options.
            guidance: {name: scale}: above 1, a name of the set counts for more than it did in training
            count: how many are made
            length: steps of what is made, where the data have any number of them; null: as many as can be

        Raises:
            UserError: an option cannot be.
        """
        check_at_least("count", count, 1)
        several = batch.select(torch.zeros(count, dtype=torch.long, device=generator.device))
        canvas = self._canvas(several, count, length, generator.device)
        made = self.made(model, canvas, generator, integration, guidance)
        return "\n".join(self._written(canvas, made))

    @property
    def made_field(self) -> str:
        return self.head(self.reads[0]).made_field

    def make(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        count: int,
        *,
        integration: Integration = USUAL,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> Shaped[Tensor, "B ..."]:
        """A picture or a sound for each sample of a batch, out of noise, given the rest of it (objective=[flow]).

        Args:
            model: in eval mode.
            batch: samples; what they have of the name is not read.
            generator: draws the noise.
            count: of samples, which an empty batch does not have.
            integration: of the velocity; its fields are options.
            guidance: {name: scale}: above 1, a name of the set counts for more than it did in training

        Raises:
            UserError: an option cannot be.
        """
        name = self.reads[0]
        canvas = self._canvas(batch, count, None, generator.device)
        return self.head(name).made(self.made(model, canvas, generator, integration, guidance)[name])

    def made(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: Draws,
        how: Integration = USUAL,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> Numbers:
        """Numbers of each name, in their own scale, given the rest of each sample; see `made_numbers`."""
        check_guidance(guidance, [*self._attended(model), self.reads[0]], self.reads[0])
        return made_numbers(partial(self.velocity, model), self._heads, batch, generator, how, guidance)

    def log_likelihood(
        self, model: MultimodalTransformer, batch: Batch, how: Integration = USUAL
    ) -> Float[Tensor, " B"]:
        """The logarithm of the density of each sample, exact up to the solver's error, see `log_likelihood_of`."""
        return log_likelihood_of(partial(self.velocity, model), self._heads, batch, how)

    def _losses(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, " B"]:
        """The squared errors of each sample of a prepared batch, summed over its numbers."""
        moment = batch[self.reads[0]]["moment"]
        mixed = {name: self._mixed(batch, name, moment[:, None, None]) for name in self.reads}
        return self._errors(batch, self.velocity(model, batch, mixed, moment))

    def _mixed(self, batch: Batch, name: str, share: Float[Tensor, "B _ 1"]) -> Float[Tensor, "B n k"]:
        """Noise with this share of the data."""
        return (1 - share) * batch[name]["noise"] + share * self.head(name).numbers(batch)

    def _errors(self, batch: Batch, found: Numbers) -> Float[Tensor, " B"]:
        layout = NumberLayout.of(self._heads, batch)
        target = {name: self.head(name).numbers(batch) - batch[name]["noise"] for name in self.reads}
        errors = layout.flat(found) - layout.flat(target)
        return errors.to(torch.promote_types(errors.dtype, torch.float32)).square().sum(1)

    def _nats(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, " B"]:
        assert self.likelihood_steps is not None
        return -self.log_likelihood(model, batch, Integration(self.likelihood_steps))

    @property
    def _heads(self) -> dict[str, FlowedName]:
        return {name: self.head(name) for name in self.reads}

    def _counts(self, name: str, batch: Batch) -> Int[Tensor, " B"]:
        return self.head(name).real_numbers(batch).sum((1, 2))

    def _written(self, batch: Batch, numbers: Numbers) -> list[str]:
        """Of each sample, the numbers of all names, as text."""
        several = len(self.reads) > 1
        of_names = [self.head(name).written(numbers[name], batch) for name in self.reads]
        labels = [f"{name}: " if several else "" for name in self.reads]
        rows = zip(*of_names, strict=True)
        return ["\n".join(label + text for label, text in zip(labels, row, strict=True) if text) for row in rows]

    def _attended(self, model: MultimodalTransformer) -> list[str]:
        return attended_names(model, self.reads)

    def _check_layout(self, model: MultimodalTransformer) -> None:
        for head in self._heads.values():
            head.check_made_at_once(model)

    def _canvas(self, batch: Batch, count: int, length: int | None, device: torch.device) -> Batch:
        """So many samples with the only name that is made, whose values mean nothing; where several are made, or fields
        of the name are given, those of the batch."""
        if self.writes is None:
            if length is not None:
                problem = f"is that of the sample, of which {', '.join(self.reads)} are made"
                raise InvalidValue("length", length, problem, "null")
            return batch
        return blank_samples(self.head(self.writes), batch, count, length, device)

    def _shown(self, model: MultimodalTransformer, batch: Batch) -> Numbers:
        generator = torch.Generator(batch.lengths[self.reads[0]].device).manual_seed(0)
        return self.made(model, batch, generator, SHOWN)
