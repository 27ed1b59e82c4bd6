"""Items of a name, such as the pictures of a document, each made out of noise given what stands before it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.copies import Copy
from mmtx.decoding.flow import USUAL, Integration
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Score
from mmtx.objectives.flow import Flow
from mmtx.objectives.flow_numbers import Draws, Numbers, Times, attended_names, draw_moments
from mmtx.tokens import Clock, HiddenStates, TokenSet

NOISY = "noisy "
"""Before the name that a copy is of."""


class FlowInTurn(Flow):
    """`Flow` of the items of one name: pictures among the words of a document, or steps of a series. Each is made out
    of noise given what stands before it, in which earlier items are as they are (Zhou et al. 2024, arXiv 2408.11039,
    where what follows a picture in training is given the noisy one).

    In training, an item is in the set twice: as it is, for what comes after it, and noisy, in a private copy that
    attends to itself and to what stands before it. So all items are learnt in one pass, and whatever else is read from
    it is as it would be without the noisy copies: objectives of texts share the pass, see `ScoresStates`. Each item has
    a time of its own, which the model reads from its norms (``backbone/norm=adaptive``).

    Args:
        name: whose items are made.
        times: of training, see `Flow`.
        likelihood_steps: see `Flow`.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        name: str,
        times: Times,
        likelihood_steps: int | None,
    ) -> None:
        keys: dict[str, Any] = {"weight": weight, "times": times, "likelihood_steps": likelihood_steps}
        super().__init__(specs=specs, model=model, names=[name], **keys)
        self.name = name
        if self.head(name).most_items > 1:
            self.writes = None  # where they stand is known of a sample alone

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields of the name: the ``moment`` of each item, and the ``noise`` of each token."""
        numbers = self.head(self.name).numbers(batch)
        moment = draw_moments(self.times, (len(batch), self._num_items(numbers)), generator, numbers.device)
        noise = torch.randn(numbers.shape, generator=generator, device=numbers.device, dtype=numbers.dtype)
        return batch.with_values(self.name, moment=moment.to(numbers.dtype), noise=noise)

    def lay(self, model: MultimodalTransformer, batch: Batch) -> TokenSet:
        moment, noise = batch[self.name]["moment"], batch[self.name]["noise"]
        mixed = self._mixed(batch, self.name, moment[:, self._item_of(noise), None])
        return self._laid(model, batch, mixed, moment)

    def score_of(self, model: MultimodalTransformer, states: HiddenStates, batch: Batch) -> Score:
        return self._score(model, batch, self._errors(batch, self._read(states)))

    def velocity(
        self, model: MultimodalTransformer, batch: Batch, mixed: Numbers, moment: Float[Tensor, " B"]
    ) -> dict[str, Float[Tensor, "B n k"]]:
        """The velocity of each number, given what stands before its item, earlier items as the batch has them.

        Args:
            model: whose set has the name.
            batch: with the rest of the set, and the items.
            mixed: noise and data of each item.
            moment: the time of each sample, in 0..1.
        """
        numbers = mixed[self.name]
        moments = moment[:, None].expand(-1, self._num_items(numbers))
        return self._read(model.run(self._laid(model, batch, numbers, moments)))

    def made(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: Draws,
        how: Integration = USUAL,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> Numbers:
        """Numbers of all items, made one after the other, each given those that were made before it."""
        if self.head(self.name).most_items == 1:
            return super().made(model, batch, generator, how, guidance)
        given, size = self.head(self.name).numbers(batch), self.head(self.name).tokens_per_item
        made = given[:, :0]
        for item in range(self._num_items(given)):
            begun = torch.cat([made, given[:, item * size : (item + 1) * size]], dim=1)
            found = super().made(model, self._begun(batch, begun), generator, how, guidance)[self.name]
            made = torch.cat([made, found[:, item * size :].to(made.dtype)], dim=1)
        return {self.name: made}

    def _begun(self, batch: Batch, numbers: Float[Tensor, "B n k"]) -> Batch:
        """The batch with as many items at most as these numbers are of."""
        fields = self.head(self.name).fields_of(numbers)
        (longest,) = {values.shape[1] for values in fields.values()}  # frames, of items of several frames
        if "times" in batch[self.name]:
            fields["times"] = batch[self.name]["times"][:, :longest]
        return batch.with_name(self.name, fields, batch.lengths[self.name].clamp(max=longest))

    def _losses(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, " B"]:
        return self._errors(batch, self._read(model.run(self.lay(model, batch))))

    def _read(self, states: HiddenStates) -> dict[str, Float[Tensor, "B n k"]]:
        projection = self.head(self.name).projection
        return {self.name: projection(states.tokens(NOISY + self.name)).to(projection.weight.dtype)}

    def _laid(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        mixed: Float[Tensor, "B n k"],
        moment: Float[Tensor, "B items"],
    ) -> TokenSet:
        """The set in which these numbers, with the times of their items, stand beside the name."""
        key, rows = NOISY + self.name, torch.arange(moment.numel(), device=moment.device).view_as(moment)
        noisy = Copy(self.name, self.head(self.name).fields_of(mixed), private=True)
        token_set = model.tokenize(batch, copies={key: noisy, self.name: Copy(self.name)})
        prefix = token_set.spans[key].content_start - token_set.spans[key].start
        of_tokens = torch.cat([rows[:, :1].expand(-1, prefix), rows[:, self._item_of(mixed)]], dim=1)
        return token_set.conditioned_by_token(self.moment(moment.flatten()), {key: of_tokens})

    def _num_items(self, numbers: Float[Tensor, "B n k"]) -> int:
        head = self.head(self.name)
        return 1 if head.most_items == 1 else numbers.shape[1] // head.tokens_per_item

    def _item_of(self, numbers: Float[Tensor, "B n k"]) -> Int[Tensor, " n"]:
        """The item of each token."""
        head, token = self.head(self.name), torch.arange(numbers.shape[1], device=numbers.device)
        return token * 0 if head.most_items == 1 else token // head.tokens_per_item

    def _attended(self, model: MultimodalTransformer) -> list[str]:
        return attended_names(model, self.reads, in_turn=self.head(self.name).most_items > 1)

    def _check_layout(self, model: MultimodalTransformer) -> None:
        """Raises InvalidValue where the model reads no times of items, or copies of them would attend to each other."""
        (name,) = self.reads
        if not model.backbone.is_adaptive:
            raise InvalidValue("name", name, "has a time for each item, which norms read", "backbone/norm=adaptive")
        clock = model.clock_of[name]
        if model.clocks.get(clock, Clock()).mutual:
            problem = f"is on the clock '{clock}', where what stands at one moment attends to each other"
            raise InvalidValue("name", name, problem, f"modality.{name}.clock=null")
