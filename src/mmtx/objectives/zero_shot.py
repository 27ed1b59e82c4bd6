"""Classes that were never learned: a sample is of the one whose description is nearest."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch, Vocabulary
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.contrastive import Contrastive

AT_ONCE = 256
"""Descriptions that are read in one pass."""


class ZeroShot(Objective):
    """The class of a sample by the text that describes it best (CLIP: Radford et al. 2021, arXiv 2103.00020, section
    3.1). For evaluations: it learns nothing, and reads the descriptions once.

    The vector of a class is the mean of those of its descriptions, made of length 1 again.

    Args:
        contrastive: whose vectors are compared.
        text: the name of its pair that describes the other.
        vocabulary: of the text.
        label: name of the data whose field ``class`` is predicted.
        classes: names of the classes.
        prompts: templates of a description, such as ``a photo of a {}``.
    """

    directions = known("accuracy")

    def __init__(
        self,
        *,
        contrastive: Contrastive,
        text: str,
        vocabulary: Vocabulary,
        label: str,
        classes: Sequence[str],
        prompts: Sequence[str],
    ) -> None:
        super().__init__(weight=1.0)
        lacking = [prompt for prompt in prompts if "{}" not in prompt]
        if lacking or not prompts:
            problem = f"has no {{}} for the name of a class in {lacking[0]!r}" if lacking else "is empty"
            raise InvalidValue("prompts", list(prompts), problem, "prompts=['a photo of a {}']")
        self.text, self.label, self.labels, self.classes = text, label, (label,), tuple(classes)
        self.shown = next(name for name in contrastive.pair if name != text)
        self.reads = (self.shown,)
        self._contrastive = (contrastive,)  # in a tuple, so that its weights are no part of this module
        self._texts = [[_marked(vocabulary, prompt.replace("{}", name)) for prompt in prompts] for name in classes]
        self._vectors: Tensor | None = None

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self._there(batch).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        there, truth = self._there(batch), batch[self.label]["class"]
        logits, count = self.logits(model, batch), there.sum()
        loss = F.cross_entropy(logits, truth, reduction="none")
        return Score((loss * there).sum(), count, {"accuracy": (((logits.argmax(1) == truth) & there).sum(), count)})

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), "accuracy": score.ratio("accuracy")}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted, truth = self.logits(model, batch).argmax(1).tolist(), batch[self.label]["class"].tolist()
        return [
            Example(self.classes[best], self.classes[true], best == true) if there else Example("", "")
            for best, true, there in zip(predicted, truth, self._there(batch).tolist(), strict=True)
        ]

    def logits(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B classes"]:
        """Cosines with the vectors of classes over the temperature."""
        contrastive = self._contrastive[0]
        if self._vectors is None:
            self._vectors = self.class_vectors(model)
        return contrastive.vectors(model, batch, self.shown) @ self._vectors.T * contrastive.log_scale.exp()

    @torch.no_grad()
    def class_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "classes size"]:
        """Of length 1."""
        texts = [text for own in self._texts for text in own]
        parts = [self._text_vectors(model, texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)]
        return F.normalize(torch.cat(parts).unflatten(0, (len(self._texts), -1)).mean(1), dim=1)

    def _text_vectors(self, model: MultimodalTransformer, texts: Sequence[list[int]]) -> Float[Tensor, "texts size"]:
        device = next(model.parameters()).device
        lengths = torch.tensor([len(ids) for ids in texts])
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        for row, own in zip(ids, texts, strict=True):
            row[: len(own)] = torch.tensor(own)
        batch = Batch({self.text: {"ids": ids}}, {self.text: lengths}, {self.text: len({*lengths.tolist()}) == 1})
        return self._contrastive[0].vectors(model, batch.to(device), self.text)

    def _there(self, batch: Batch) -> Tensor:
        return batch.present(self.shown) & batch.present(self.label)


def _marked(vocabulary: Vocabulary, text: str) -> list[int]:
    """Ids of a text between the marks that the vocabulary has."""
    begin, end = ([] if mark is None else [mark] for mark in (vocabulary.begin, vocabulary.end))
    return [*begin, *vocabulary.encode(text), *end]
