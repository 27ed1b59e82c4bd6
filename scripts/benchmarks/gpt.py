"""GPTs of given sizes over random ids, so that neither side waits for data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmtx.batch import Batch, Field, Spec
from mmtx.config.compose import compose
from mmtx.data.base import Samples, Source
from mmtx.experiment.learner import make_learner, make_stacks
from mmtx.learner import Learner
from mmtx.training.gradient_clipping import clip


@dataclass(frozen=True)
class Shape:
    """Sizes of a GPT and of its batch."""

    layers: int
    width: int
    heads: int
    context: int
    rows: int
    vocabulary: int


SMALL = Shape(layers=6, width=384, heads=6, context=256, rows=8, vocabulary=65)
TINY = Shape(layers=2, width=32, heads=2, context=16, rows=2, vocabulary=65)


class RandomText(Source):
    """Texts as long as the context."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    @property
    def specs(self) -> dict[str, Spec]:
        longest = self.shape.context + 1
        return {
            "text": Spec({"ids": Field((None,), torch.long, num_classes=self.shape.vocabulary, max_length=longest)})
        }

    def train(self) -> Samples:
        longest, generator = self.shape.context + 1, torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.shape.vocabulary, (100_000,), generator=generator)
        return Samples(len(ids) - longest, lambda i: {"text": {"ids": ids[i : i + longest]}})

    def val(self) -> None:
        return None

    def test(self) -> None:
        return None


def learner_of(specs: dict[str, Spec], words: list[str]) -> Learner:
    """The learner of a config, for data of these specs; with the same initial weights each time."""
    config = compose(["data=python_docs", *words])
    torch.manual_seed(0)

    def attempt(_: str, make: Any) -> Any:
        return make()

    learner = make_learner(config, specs, *make_stacks(config, attempt), attempt)
    assert learner is not None
    return learner


def sizes(shape: Shape) -> list[str]:
    """Overrides."""
    return [
        f"backbone.dim={shape.width}",
        f"backbone.num_layers={shape.layers}",
        f"backbone.num_heads={shape.heads}",
    ]


def gpt(shape: Shape, *words: str) -> Learner:
    """A GPT-2 of a shape, and what overrides make of it."""
    gpt2 = ["modality=[text]", "objective=[next_token]", "backbone/mlp=gelu_tanh", "type_embeddings=false"]
    return learner_of(RandomText(shape).specs, [*gpt2, f"modality.text.context={shape.context}", *sizes(shape), *words])


def random_ids(shape: Shape, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, shape.vocabulary, (shape.rows, shape.context + 1), generator=generator)


def batch_of(ids: Tensor) -> Batch:
    """Texts of equal lengths."""
    return Batch({"text": {"ids": ids}}, {"text": torch.full((len(ids),), ids.shape[1])}, {"text": True})


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)


def our_step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    score = learner(batch)["next_token"]
    (score.loss_sum / score.count).backward()
    clip(learner.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
