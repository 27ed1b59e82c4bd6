"""A name whose numbers a flow makes out of noise."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec, fake_batch
from mmtx.copies import Copy
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Fills, Numbers, Sounds
from mmtx.modalities.drawing import drawings_of
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import required_name
from mmtx.objectives.sample_grid import Below
from mmtx.objectives.standard_scale import StandardScale


class FlowedName(nn.Module):
    """The numbers that the tokens of a name are made of, about of unit scale, and a velocity read from hidden states.

    Pixels have the scale that their tokenizer gives them; other numbers are standardised by the training part, each by
    itself.

    Args:
        specs: what the data declares.
        model: whose set has the name.
        name: of pictures, of sounds of one length, or of vectors.

    Raises:
        ValueError: the set has no such name.
        InvalidValue: it is not made of numbers, or is encoded.
    """

    roles = {"projection.weight": "head"}

    def __init__(self, *, specs: Mapping[str, Spec], model: MultimodalTransformer, name: str) -> None:
        super().__init__()
        required_name(name, model.names, "modality of the set", "names")
        if name in model.encoded:
            raise InvalidValue("names", name, "is sent through the encoder; what is made is decoded", "encode=[]")
        tokenizer = model.tokenizer(name)
        if not isinstance(tokenizer, Numbers) or not tokenizer.numbers_per_token:
            raise InvalidValue("names", name, "is not made of numbers, as pictures and series of vectors are")
        self.name, self.size, self.max_length = name, tokenizer.numbers_per_token, specs[name].max_length
        self.is_given_in_part = bool({*specs[name].fields} - {tokenizer.numbered, "waveform", "times"})
        shortest, longest = tokenizer.num_tokens(torch.tensor([1, self.max_length])).tolist()
        self.is_ragged = shortest < longest or (isinstance(tokenizer, Fills) and tokenizer.fills)
        if self.is_ragged and tokenizer.numbered not in specs[name].fields:
            problem = f"is made of {tokenizer.numbered}, of which clips have as many as they are long"
            raise InvalidValue("names", name, problem, f"modality.{name}.pad_to_seconds=2")
        self.scale = None if tokenizer.is_scaled else StandardScale(self.size)
        self.projection = nn.Linear(model.backbone.dim, self.size)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self._tokenizer = (tokenizer,)  # in a tuple, so that it is no part of this module
        self.most_items = items_of_longest(tokenizer, specs[name])
        self.tokens_per_item = int(self._num_tokens(torch.tensor([self.max_length]))) // self.most_items

    @property
    def max_numbers(self) -> int:
        """Of a sample."""
        return int(self._num_tokens(torch.tensor([self.max_length]))) * self.size

    def numbers(self, batch: Batch) -> Float[Tensor, "B n k"]:
        """Of each token."""
        numbers = self._raw(batch)
        return numbers if self.scale is None else self.scale(numbers).to(numbers.dtype)

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        """The fields that have such numbers, in the units of the data."""
        numbers = numbers if self.scale is None else self.scale.back(numbers).to(numbers.dtype)
        fields: dict[str, Tensor] = self._numbered.fields_of(numbers)
        return fields

    def fit(self, batches: Iterable[Batch]) -> None:
        """Takes mean and standard deviation of numbers that have no scale yet."""
        if self.scale is not None:
            self.scale.fit(self._raw(batch)[self.real(batch)].cpu() for batch in batches)

    def log_scale(self, batch: Batch) -> Float[Tensor, " B"]:
        """How much less dense each sample is in the units of the data than in those of `numbers`, in nats."""
        tokens = self.real(batch).sum(1)
        return tokens * 0.0 if self.scale is None else tokens * self.scale.deviation.log().sum()

    def real(self, batch: Batch) -> Bool[Tensor, "B n"]:
        """Which tokens have numbers."""
        lengths = self._num_tokens(batch.lengths[self.name])
        count = self._raw(batch).shape[1]
        return torch.arange(count, device=lengths.device) < lengths[:, None]

    def real_numbers(self, batch: Batch) -> Bool[Tensor, "B n k"]:
        """Which numbers there are: those of real tokens, but for what fills one."""
        real, tokenizer = self.real(batch)[..., None].expand(-1, -1, self.size), self._tokenizer[0]
        if not isinstance(tokenizer, Fills):
            return real
        return real & tokenizer.of_data(real.shape[1], batch.lengths[self.name])

    def blank(self, batch: Batch, lengths: Int[Tensor, " B"]) -> Batch:
        """The batch with a name of these lengths, all the same, whose values mean nothing."""
        numbers = self.projection.weight.new_zeros(len(lengths), int(self._num_tokens(lengths)[0]), self.size)
        is_full = int(lengths[0]) == self.max_length
        return batch.with_name(self.name, self.fields_of(numbers), lengths, full=is_full)

    @property
    def made_field(self) -> str:
        """``pixels`` of pictures, all of one size; ``waveform`` of sounds; of others, that which the numbers are."""
        return "waveform" if isinstance(self._tokenizer[0], Sounds) else self._numbered.numbered

    def made(self, numbers: Float[Tensor, "B n k"]) -> Shaped[Tensor, "B ..."]:
        """The field `made_field` that has such numbers: pixels of 0..255, waveforms."""
        tokenizer, fields = self._tokenizer[0], self.fields_of(numbers)
        if isinstance(tokenizer, Sounds):
            return tokenizer.sound(fields)
        values = fields[self.made_field]
        if self.made_field != "pixels":
            return values[:, : self.max_length] if self.is_ragged else values
        pixels = values * (1.0 if tokenizer.spec.fields["pixels"].dtype == torch.uint8 else 255.0)
        return pixels.round().clamp(0, 255).to(torch.uint8)

    def drawn(self, numbers: Float[Tensor, "B n k"], batch: Batch) -> Below:
        """Draws what has such numbers, as the data is drawn."""
        is_picture = "pixels" in batch[self.name] and not self.is_ragged
        fields = {"pixels": self.made(numbers)} if is_picture else self.fields_of(numbers)
        lengths = batch.lengths[self.name].tolist()
        draw = drawings_of(self._tokenizer[0])[-1].draw

        def below(axes: Any, _: Any, index: int) -> None:
            draw(axes, {key: values[index] for key, values in fields.items()}, lengths[index])

        return below

    def written(self, numbers: Float[Tensor, "B n k"], batch: Batch) -> list[str | None]:
        """Of each sample, its numbers in the units of the data, token by token; None where it has none."""
        back = numbers if self.scale is None else self.scale.back(numbers)
        rows = [
            [" ".join(f"{x:.4g}" for x in token[real]) for token, real in zip(tokens, there, strict=True) if real.any()]
            for tokens, there in zip(back.cpu(), self.real_numbers(batch).cpu(), strict=True)
        ]
        return ["; ".join(row) or None for row in rows]

    def copy(self, numbers: Float[Tensor, "B n k"], moment: Float[Tensor, "B D"] | None) -> Copy:
        """The name with other numbers, all of one item, and the embedded time of the flow in front of them, where it is
        a token."""
        times = torch.zeros(1, numbers.shape[1] + self._num_prefix, dtype=torch.long, device=numbers.device)
        scratch = None if moment is None else moment[:, None]
        return Copy(self.name, self.fields_of(numbers), times if self.most_items > 1 else None, in_front=scratch)

    def check_made_at_once(self, model: MultimodalTransformer) -> None:
        """Raises InvalidValue where several items cannot be laid out as one, or no positions tell them apart."""
        if self.most_items == 1:
            return
        clock_of = model.clock_of
        shares = [other for other in model.names if other != self.name and clock_of[other] == clock_of[self.name]]
        if shares:
            problem = f"has steps that are made at once, and shares its clock with {shares[0]}"
            raise InvalidValue("names", self.name, problem, f"modality.{self.name}.clock=null")
        if not model.backbone.needs_index:
            problem = "has steps that are made at once, and no positions tell them apart"
            hint = "backbone/positions=rotary backbone.positions.rotary.axes=[index]"
            raise InvalidValue("names", self.name, problem, hint)

    @property
    def _numbered(self) -> Numbers:
        tokenizer = self._tokenizer[0]
        assert isinstance(tokenizer, Numbers)
        return tokenizer

    @property
    def _num_prefix(self) -> int:
        return self._tokenizer[0].num_summaries + self._tokenizer[0].num_registers

    def _raw(self, batch: Batch) -> Float[Tensor, "B n k"]:
        numbers: Tensor = self._numbered.numbers(batch[self.name], batch.lengths[self.name])
        return numbers

    def _num_tokens(self, lengths: Tensor) -> Tensor:
        tokens = self._tokenizer[0].num_tokens(lengths)
        return tokens - self._num_prefix * (tokens > 0)


def items_of_longest(tokenizer: Tokenizer, spec: Spec) -> int:
    """Items of the longest sample."""
    batch = fake_batch({"name": spec}, 1, ragged=False)
    with torch.no_grad():
        return tokenizer(batch["name"], batch.lengths["name"], True).num_items
