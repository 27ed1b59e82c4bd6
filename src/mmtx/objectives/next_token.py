"""Next-token prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.generate import GREEDY, Sampling, generate
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec

STREAM_SAMPLING = Sampling(temperature=0.8)
"""How examples continue a stream: its best next id again and again soon repeats itself."""


class NextToken(Objective):
    """Every token of a causal text predicts the one after it.

    A text of n + 1 ids gives n predictions: the set holds ids 0 to n - 1.

    Args:
        text: name whose tokens predict.
        tied: score ids by the text's own embedding instead of a head of their own.
        label_smoothing: share of the target spread over all ids, in training.
    """

    byte_lengths: Tensor

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        tied: bool,
        label_smoothing: float,
    ) -> None:
        super().__init__(weight=weight)
        required_name(text, model.names, "modality of the set", "text")
        tokenizer = model.tokenizers[text]
        if not isinstance(tokenizer, Text) or not tokenizer.causal:
            raise InvalidValue("text", text, "must name a causal text", f"set modality.{text}.causal=true")
        if not 0 <= label_smoothing < 1:
            raise InvalidValue("label_smoothing", label_smoothing, "must lie in [0, 1)")
        self.text, self.label_smoothing = text, label_smoothing
        self.vocabulary = required_spec(text, specs, "text").vocabulary
        self.head = None if tied else nn.Linear(model.backbone.dim, tokenizer.vocab_size, bias=False)
        if self.head is not None:
            initialise(self.head, std=model.backbone.init_std)
        lengths = self.vocabulary.byte_lengths() if self.vocabulary else [0] * tokenizer.vocab_size
        self.register_buffer("byte_lengths", torch.tensor(lengths), persistent=False)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return (batch.lengths[self.text] - 1).clamp(min=0).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        inputs, targets, real = self.shift(batch)
        logits = self.logits(model, model(inputs).tokens(self.text))
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.masked_fill(~real, -100).flatten(),
            reduction="sum",
            label_smoothing=self.label_smoothing if self.training else 0.0,
        )
        count = real.sum()
        if self.training:
            return Score(loss, count)
        right = logits.argmax(-1) == targets
        stats = {"accuracy": ((right & real).sum(), count)}
        if self._texts_end():
            # greedy decoding writes the whole text exactly if every token is the best one after the true past
            present = real.any(1)
            stats["exact_match"] = ((present & (right | ~real).all(1)).sum(), present.sum())
        if self.vocabulary is not None:
            stats["bytes"] = ((self.byte_lengths[targets] * real).sum(), count)
        return Score(loss, count, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        loss = score.mean_loss()
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        metrics |= {name: score.ratio(name) for name in ("accuracy", "exact_match") if name in score.stats}
        if "bytes" in score.stats:
            num_bytes = max(float(score.stats["bytes"][0]), 1.0)
            metrics["bits_per_byte"] = float(score.loss_sum.detach()) / math.log(2) / num_bytes
        return metrics

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        ids, lengths = batch[self.text]["ids"], batch.lengths[self.text].tolist()
        prompt_length = 1 if self._texts_end() else max(1, ids.shape[1] // 4)
        end = self.vocabulary.end if self.vocabulary else None
        prompt = batch.with_name(
            self.text, {"ids": ids[:, :prompt_length]}, torch.full_like(batch.lengths[self.text], prompt_length)
        )
        longest = ids.shape[1] - prompt_length
        written = generate(
            model,
            lambda hidden: self.logits(model, hidden),
            prompt,
            self.text,
            max_new_tokens=longest,
            sampling=GREEDY if self._texts_end() else STREAM_SAMPLING,
            generator=torch.Generator(ids.device).manual_seed(0),
            end=end,
        )
        truth = [row[prompt_length:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
        shown = [] if self._texts_end() else ids[:, :prompt_length].tolist()
        examples = []
        for index, (new, true) in enumerate(zip(written, truth, strict=True)):
            given = shown[index] if shown else []
            right = new == [i for i in true if i != end] if true and self._texts_end() else None
            examples.append(Example(self._read(given + new), self._read(given + true), right))
        return examples

    def shift(self, batch: Batch) -> tuple[Batch, Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
        """The batch without each text's last id; the ids that follow; which of them are real."""
        ids, full = batch[self.text]["ids"], batch.full.get(self.text, False)
        if ids.shape[1] < 2:  # no text has a next id; one place of padding stands for all
            ids, full = F.pad(ids, (0, 1)), False
        lengths = (batch.lengths[self.text] - 1).clamp(min=0)
        inputs = batch.with_name(self.text, {**batch[self.text], "ids": ids[:, :-1]}, lengths, full)
        real = torch.arange(ids.shape[1] - 1, device=ids.device)[None] < lengths[:, None]
        return inputs, ids[:, 1:], real

    def logits(self, model: MultimodalTransformer, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next id."""
        if self.head is not None:
            return self.head(hidden)
        tokenizer = model.tokenizers[self.text]
        assert isinstance(tokenizer, Text)
        return tokenizer.logits(hidden)

    def _texts_end(self) -> bool:
        return self.vocabulary is not None and self.vocabulary.end is not None

    def _read(self, ids: list[int]) -> str:
        return self.vocabulary.decode(ids) if self.vocabulary else " ".join(map(str, ids))
