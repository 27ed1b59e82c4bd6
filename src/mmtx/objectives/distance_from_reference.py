"""How far a model that writes has moved from the model at the start, in nats of a text, and how certain that is."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Score
from mmtx.objectives.text_head import TextHead


@torch.no_grad()
def expected_distance(
    model: MultimodalTransformer, reference: MultimodalTransformer, head: TextHead, batch: Batch
) -> Float[Tensor, " B"]:
    """The sum over each text of KL(π ‖ π_ref) of the next id, given those before it. Its mean over texts that π has
    drawn is KL(π ‖ π_ref), with less variance than log π/π_ref has, as each id is averaged over all that might have
    been drawn in its place (Amini et al. 2025, arXiv 2504.10637).

    Args:
        model: π.
        reference: π_ref.
        head: of the text.
        batch: texts, with which of their ids were drawn.
    """
    inputs, _, real = head.shift(batch)
    own, start = (
        head.logits(each, each(inputs).tokens(head.text)).float().log_softmax(-1) for each in (model, reference)
    )
    nats = (own.exp() * (own - start)).masked_fill(own == -math.inf, 0.0).sum(-1)
    return nats.masked_fill(~real, 0.0).sum(1)


def distance_stats(of_texts: Float[Tensor, "B G"], count: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Sums and counts over samples, of which some have no texts, and distances of 0: ``kl``, the mean of a sample's
    texts, and ``kl_square``, its square.

    Args:
        of_texts: distances, those of one sample side by side.
        count: of samples that have texts.
    """
    of_samples = of_texts.mean(1)
    return {"kl": (of_samples.sum(), count), "kl_square": (of_samples.square().sum(), count)}


def distance_error(score: Score) -> float:
    """The standard error of ``kl``. Texts of one sample share what they were drawn from, so that samples are counted;
    NaN where there are fewer than two."""
    count = float(score.stats["kl"][1])
    if count < 2:
        return math.nan
    variance = score.ratio("kl_square") - score.ratio("kl") ** 2
    return math.sqrt(max(variance, 0.0) / (count - 1))
