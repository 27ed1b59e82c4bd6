"""Samples decoded from their codes, by which the codes are learnt."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.modalities.capabilities import Coded, LearnsCodes
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score, required_name
from mmtx.objectives.predictions import where


class Reconstruct(Objective):
    """Samples are encoded into codes and decoded again; the loss is the mean squared error, with what keeps vectors
    near their codes (van den Oord et al. 2017, arXiv 1711.00937, equation 3). It needs neither the backbone nor the
    rest of the set; beside an objective that reads the codes as tokens, codes are learnt for both.

    Args:
        name: whose tokenizer learns codes.
    """

    def __init__(self, *, specs: Mapping[str, Spec], model: MultimodalTransformer, weight: float, name: str) -> None:
        super().__init__(weight=weight)
        required_name(name, model.names, "modality of the set", "name")
        tokenizer = model.tokenizer(name)
        if not isinstance(tokenizer, LearnsCodes):
            problem = "learns no codes: its tokenizer must be one such as modality=[coded_image]"
            raise InvalidValue("name", name, problem)
        self.name, self.reads, self.num_codes = name, (name,), tokenizer.num_codes
        self.directions = known("rmse", "codes_used", "code_perplexity")

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch.present(self.name).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        coded, present = self._coded(model, batch), batch.present(self.name)
        model.add_statistics(self.name, coded.statistics)
        error, there = coded.errors, coded.real.to(coded.errors.dtype)
        commitment = (coded.commitment * there).sum(1) / there.sum(1).clamp(min=1)
        loss, count = ((error + commitment) * present).sum(), self.count(batch)
        uses = torch.zeros(self.num_codes, device=error.device, dtype=error.dtype)
        uses = uses.index_add(0, coded.ids.flatten(), there.flatten())
        return Score(loss, count, {"rmse": ((error.detach() * present).sum(), count), "uses": (uses, count)})

    def metrics(self, score: Score) -> dict[str, float]:
        """``rmse``: root of the mean squared error of a sample's numbers, pixels in 0..1 or the bins of a spectrogram.
        Over all samples, ``codes_used``: the share of codes that any of them has; ``code_perplexity``: the exponential
        of the entropy of how often each is used."""
        uses = score.stats["uses"][0].double() if "uses" in score.stats else torch.zeros(self.num_codes)
        share = uses / uses.sum().clamp(min=1)
        return {
            "loss": score.mean_loss(),
            "rmse": math.sqrt(max(score.ratio("rmse"), 0.0)) if score.count else float("nan"),
            "codes_used": float((uses > 0).double().mean()),
            "code_perplexity": float(torch.special.entr(share).sum().exp()),
        }

    @property
    def columns(self) -> dict[str, Any]:
        return {"rmse": float, "codes": list[int]}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The error of each sample, and its codes."""
        coded, there = self._coded(model, batch), batch.present(self.name).tolist()
        rows = zip(coded.ids.tolist(), coded.real.sum(1).tolist(), strict=True)
        codes = [ids[:count] for ids, count in rows]
        return {"rmse": where(there, coded.errors.sqrt().tolist()), "codes": where(there, codes)}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The error of each sample; ``samples/`` has what is decoded beneath it."""
        errors = self.predictions(model, batch)["rmse"]
        return [Example("" if error is None else f"rmse {error:.3f}", "") for error in errors]

    def _coded(self, model: MultimodalTransformer, batch: Batch) -> Coded:
        tokenizer = model.tokenizer(self.name)
        assert isinstance(tokenizer, LearnsCodes)
        return tokenizer.through_codes(batch[self.name], batch.lengths[self.name])
