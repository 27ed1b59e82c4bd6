"""Losses by which experts are used alike, and how they are used."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Num
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.nn.experts import Experts
from mmtx.objectives.base import Example, Objective, Score, required_spec
from mmtx.objectives.classify import class_names
from mmtx.objectives.expert_loads import draw_expert_loads, expert_loads


class ExpertBalance(Objective):
    """The balance of experts and the size of their routers' logits, of all real tokens of a step: over micro-batches
    and ranks as of one batch.

    ``balance`` is E Σ f·P, the mean over layers (Lepikhin et al. 2020, arXiv 2006.16668; Fedus et al. 2021, arXiv
    2101.03961, equations 4 to 6), with f the assignments to an expert and P its probability, both for each token: k
    where all are used alike. ``z`` is the mean of log²Σexp of the logits (Zoph et al. 2022, arXiv 2202.08906, equation
    5). With weight 0, where biases of routers balance them, it only watches, and a step needs no first pass.

    Args:
        balance: weight of that loss; OLMoE: 0.01.
        z: weight of the other; OLMoE: 0.001.
        by: name of the data with a class for each sample, whose loads are drawn; null: those of each name of the set.
    """

    uses_statistics = True

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        balance: float,
        z: float,
        by: str | None,
    ) -> None:
        super().__init__(weight=weight)
        check_at_least("balance", balance, 0)
        check_at_least("z", z, 0)
        self.balance, self.z, self.by, self.classes = balance, z, by, tuple[str, ...]()
        if by is not None:
            spec = required_spec(by, specs, "by")
            if "class" not in spec.fields or spec.fields["class"].shape:
                raise InvalidValue("by", by, "has no class for each sample")
            self.classes, self.slice_names = class_names(spec), (by,)
        layers = [layer for layer, half in model.feed_forwards.items() if isinstance(half, Experts)]
        self.directions = {"balance": "min", "z": "min"}
        self.directions |= {f"busiest/{layer}": "min" for layer in layers}
        self.directions |= {f"entropy/{layer}": None for layer in layers}

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        """Samples that have anything."""
        return (torch.stack([*batch.lengths.values()]) > 0).any(0).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        if not any(name.startswith("load/") for name in model.statistics):
            model(batch)  # as no other objective has
        own, samples = model.statistics, self.count(batch)
        layers = [name.removeprefix("load/") for name in own if name.startswith("load/")]
        step = self.sum_over_step({**own, "samples": samples})
        terms = {"balance": _balance, "z": _mean_z}
        means = {n: torch.stack([of(own, step, layer) for layer in layers]).mean() for n, of in terms.items()}
        loss = self.balance * means["balance"] + self.z * means["z"]
        stats = {name: (step["samples"] * mean.detach(), samples) for name, mean in means.items()}
        stats |= {f"load/{layer}": (own[f"load/{layer}"], samples) for layer in layers}
        stats |= {f"entropy/{layer}": (own[f"entropy/{layer}"], own[f"tokens/{layer}"]) for layer in layers}
        return Score(step["samples"] * loss, samples, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        """The losses without their weights; of each layer, which share of all assignments the busiest expert has, and
        the mean entropy of a token's probabilities, in nats."""
        found = {"loss": score.mean_loss()}
        for name, (total, _) in score.stats.items():
            if name.startswith("load/"):
                layer, assignments = name.removeprefix("load/"), total.sum()
                found[f"busiest/{layer}"] = float(total.max() / assignments) if assignments else float("nan")
            else:
                found[name] = score.ratio(name)
        return found

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        return []

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Which experts the tokens of each name, or of each class, take."""
        by = self.by if self.by in batch.fields else None
        draw_expert_loads(*expert_loads(model, batch, by, self.classes), path)


def _balance(own: Mapping[str, Tensor], step: Mapping[str, Tensor], layer: str) -> Tensor:
    """What a batch adds to that of the step."""
    load, tokens = step[f"load/{layer}"], step[f"tokens/{layer}"].clamp(min=1)
    return len(load) * (load / tokens * own[f"probability/{layer}"]).sum() / tokens


def _mean_z(own: Mapping[str, Tensor], step: Mapping[str, Tensor], layer: str) -> Tensor:
    return own[f"squared_logsumexp/{layer}"] / step[f"tokens/{layer}"].clamp(min=1)
