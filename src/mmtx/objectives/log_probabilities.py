"""Log-probabilities of what a text has written, and how far they are from those of the model at the start."""

from typing import NamedTuple

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
    found = read_text(model, head, batch)
    return found.own, found.real


class ReadText(NamedTuple):
    """Of each id that a text predicts: its log-probability; whether it is predicted; what it is predicted from."""

    own: Float[Tensor, "B n"]
    real: Bool[Tensor, "B n"]
    hidden: Float[Tensor, "B n D"]


def read_text(model: MultimodalTransformer, head: TextHead, batch: Batch) -> ReadText:
    """`log_probabilities`, with the hidden states."""
    inputs, targets, real = head.shift(batch)
    hidden = model(inputs).tokens(head.text)
    scores = head.logits(model, hidden).float()
    nats = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return ReadText((-nats).masked_fill(~real, 0.0), real, hidden)


@torch.no_grad()
def reference_log_probabilities(reference: MultimodalTransformer, head: TextHead, batch: Batch) -> Float[Tensor, "B n"]:
    """The same of a frozen model."""
    with reference.sharing():  # of which nothing is kept
        return log_probabilities(reference, head, batch)[0]
