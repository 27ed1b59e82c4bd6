"""Log-probabilities of what a text has written, and how far they are from those of the model at the start."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.objectives.text_head import TextHead


def log_probabilities(
    model: MultimodalTransformer, head: TextHead, batch: Batch
) -> tuple[Float[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """Of each id that a text predicts, given the true ones before it, in float32; and which those are, as
    `TextHead.shift` gives them. Others have 0."""
    inputs, targets, real = head.shift(batch)
    scores = head.logits(model, model(inputs).tokens(head.text)).float()
    nats = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return (-nats).masked_fill(~real, 0.0), real


@torch.no_grad()
def reference_log_probabilities(reference: MultimodalTransformer, head: TextHead, batch: Batch) -> Float[Tensor, "B n"]:
    """The same of a frozen model."""
    with reference.sharing():  # of which nothing is kept
        return log_probabilities(reference, head, batch)[0]
