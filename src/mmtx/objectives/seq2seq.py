"""Sequence to sequence: a text from everything else in the set, evaluated by decoding."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.beam_search import beam_search, check_search
from mmtx.decoding.generate import check_max_new_tokens, generate
from mmtx.decoding.sampling import GREEDY, Sampling
from mmtx.decoding.steering import FREE, Steering, refuse_beside_beams
from mmtx.decoding.text_decoder import Logits
from mmtx.decoding.text_in_set import times_of
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.predictions import TEXTS
from mmtx.objectives.shown import show_examples
from mmtx.objectives.text_attention import cross_attention_below
from mmtx.objectives.text_head import TextHead
from mmtx.objectives.text_metrics import TextMetric
from mmtx.objectives.transcripts import (
    accepted_texts,
    check_metrics,
    check_references,
    text_directions,
    transcript_examples,
    transcript_metrics,
    transcript_stats,
)
from mmtx.tokens import HiddenStates

GOLDEN = (math.sqrt(5) - 1) / 2


class Seq2Seq(Objective):
    """A text with a begin and an end of its vocabulary, learned by teacher forcing and evaluated by decoding.

    It is conditioned on all other names of the set: by cross-attention where they are encoded (``encode=[audio]``),
    else as a prefix of the text in the same stack (prefix-LM).

    Args:
        text: name of the text.
        references: name of the data whose ids list all accepted texts, each closed by the end id; None: only the text
            itself is accepted.
        prompt: ids that always follow the begin id in decoding (Whisper: language and task).
        suppress: ids that are never decoded.
        suppress_first: ids that are never decoded first, behind the prompt.
        metrics: ``{name: TextMetric}``, of the decoded texts.
        beam_size: 1 decodes greedily.
        length_penalty: 0 takes the most probable text of those in the beam; above 0 longer ones gain.
        val_share: of the samples of validation, that are decoded, as decoding takes far longer than the loss; a test
            decodes all.
        The other keys are those of `TextHead`.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        references: str | None,
        tied: bool,
        logit_scale: float,
        prompt: list[int],
        suppress: list[int],
        label_smoothing: float,
        metrics: dict[str, TextMetric],
        beam_size: int,
        length_penalty: float,
        suppress_first: Sequence[int] = (),  # absent in stored configs of earlier versions
        val_share: float | int = 1.0,  # this too
    ) -> None:
        super().__init__(weight=weight)
        self.head = TextHead(
            specs=specs, model=model, text=text, tied=tied, logit_scale=logit_scale, label_smoothing=label_smoothing
        )
        vocabulary, self.coded = self.head.vocabulary, {"head.projection.weight": text}
        if vocabulary is None or vocabulary.begin is None or vocabulary.end is None:
            problem = "names a text without begin and end; a stream takes objective=[next_token]"
            raise InvalidValue("text", text, problem)
        check_metrics(metrics)
        check_references(references, specs)
        check_search(beam_size, length_penalty)
        if not 0 < val_share <= 1:
            raise InvalidValue("val_share", val_share, "must be above 0, and at most 1")
        self.vocabulary, self.begin, self.end = vocabulary, vocabulary.begin, vocabulary.end
        self.labels, self.reads = (references,) if references is not None else (), (text,)
        for key, ids in (("prompt", prompt), ("suppress", suppress), ("suppress_first", suppress_first)):
            if not all(0 <= i < self.head.vocab_size for i in ids):
                raise InvalidValue(key, ids, f"must be ids of 0..{self.head.vocab_size - 1}")
        self.prompt, self.suppress, self.suppress_first = prompt, suppress, suppress_first
        self.text, self.writes, self.references, self.text_metrics = text, text, references, metrics
        self.directions = known("accuracy") | text_directions(metrics)
        self.beam_size, self.length_penalty, self.val_share = beam_size, length_penalty, val_share

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self.head.count(batch)

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        return self.head.tied_vectors(model)

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        inputs, targets, real = self.head.shift(batch)
        return self._score(model, batch, model(inputs).tokens(self.text), targets, real)

    def score_of(self, model: MultimodalTransformer, states: HiddenStates, batch: Batch) -> Score:
        _, targets, real = self.head.shift(batch)
        return self._score(model, batch, states.tokens(self.text)[:, : targets.shape[1]], targets, real)

    def _score(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        hidden: Float[Tensor, "B n D"],
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
    ) -> Score:
        loss, right = self.head.loss(model, hidden, targets, real)
        count = real.sum()
        if right is None:  # in training
            return Score(loss, count)
        stats = {"accuracy": (right.sum(), count)}
        return Score(loss, count, stats | self._text_stats(model, self._decoded(batch), loss.device))

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = {"loss": score.mean_loss()}
        if "accuracy" not in score.stats:
            return metrics
        return metrics | {"accuracy": score.ratio("accuracy")} | transcript_metrics(self.text_metrics, score)

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        accepted = accepted_texts(batch, self.text, self.references, self.vocabulary)
        return transcript_examples(self.write(model, batch), accepted)

    @property
    def columns(self) -> dict[str, Any]:
        return dict(TEXTS) if self.references is None else {**TEXTS, "accepted": list[str]}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The text of each sample, as `write` gives it, the true one, and where there are more, all accepted ones."""
        accepted = accepted_texts(batch, self.text, self.references, self.vocabulary)
        truth = [each[0] if each else None for each in accepted]
        columns: dict[str, list[Any]] = {"predicted": self.write(model, batch), "truth": truth, "accepted": accepted}
        return {name: columns[name] for name in self.columns}

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of the id that follows each id of the text, ``(B, n, ids)``, given the rest of the set."""
        return {"logits": self.head.logits(model, model(batch).tokens(self.text)).float()}

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        """As `show_examples`, and beneath an encoded sound, where each id of the text attends to it."""
        return show_examples(model, batch, examples, stem, cross_attention_below(model, self.head, batch))

    @torch.inference_mode()
    def write(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        *,
        max_new_tokens: int | None = None,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling = GREEDY,
        steering: Steering = FREE,
        seed: int = 0,
        cache: bool = True,
    ) -> list[str]:
        """The text of each sample, decoded from its begin id and the rest of the set.

        Args:
            model: in eval mode.
            batch: the rest of the set.
            max_new_tokens: upper limit; null: the model's context
            beam_size: hypotheses of beam search; null: as trained
            length_penalty: above 0 longer texts gain; null: as trained
            sampling: draws the ids where nothing is searched for; its fields are options.
            steering: guidance and grammar, whose fields are options too.
            seed: of what is drawn.
            cache: keep keys and values of earlier tokens
        """
        beam_size = self.beam_size if beam_size is None else beam_size
        length_penalty = self.length_penalty if length_penalty is None else float(length_penalty)
        check_search(beam_size, length_penalty)
        check_max_new_tokens(max_new_tokens)
        count, device = len(batch), next(iter(batch.lengths.values())).device
        ids = torch.tensor([self.begin, *self.prompt], device=device).expand(count, -1)
        lengths = torch.full((count,), ids.shape[1], device=device)
        prompt = batch.with_name(self.text, {**times_of(batch, self.text), "ids": ids}, lengths, full=True)
        limit = max(1, self.head.context - len(self.prompt)) if max_new_tokens is None else max_new_tokens
        logits = self._logits(model)
        options: Any = {"max_new_tokens": limit, "end": self.end, "suppress_first": self.suppress_first, "cache": cache}
        if beam_size == 1:
            options |= {"sampling": sampling, "guidance": steering.guidance}
            options |= {"generator": torch.Generator(device).manual_seed(seed)}
            options |= {"grammar": steering.automaton(self.vocabulary, self.suppress)}
            written = generate(model, logits, prompt, self.text, **options)
        else:
            refuse_beside_beams(beam_size, sampling, steering)
            options |= {"beam_size": beam_size, "length_penalty": length_penalty}
            written = [found.ids for found in beam_search(model, logits, prompt, self.text, **options)]
        return [self.vocabulary.decode(ids) for ids in written]

    def _decoded(self, batch: Batch) -> Batch:
        """The samples that metrics of texts are of: of a validation `val_share`, by their places in the split alone.
        Multiples of the golden ratio fall into it evenly, whatever period the split has."""
        if batch.split != "val" or self.val_share == 1 or batch.ids is None:
            return batch
        rows = [row for row, i in enumerate(batch.ids.tolist()) if i >= 0 and i * GOLDEN % 1 < self.val_share]
        return batch.select(torch.tensor(rows, dtype=torch.long, device=batch.ids.device))

    def _text_stats(self, model: MultimodalTransformer, batch: Batch, device: torch.device) -> dict[str, Any]:
        accepted = accepted_texts(batch, self.text, self.references, self.vocabulary)
        written = self.write(model, batch) if accepted else []
        return transcript_stats(self.text_metrics, written, accepted, device)

    def _logits(self, model: MultimodalTransformer) -> Logits:
        never = torch.tensor(self.suppress, dtype=torch.long, device=next(model.parameters()).device)

        def logits(hidden: Tensor) -> Tensor:
            scores = self.head.logits(model, hidden)
            return scores.index_fill(-1, never, float("-inf")) if self.suppress else scores

        return logits
