"""Masked autoencoding: most tokens of a name are left out, and what they were made from is predicted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.kept import Kept, keep
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Fills, Numbers
from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.objectives.base import Example, Objective, Score, required_name
from mmtx.objectives.filled_grid import draw_filled
from mmtx.objectives.patch_decoder import PatchDecoder
from mmtx.objectives.shown import write_sounds
from mmtx.tokens import TokenSet

VARIANCE_EPS = 1e-6
"""Added to the variance of a token's numbers (He et al. 2021; `transformers`, ViTMAE)."""


class MaskedAutoencoder(Objective):
    """What most tokens of a name were made from is predicted from those that are left, and from the rest of the set (He
    et al. 2021, arXiv 2111.06377).

    The backbone computes nothing on tokens that are left out. A `PatchDecoder` predicts the numbers of each: the
    standardised pixels of a patch, the values of a step, a patch of a spectrogram. The loss is the mean over all tokens
    that were left out of their mean squared error. The backbone begins with every token when it is fine-tuned.

    Args:
        names: of the backbone's set, whose tokens are made from numbers of their own; the others stay whole.
        share: of a sample's tokens that is left out; at least one stays.
        normalise: the numbers of each token have mean 0 and variance 1 in the loss.
        decoder: makes a stack, of a width of its own.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        names: Sequence[str],
        share: float,
        normalise: bool,
        decoder: Callable[..., Backbone],
    ) -> None:
        super().__init__(weight=weight)
        check_names(names)
        if not 0 < share < 1:
            raise InvalidValue("share", share, "must be above 0 and below 1")
        numbers = {name: numbers_of(name, model) for name in names}
        alone = next((name for name, size in numbers.items() if normalise and size < 2), None)
        if alone is not None:
            raise InvalidValue("normalise", True, f"needs several numbers a token, and '{alone}' has one", "false")
        self.reads = tuple(model.decoded)  # the decoder is over all of them
        self.names, self.share, self.normalise = tuple(names), share, normalise
        self.decoder = PatchDecoder(decoder(cross_attention=False), model, numbers)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields of each name: the ``patches`` that its tokens are made from, and which are
        ``masked``."""
        for name in (name for name in self.names if name in batch):
            patches, lengths = self.patches(model, batch, name), content_lengths(model.tokenizer(name), batch, name)
            noise = torch.rand(patches.shape[:2], generator=generator, device=patches.device)
            batch = batch.with_values(name, patches=patches, masked=self.masked(noise, lengths))
        return batch

    def masked(self, noise: Float[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B n"]:
        """The tokens with the most noise, of those that are real: all but `num_kept`."""
        real = torch.arange(noise.shape[1], device=noise.device) < lengths[:, None]
        rank = noise.masked_fill(~real, float("inf")).argsort(1).argsort(1)
        return (rank >= num_kept(lengths, self.share)[:, None]) & real

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Tokens that are left out."""
        return torch.stack([batch[name]["masked"].sum() for name in self.names]).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        losses = self.errors(self.predicted(model, batch), batch)
        return Score(torch.stack([loss.sum() for loss in losses.values()]).sum(), self.count(batch))

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss()}

    def predicted(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Float[Tensor, "B n numbers"]]:
        """The numbers of all content tokens of each name, of a batch as `prepare` makes it."""
        whole = model.tokenize(batch)
        kept = self.kept(whole, batch)
        return self.decoder(whole, kept, model.run(kept.token_set).hidden)

    def kept(self, whole: TokenSet, batch: Batch) -> Kept:
        """The set of a prepared batch without the tokens that are left out."""
        masked = {name: batch[name]["masked"] for name in self.names}
        most = {
            name: min(each.shape[1], max(1, int(each.shape[1] * (1 - self.share)))) for name, each in masked.items()
        }
        return keep(whole, masked, most)

    def errors(self, predicted: Mapping[str, Tensor], batch: Batch) -> dict[str, Float[Tensor, "B n"]]:
        """The mean squared error of each token that is left out, and 0 of the others."""
        found = {}
        for name, values in predicted.items():
            true, masked = self._targets(batch[name]["patches"]), batch[name]["masked"]
            found[name] = torch.where(masked, (values.float() - true).square().mean(-1), 0.0)
        return found

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The mean error of each sample."""
        errors = self.predictions(model, self._seeded(model, batch))["error"]
        return [Example("" if error is None else f"error {error:.3g}", "") for error in errors]

    columns: Mapping[str, Any] = {"error": float, "masked": int}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The mean error of each sample's tokens that are left out, and their number."""
        errors = torch.stack([each.sum(1) for each in self.errors(self.predicted(model, batch), batch).values()]).sum(0)
        counts = torch.stack([batch[name]["masked"].sum(1) for name in self.names]).sum(0).tolist()
        means = [error / count if count else None for error, count in zip(errors.tolist(), counts, strict=True)]
        return {"error": means, "masked": counts}

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        """Each sample as it is, what is kept of it, and filled with what is predicted."""
        write_sounds(model, batch, stem)
        prepared = self._seeded(model, batch)
        with torch.no_grad():
            predicted = self.predicted(model, prepared)
        rows = {name: self._drawn(prepared, name, predicted[name]) for name in self.names}
        return [draw_filled(model, prepared, rows, [each.predicted for each in examples], stem.with_suffix(".png"))]

    def patches(self, model: MultimodalTransformer, batch: Batch, name: str) -> Float[Tensor, "B n numbers"]:
        """What the content tokens of a name are made from."""
        tokenizer = model.tokenizer(name)
        assert isinstance(tokenizer, Numbers)
        with torch.no_grad():
            return tokenizer.numbers(batch[name], batch.lengths[name]).float()

    def _drawn(self, batch: Batch, name: str, predicted: Tensor) -> list[Tensor]:
        patches, masked = batch[name]["patches"], batch[name]["masked"][..., None]
        if self.normalise:
            mean, deviation = _moments(patches)
            predicted = predicted * deviation + mean
        return [patches, patches.masked_fill(masked, 0.0), torch.where(masked, predicted.float(), patches)]

    def _seeded(self, model: MultimodalTransformer, batch: Batch) -> Batch:
        return self.prepare(model, batch, torch.Generator(batch.lengths[self.names[0]].device).manual_seed(0))

    def _targets(self, patches: Float[Tensor, "B n numbers"]) -> Float[Tensor, "B n numbers"]:
        if not self.normalise:
            return patches
        mean, deviation = _moments(patches)
        return (patches - mean) / deviation


def num_kept(lengths: Int[Tensor, "..."], share: float) -> Int[Tensor, "..."]:
    """Of so many tokens, rounded down as `transformers` does; at least one of any."""
    return torch.minimum((lengths.double() * (1 - share)).long().clamp(min=1), lengths)


def content_lengths(tokenizer: Tokenizer, batch: Batch, name: str) -> Int[Tensor, " B"]:
    """Real tokens of each sample of a name, without its prefix tokens."""
    tokens = tokenizer.num_tokens(batch.lengths[name])
    return tokens - (tokenizer.num_summaries + tokenizer.num_registers) * (tokens > 0)


def check_names(names: Sequence[str]) -> None:
    """Raises InvalidValue unless there is one, or several that differ."""
    if not names or len(set(names)) < len(names):
        raise InvalidValue("names", [*names], "must name one or several of the set, each once")


def numbers_of(name: str, model: MultimodalTransformer) -> int:
    """How many numbers a token of a name is made from."""
    required_name(name, model.names, "modality of the set", "names")
    if name in model.encoded:
        raise InvalidValue("names", name, "is in the encoder's set; the backbone's is masked", "encode=[]")
    tokenizer = model.tokenizer(name)
    if not isinstance(tokenizer, Numbers) or not tokenizer.numbers_per_token:
        problem = "has tokens that are not made from numbers of their own, as patches and steps are"
        raise InvalidValue("names", name, f"{problem} ({type(tokenizer).__name__})")
    if isinstance(tokenizer, Fills) and tokenizer.fills:
        problem = "has tokens of several frames, of which the last may be repeated"
        raise InvalidValue("names", name, problem, f"modality.{name}.tubelet_frames=1")
    return tokenizer.numbers_per_token


def _moments(patches: Float[Tensor, "B n numbers"]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each token's numbers."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + VARIANCE_EPS).sqrt()
