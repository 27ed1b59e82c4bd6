"""Masked diffusion of a text (Sahoo et al. 2024, arXiv 2406.07524), written from masks in any order."""

import json

import torch
import torch.nn.functional as F
from torch import nn

from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.shown import show_examples


class Unmask(Objective):
    directions = {"accuracy": "max"}

    def __init__(self, *, specs, model, weight: float, text: str) -> None:
        super().__init__(weight=weight)
        self.text, self.writes, self.reads = text, text, (text,)
        self.vocabulary, self.length = specs[text].vocabulary, model.tokenizer(text).context
        self.mask = nn.Embedding(1, model.backbone.dim)
        self.head = nn.Linear(model.backbone.dim, self.vocabulary.size)
        self.coded = {"head.weight": text, "head.bias": text}

    def prepare(self, model, batch, generator):
        ids, lengths = batch[self.text]["ids"], batch.lengths[self.text][:, None]
        share = torch.rand(len(ids), 1, generator=generator, device=ids.device)
        drawn = torch.rand(ids.shape, generator=generator, device=ids.device)
        there = torch.arange(ids.shape[1], device=ids.device) < lengths
        return batch.with_values(self.text, masked=(drawn < share) & there)

    def count(self, batch):
        return batch[self.text]["masked"].sum()

    def logits(self, model, batch):
        token_set = model.tokenize(batch)  # a masked token keeps its place and loses its content
        span, content = token_set.spans[self.text], token_set.content
        masked = F.pad(batch[self.text]["masked"], (span.start, content.shape[1] - span.stop))[..., None]
        states = model.run(token_set.with_content(torch.where(masked, self.mask.weight.to(content.dtype), content)))
        return self.head(states.tokens(self.text)).float()

    def forward(self, model, batch):
        ids, masked = batch[self.text]["ids"], batch[self.text]["masked"]
        logits = self.logits(model, batch)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.masked_fill(~masked, -100).flatten(), reduction="sum")
        right = (logits.argmax(-1) == ids) & masked
        return Score(loss, masked.sum(), {"accuracy": (right.sum(), masked.sum())})

    def metrics(self, score):
        return {"loss": score.mean_loss(), "accuracy": score.ratio("accuracy")}

    def examples(self, model, batch):
        prepared = self.prepare(model, batch, torch.Generator(batch.lengths[self.text].device).manual_seed(0))
        ids, masked = prepared[self.text]["ids"], prepared[self.text]["masked"]
        filled = torch.where(masked, self.logits(model, prepared).argmax(-1), ids)
        rows = zip(filled.tolist(), ids.tolist(), batch.lengths[self.text].tolist(), strict=True)
        return [Example(self.vocabulary.decode(a[:n]), self.vocabulary.decode(b[:n])) for a, b, n in rows]

    def show(self, model, batch, examples, stem):
        passes = stem.with_name(f"passes_{stem.name}.jsonl")
        generator = torch.Generator(self.mask.weight.device).manual_seed(0)
        texts = self.passes(model, batch.select(slice(0, 1)), generator, num_passes=4)
        passes.write_text("".join(json.dumps({"pass": i, "text": text}) + "\n" for i, text in enumerate(texts, 1)))
        return [*show_examples(model, batch, examples, stem), passes]

    def generate(self, model, batch, generator, *, num_passes: int = 8) -> str:
        """A text that is unmasked in a few passes, in any order (objective=[unmask]).

        Args:
            num_passes: forward passes, each of which writes as many ids
        """
        *_, text = self.passes(model, batch, generator, num_passes)
        return text

    @torch.no_grad()
    def passes(self, model, batch, generator, num_passes):
        """The text after each pass, with "_" for what is still masked."""
        ids = torch.zeros(1, self.length, dtype=torch.long, device=generator.device)
        masked, lengths = torch.ones_like(ids, dtype=torch.bool), torch.full_like(ids[:, 0], self.length)
        for left in reversed(range(num_passes)):
            given = batch.with_name(self.text, {"ids": ids, "masked": masked}, lengths, full=True)
            chances = self.logits(model, given)[0].softmax(-1)
            drawn = torch.multinomial(chances, 1, generator=generator)
            sure = chances.gather(1, drawn)[:, 0].masked_fill(~masked[0], 2.0)  # what is written stays
            known = sure.topk(self.length - self.length * left // num_passes).indices
            ids, masked = torch.where(masked, drawn.T, ids), masked.scatter(1, known[None], False)
            pieces = zip(ids[0].tolist(), masked[0].tolist(), strict=True)
            yield "".join("_" if hidden else self.vocabulary.decode([i]) for i, hidden in pieces)
