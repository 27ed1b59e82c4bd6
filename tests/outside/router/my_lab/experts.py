"""Experts, of which each token takes one, and a loss for using all of them (Fedus et al. 2021, arXiv 2101.03961)."""

import torch
import torch.nn.functional as F
from torch import nn

from mmtx.nn import FeedForward
from mmtx.objectives.base import Objective, Score


class Experts(FeedForward):
    writes_residual = ("experts.*.2.weight",)

    def __init__(self, dim, *, num_experts: int, hidden: int):
        super().__init__()
        self.router = nn.Linear(dim, num_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)) for _ in range(num_experts)
        )

    def forward(self, x, context):
        probability = self.router(x).softmax(-1)
        chosen = F.one_hot(probability.argmax(-1), len(self.experts))
        gates = (chosen * probability).unbind(-1)
        added = sum(gate[..., None] * expert(x) for gate, expert in zip(gates, self.experts, strict=True))
        load, probability = context.sum_over_tokens(chosen), context.sum_over_tokens(probability)
        return added, {"load": load, "probability": probability}


class Balance(Objective):
    directions = {"busiest": "min"}
    uses_statistics = True

    def __init__(self, *, specs, model, weight: float):
        super().__init__(weight=weight)

    def count(self, batch):
        return (torch.stack([*batch.lengths.values()]) > 0).any(0).sum()  # samples that have anything

    def forward(self, model, batch):
        own = model.statistics
        layers = [name.removeprefix("load/") for name in own if name.startswith("load/")]
        samples = self.count(batch)
        step = self.sum_over_step({**own, "samples": samples})
        loss, busiest = 0.0, 0.0
        for layer in layers:
            load = step[f"load/{layer}"]
            tokens = load.sum().clamp(min=1)
            loss = loss + len(load) * (load / tokens * own[f"probability/{layer}"]).sum() / tokens / len(layers)
            busiest = busiest + load.max() / tokens / len(layers)
        return Score(step["samples"] * loss, samples, {"busiest": (busiest * samples, samples)})

    def metrics(self, score):
        return {"loss": score.mean_loss(), "busiest": score.ratio("busiest")}

    def examples(self, model, batch):
        return []
