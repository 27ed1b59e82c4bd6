"""The frames of a film, each predicted from those before it, and those that are made so.

Axes: B films, T frames of a film, P tokens of a frame, k numbers of a token.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.decoding.flow import USUAL, Integration
from mmtx.errors import InvalidValue, UserError, check_within
from mmtx.metric_directions import known
from mmtx.modalities.capabilities import Films, Numbers
from mmtx.modalities.drawing import drawings_of
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score, required_name
from mmtx.objectives.flowed_name import items_of_longest
from mmtx.objectives.frame_metrics import squared_error, structural_similarity
from mmtx.objectives.shown import show_examples


class NextFrames(Objective):
    """The next frame of a film, by the mean squared error of the numbers that its tokens are made of.

    An evaluation begins with the first frames of each film and makes the others one after the other, each from those
    before it, made ones among them. Its metrics are of the made frames: ``mse``, summed over the pixels of a frame, in
    0..1; ``mse_of_copy``, had the last given frame been repeated; ``ssim``.

    Args:
        name: of films, causal, whose tokens are each of one frame.
        given: frames that an evaluation begins with.
    """

    roles = {"projection.weight": "head"}
    directions = known("mse", "mse_of_copy", "ssim")

    how: Integration = USUAL
    """How an evaluation makes frames, if it makes them of noise."""

    def __init__(
        self, *, specs: Mapping[str, Spec], model: MultimodalTransformer, weight: float, name: str, given: int
    ) -> None:
        super().__init__(weight=weight)
        required_name(name, model.names, "modality of the set", "name")
        if name in model.encoded:
            raise InvalidValue("name", name, "is sent through the encoder; what is made is decoded", "encode=[]")
        tokenizer, longest = model.tokenizer(name), specs[name].max_length
        if not isinstance(tokenizer, Films) or not isinstance(tokenizer, Numbers):
            raise InvalidValue("name", name, "is no film")
        if not tokenizer.numbers_per_token or items_of_longest(tokenizer, specs[name]) != longest:
            hint = f"modality.{name}.tubelet_frames=1 modality.{name}.causal=true"
            raise InvalidValue("name", name, "has no frames that follow one another, one at a time", hint)
        check_within("given", given, 1, longest - 1)
        self.reads, self.name, self.given, self.size = (name,), name, given, tokenizer.numbers_per_token
        self._longest, self._is_bytes = longest, specs[name].fields["frames"].dtype == torch.uint8
        self.tokens_of_frame = int(tokenizer.num_tokens(torch.tensor([1])))
        self.projection = nn.Linear(model.backbone.dim, self.size)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self._tokenizer = (tokenizer,)  # in a tuple, so that it is no part of this module

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Numbers of frames that are predicted."""
        return (batch.lengths[self.name] - 1).clamp(min=0).sum() * self.tokens_of_frame * self.size

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        errors = self.errors(model, batch)
        return Score(errors.sum(), self.count(batch), {} if self.training else self._stats(model, batch))

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), **{name: score.ratio(name) for name in score.stats}}

    def errors(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n"]:
        """Squared errors of each token of all frames but the first, summed over its numbers; 0 where there is none."""
        found = self.predicted(model, batch)[:, : -self.tokens_of_frame]
        wrong = found - self.numbers(batch)[:, self.tokens_of_frame :]
        return wrong.float().square().sum(-1) * self.real(batch)[:, 1:].repeat_interleave(self.tokens_of_frame, dim=1)

    def predicted(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n k"]:
        """The numbers of the frame after that of each token."""
        return self.projection(model(batch).tokens(self.name))

    def next_frame(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        before: Float[Tensor, "B n k"],
        noise: Float[Tensor, "B P k"],
        how: Integration,
    ) -> Float[Tensor, "B P k"]:
        """The numbers of the frame after some.

        Args:
            model: in eval mode.
            batch: with the rest of the set.
            before: numbers of all frames before it.
            noise: that it may be made of.
            how: if it is.
        """
        return self.predicted(model, self.cut(batch, before))[:, -self.tokens_of_frame :]

    def made(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        given: int,
        noise: Float[Tensor, "B n k"],
        how: Integration,
    ) -> Float[Tensor, "B n k"]:
        """Numbers of all frames of a batch, of which the first are its own; the others are made."""
        numbers = self.numbers(batch)[:, : given * self.tokens_of_frame]
        while numbers.shape[1] < noise.shape[1]:
            own = noise[:, numbers.shape[1] :][:, : self.tokens_of_frame]
            numbers = torch.cat([numbers, self.next_frame(model, batch, numbers, own, how).to(numbers.dtype)], dim=1)
        return numbers

    def completed(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n k"]:
        """Numbers of all frames, as an evaluation makes them."""
        return self.made(model, batch, self.given, self.noise(batch), self.how)

    def cut(self, batch: Batch, numbers: Float[Tensor, "B n k"]) -> Batch:
        """The batch with films of so many frames, of these numbers."""
        own, count = batch[self.name], numbers.shape[1] // self.tokens_of_frame
        times = {"times": own["times"][:, :count]} if "times" in own else {}
        fields = {**self._numbered.fields_of(numbers), **times}
        return batch.with_name(self.name, fields, batch.lengths[self.name].clamp(max=count))

    def numbers(self, batch: Batch) -> Float[Tensor, "B n k"]:
        """Of each token."""
        numbers: Tensor = self._numbered.numbers(batch[self.name], batch.lengths[self.name])
        return numbers

    def noise(self, batch: Batch) -> Float[Tensor, "B n k"]:
        """Of which frames of an evaluation are made: none."""
        return torch.zeros_like(self.numbers(batch))

    def real(self, batch: Batch) -> Bool[Tensor, "B T"]:
        """Which frames there are."""
        lengths = batch.lengths[self.name]
        return torch.arange(batch[self.name]["frames"].shape[1], device=lengths.device) < lengths[:, None]

    columns: Mapping[str, Any] = {"mse": float, "ssim": float, "made": int}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """Squared error and similarity of each film's made frames, in the mean, and how many these are."""
        compared, real = self._compared(model, batch), self.real(batch)[:, self.given :]
        counts = real.sum(1).tolist()

        def means(name: str) -> list[float | None]:
            totals = (compared[name] * real).sum(1).tolist()
            return [total / count if count else None for total, count in zip(totals, counts, strict=True)]

        return {"mse": means("mse"), "ssim": means("ssim"), "made": counts}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The squared error of each film's made frames, in the mean."""
        errors = self.predictions(model, batch)["mse"]
        return [Example("" if error is None else f"mse {error:.3g}", "") for error in errors]

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        """The films with made frames are drawn beneath those of the data."""
        with torch.no_grad():
            fields = self._numbered.fields_of(self.completed(model, batch))
        draw, lengths = drawings_of(self._tokenizer[0])[-1].draw, batch.lengths[self.name].tolist()

        def below(axes: Any, _: Any, index: int) -> None:
            draw(axes, {key: values[index] for key, values in fields.items()}, lengths[index])

        return show_examples(model, batch, examples, stem, {self.name: below})

    def continue_film(
        self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, *, length: int | None = None
    ) -> Float[Tensor, "B T C height width"]:
        """Films that go on from their first frames (objective=[next_frames]).

        Args:
            model: in eval mode.
            batch: samples whose films are to be continued.
            generator: draws the noise, where frames are made of it.
            length: frames of a film, with those that are given; null: as many as can be

        Raises:
            UserError: it cannot have so many.
        """
        return self._continued(model, batch, generator, length, USUAL)

    @torch.no_grad()
    def _continued(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        length: int | None,
        how: Integration,
    ) -> Float[Tensor, "B T C height width"]:
        """In the units of the data."""
        own, longest = batch[self.name]["frames"], self._longest
        given, length = own.shape[1], longest if length is None else length
        if given >= longest:
            raise UserError(f"a film of {given} frames cannot go on: the model has learnt {longest}")
        check_within("length", length, given + 1, longest)
        frames = torch.cat([own, own[:, -1:].expand(-1, length - given, -1, -1, -1)], dim=1)
        lengths = torch.full_like(batch.lengths[self.name], length)
        canvas = batch.with_name(self.name, {"frames": frames}, lengths)
        like = self.numbers(canvas)
        noise = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return self._numbered.fields_of(self.made(model, canvas, given, noise, how))["frames"]

    def _stats(self, model: MultimodalTransformer, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        real = self.real(batch)[:, self.given :]
        return {name: ((each * real).sum(), real.sum()) for name, each in self._compared(model, batch).items()}

    @torch.no_grad()
    def _compared(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Float[Tensor, "B made"]]:
        """The metrics of each made frame."""
        truth = self._pixels(batch[self.name]["frames"])
        found = self._pixels(self._numbered.fields_of(self.completed(model, batch))["frames"])
        last, truth, found = truth[:, self.given - 1 : self.given], truth[:, self.given :], found[:, self.given :]
        copied = squared_error(last.expand_as(truth), truth)
        ssim = structural_similarity(found, truth)
        return {"mse": squared_error(found, truth), "mse_of_copy": copied, "ssim": ssim}

    def _pixels(self, frames: Shaped[Tensor, "B T C height width"]) -> Float[Tensor, "B T C height width"]:
        return (frames.float() / (255.0 if self._is_bytes else 1.0)).clamp(0, 1)

    @property
    def _numbered(self) -> Numbers:
        tokenizer = self._tokenizer[0]
        assert isinstance(tokenizer, Numbers)
        return tokenizer
