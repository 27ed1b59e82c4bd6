"""Joint-embedding prediction: of blocks of a name, the hidden states that a teacher has of them are predicted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import check_at_least, check_within
from mmtx.kept import keep, most_kept
from mmtx.metric_directions import Directions
from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.objectives.averaged_teacher import AveragedTeacher
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.block_masks import DrawnBlocks, Grid, check_range, num_content
from mmtx.objectives.masked_autoencoder import check_names, content_lengths, numbers_of
from mmtx.objectives.patch_decoder import PatchDecoder


class JointEmbedding(Objective):
    """What a teacher makes of blocks of tokens is predicted from the tokens around them, and from the rest of the set
    (I-JEPA: Assran et al. 2023, arXiv 2301.08243).

    The backbone has the context: a large block without the targets, which are small ones. For each target, a predictor
    has the backbone's states of the context, and a learned vector with its position for each of the target's tokens.
    The teacher, an average of the model over steps, has the whole set; its states, normalised by their own mean and
    variance, are what is to be predicted. The loss is the mean smooth L1 error over all targets' tokens. Nothing of
    the targets has gradients.

    Metrics: ``spread``, the standard deviation of the teacher's states over tokens, between 0, where all are the same
    (a collapse), and 1.

    Args:
        names: of the backbone's set, whose tokens are made from numbers of their own; the others stay whole.
        num_targets: blocks that are predicted; one that would leave no context is left out.
        target_share: of a sample's tokens in one of them, least and most.
        target_aspect: their height over width, least and most.
        context_share: of a sample's tokens in the block of the context, before targets are taken from it.
        decay: of the teacher's average in the first step; it rises linearly to 1 at the end of the run.
        predictor: makes a stack, of a width of its own.
    """

    directions: Directions = {"spread": None}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        names: Sequence[str],
        num_targets: int,
        target_share: list[float],
        target_aspect: list[float],
        context_share: list[float],
        decay: float,
        predictor: Callable[..., Backbone],
    ) -> None:
        super().__init__(weight=weight)
        check_names(names)
        check_at_least("num_targets", num_targets, 1)
        check_within("decay", decay, 0, 1)
        aspect = check_range("target_aspect", target_aspect)
        target = DrawnBlocks(check_range("target_share", target_share, most=1.0), aspect)
        context = DrawnBlocks(check_range("context_share", context_share, most=1.0))
        for name in names:
            numbers_of(name, model)
        self.reads = tuple(model.decoded)  # the predictor is over all of them
        self.names, self.num_targets, self.decay = tuple(names), num_targets, decay
        self.target, self.context = target, context
        self.predictor = PatchDecoder(predictor(cross_attention=False), model, dict.fromkeys(names, model.backbone.dim))
        self.teacher = AveragedTeacher(model)

    def begin(self, model: MultimodalTransformer) -> None:
        """The teacher becomes the model as the run begins with it."""
        self.teacher.begin(model)

    def follow(self, model: MultimodalTransformer, done: float, left_out: Float[Tensor, ""]) -> None:
        """The teacher follows a step, after which so much of the run is done."""
        self.teacher.follow(model, self.decay + (1 - self.decay) * done, left_out)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields of each name: which tokens are the ``context``, and which of each of the
        ``targets``."""
        for name in (name for name in self.names if name in batch):
            tokenizer, lengths = model.tokenizer(name), content_lengths(model.tokenizer(name), batch, name)
            grid = Grid.of(tokenizer, num_content(tokenizer, batch, name), lengths.device)
            sizes = grid.sizes(lengths)
            targets = self.target.drawn(grid, sizes, self.num_targets, generator)
            context = self.context.drawn(grid, sizes, 1, generator)[:, 0]
            real = torch.arange(grid.places.shape[0], device=lengths.device) < lengths[:, None]
            context, targets = without_targets(context & real, targets & real[:, None])
            batch = batch.with_values(name, context=context, targets=targets)
        return batch

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Tokens of all targets."""
        return torch.stack([batch[name]["targets"].sum() for name in self.names]).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        truth = self.truth(batch)
        errors = self.errors(model, batch, truth)
        loss = torch.stack([each.sum() for each in errors.values()]).sum()
        counted = [(states, batch[name]["targets"].any(1)) for name, states in truth.items()]
        moments = {}
        for power in (1, 2):
            sums = torch.stack([(s.double() ** power * there[..., None]).sum((0, 1)) for s, there in counted]).sum(0)
            count = torch.stack([there.sum() for _, there in counted]).sum()
            moments[f"moment_{power}"] = (sums, count.expand_as(sums))
        return Score(loss, self.count(batch), moments)

    def metrics(self, score: Score) -> dict[str, float]:
        first, second = (
            total / count.clamp(min=1) for total, count in (score.stats["moment_1"], score.stats["moment_2"])
        )
        spread = (second - first**2).clamp(min=0).mean().sqrt()
        return {"loss": score.mean_loss(), "spread": float(spread) if score.count else float("nan")}

    @torch.no_grad()
    def truth(self, batch: Batch) -> dict[str, Float[Tensor, "B n D"]]:
        """The teacher's states of all content tokens of each name, normalised."""
        states = self.teacher(batch)
        return {name: F.layer_norm((own := states.tokens(name).float()), own.shape[-1:]) for name in self.names}

    def errors(
        self, model: MultimodalTransformer, batch: Batch, truth: Mapping[str, Float[Tensor, "B n D"]]
    ) -> dict[str, Float[Tensor, "B targets n"]]:
        """The mean error of each token of each target, and 0 of the others, of a batch as `prepare` makes it."""
        whole = model.tokenize(batch)
        context = {name: batch[name]["context"] for name in self.names}
        most = {name: most_kept(mask) for name, mask in context.items()}
        kept = keep(whole, {name: ~mask for name, mask in context.items()}, most, ragged=True)
        states = model.run(kept.token_set).hidden
        found: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for index in range(self.num_targets):
            targets = {name: batch[name]["targets"][:, index] for name in self.names}
            within = {name: context[name] | mask for name, mask in targets.items()}
            predicted = self.predictor(whole, kept, states, within)
            for name, mask in targets.items():
                error = F.smooth_l1_loss(predicted[name].float(), truth[name], reduction="none").mean(-1)
                found[name].append(torch.where(mask, error, 0.0))
        return {name: torch.stack(errors, dim=1) for name, errors in found.items()}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The mean error of each sample."""
        device = batch.lengths[self.names[0]].device
        prepared = self.prepare(model, batch, torch.Generator(device).manual_seed(0))
        errors = self.predictions(model, prepared)["error"]
        return [Example("" if error is None else f"error {error:.3g}", "") for error in errors]

    columns: Mapping[str, Any] = {"error": float, "predicted": int}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The mean error of each sample's tokens of targets, and their number."""
        with torch.no_grad():
            errors = self.errors(model, batch, self.truth(batch))
        sums = torch.stack([each.sum((1, 2)) for each in errors.values()]).sum(0).tolist()
        counts = torch.stack([batch[name]["targets"].sum((1, 2)) for name in self.names]).sum(0).tolist()
        return {"error": [s / n if n else None for s, n in zip(sums, counts, strict=True)], "predicted": counts}


def without_targets(
    context: Bool[Tensor, "B n"], targets: Bool[Tensor, "B count n"]
) -> tuple[Bool[Tensor, "B n"], Bool[Tensor, "B count n"]]:
    """The context without the tokens of the targets; targets that would leave nothing of it are emptied."""
    left = []
    for target in targets.unbind(1):
        rest = context & ~target
        fits = rest.any(1, keepdim=True)
        context = torch.where(fits, rest, context)
        left.append(target & fits)
    return context, torch.stack(left, dim=1)
