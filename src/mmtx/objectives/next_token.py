"""Next-token prediction."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec, Vocabulary
from mmtx.decoding.generate import check_max_new_tokens, generate
from mmtx.decoding.sampling import GREEDY, SAMPLED, Sampling
from mmtx.decoding.steering import FREE, Steering
from mmtx.decoding.streaming import WHOLE, Streaming
from mmtx.decoding.text_in_set import times_of
from mmtx.errors import UserError
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.linear_cross_entropy import Predictions
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.drawn_codes import begun, vocabulary_of_codes
from mmtx.objectives.predictions import IDS, TEXTS, id_scores, where
from mmtx.objectives.scratchpad import answer_of, ends_with, has_scratch, scored_of
from mmtx.objectives.slices import Pairs, Slices
from mmtx.objectives.text_head import PREDICTED, TextHead
from mmtx.objectives.written_part import written_part
from mmtx.tokens import HiddenStates

STREAM_SAMPLING = Sampling(temperature=0.8)
"""How examples continue a stream: greedy decoding soon repeats itself."""


class NextToken(Objective):
    """Every token of a causal text predicts the one after it.

    Texts with scratch (a field ``scored``) are written in an evaluation, from what is given on, and an answer counts
    whatever scratch the model wrote before it: ``exact_match`` is of the answers alone. There is no accuracy of their
    ids then, which would be that behind a true scratch. The loss is of all that is predicted.

    Args:
        slices: names of the data with classes, for each of which accuracy and exact match are given as well.
        The other keys are those of `TextHead`.
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
        logit_scale: float,
        label_smoothing: float,
        softcap: float | None = None,  # absent in stored configs of earlier versions
        slices: Sequence[str] = (),  # this too
    ) -> None:
        super().__init__(weight=weight)
        self.head = TextHead(
            specs=specs,
            model=model,
            text=text,
            tied=tied,
            logit_scale=logit_scale,
            label_smoothing=label_smoothing,
            softcap=softcap,
        )
        self.text, self.writes, self.reads, vocabulary = text, text, (text,), self.head.vocabulary
        self.coded = {"head.projection.weight": text}
        self.is_whole = self.head.texts_end or PREDICTED in specs[text].fields
        self.has_scratch = has_scratch(specs[text])
        if self.has_scratch and not self.head.texts_end:
            raise UserError(f"the data's '{text}' has scratch before what is scored, and no id that ends it")
        self.slices, self.slice_names = Slices(slices, specs), tuple(slices)
        shares = known(*["accuracy"] * (not self.has_scratch), *["exact_match"] * self.is_whole)
        self.directions = self.slices.directions(shares) | known("perplexity")
        lengths = vocabulary.byte_lengths() if vocabulary else [0] * self.head.vocab_size
        self.has_bytes = any(lengths)  # codes have none
        self.directions |= known(*["bits_per_byte"] * self.has_bytes)
        self.register_buffer("byte_lengths", torch.tensor(lengths), persistent=False)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self.head.count(batch)

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        return self.head.tied_vectors(model)

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        inputs, targets, real = self.head.shift(batch)
        return self._score(
            model, batch, self.head.loss(model, model(inputs).tokens(self.text), targets, real), targets, real
        )

    def score_of(self, model: MultimodalTransformer, states: HiddenStates, batch: Batch) -> Score:
        _, targets, real = self.head.shift(batch)
        hidden = states.tokens(self.text)[:, : targets.shape[1]]
        return self._score(model, batch, self.head.loss(model, hidden, targets, real), targets, real)

    def _score(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        predictions: Predictions,
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
    ) -> Score:
        (loss, right), count = predictions, real.sum()
        if right is None:  # in training
            return Score(loss, count)
        present = real.any(1)
        of_each = self._written_right(model, batch) if self.has_scratch else self._right_behind_truth(right, real)
        stats = self.slices.sums(batch, of_each, present, training=self.training)
        if self.has_bytes:
            stats["bytes"] = ((self.byte_lengths[targets] * real).sum(), count)
        return Score(loss, count, stats)

    def _right_behind_truth(self, right: Bool[Tensor, "B n"], real: Bool[Tensor, "B n"]) -> Pairs:
        """Which ids are the best ones, given the true ones before."""
        of_each, present = {"accuracy": (right.sum(1), real.sum(1))}, real.any(1)
        if self.is_whole:
            # greedy decoding gives the whole text exactly if every token is the best one after the true past
            of_each["exact_match"] = present & (right | ~real).all(1), present
        return of_each

    def _written_right(self, model: MultimodalTransformer, batch: Batch) -> Pairs:
        """Which texts are written with the right answer."""
        right = [bool(example.right) for example in self.examples(model, batch)]
        present = batch.lengths[self.text] > 0
        return {"exact_match": (present & torch.tensor(right, device=present.device), present)}

    def metrics(self, score: Score) -> dict[str, float]:
        loss = score.mean_loss()
        metrics = {"loss": loss}
        is_smoothed = self.head.label_smoothing > 0 and not score.stats  # in training
        if not is_smoothed:
            metrics["perplexity"] = math.exp(min(loss, 700.0))
        metrics |= self.slices.metrics(score, _shares)
        if "bytes" in score.stats:
            num_bytes = max(float(score.stats["bytes"][0]), 1.0)
            metrics["bits_per_byte"] = float(score.loss_sum.detach()) / math.log(2) / num_bytes
        return metrics

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        ids, texts_end = batch[self.text]["ids"], self.head.texts_end
        begins, stops = written_part(batch, self.text, texts_end)
        ends = self.head.vocabulary.ends if self.head.vocabulary else ()
        most = ids.shape[1] - int(begins.min())
        begun = {**times_of(batch, self.text), "ids": ids[:, : int(begins.max())]}
        prompt = batch.with_name(self.text, begun, begins)
        written = generate(
            model,
            lambda hidden: self.head.logits(model, hidden),
            prompt,
            self.text,
            max_new_tokens=most,
            sampling=GREEDY if self.is_whole else STREAM_SAMPLING,
            generator=torch.Generator(ids.device).manual_seed(0),
            end=ends,
        )
        parts = zip(ids.tolist(), scored_of(batch, self.text).tolist(), begins.tolist(), stops.tolist(), strict=True)
        examples = []
        for new, (row, scored, begin, stop) in zip(written, parts, strict=True):
            given, true = [] if texts_end else row[:begin], row[begin:stop]
            if self.is_whole and not texts_end:
                new = new[: len(true)]  # nothing says where to end
            right = None
            if true and self.is_whole:
                answer = answer_of(true, scored[begin:stop], ends)
                right = self._is_right(new, answer, ended=len(new) < most)
            examples.append(Example(self.head.decode(given + new), self.head.decode(given + true), right))
        return examples

    def _is_right(self, new: list[int], answer: list[int], *, ended: bool) -> bool:
        return ended and ends_with(new, answer) if self.has_scratch else new == answer

    def continued(self, model: MultimodalTransformer, batch: Batch) -> list[list[int]]:
        ids, logits = batch[self.text]["ids"], lambda hidden: self.head.logits(model, hidden)
        prompt = batch.with_name(self.text, {"ids": ids[:, :1]}, torch.ones_like(batch.lengths[self.text]))
        return generate(model, logits, prompt, self.text, max_new_tokens=ids.shape[1] - 1)

    @property
    def columns(self) -> dict[str, Any]:
        return {**(TEXTS if self.head.texts_end else {}), **IDS, **({"bytes": int} if self.has_bytes else {})}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """How well each text is predicted; and where texts end, what is written greedily from the rest of the set."""
        inputs, targets, real = self.head.shift(batch)
        hidden = model(inputs).tokens(self.text)
        rows = [
            self.head.loss(model, states[None], true[None], there[None])
            for states, true, there in zip(hidden, targets, real, strict=True)  # as one, they would be one sum
        ]
        columns = id_scores(rows, real)
        if self.has_bytes:
            columns["bytes"] = (self.byte_lengths[targets] * real).sum(1).tolist()
        if self.head.texts_end:
            examples = self.examples(model, batch)
            truth = where(real.any(1).tolist(), (each.truth for each in examples))
            columns |= {"predicted": [each.predicted for each in examples], "truth": truth}
        return columns

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of the id that follows each id of the text, ``(B, n, ids)``."""
        return {"logits": self.head.logits(model, model(batch).tokens(self.text)).float()}

    def generate(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        *,
        prompt: str | None = None,
        max_new_tokens: int = 200,
        sampling: Sampling = SAMPLED,
        steering: Steering = FREE,
        streaming: Streaming = WHOLE,
        cache: bool = True,
    ) -> str:
        """A text that goes on, given whatever else is in the set (objective=[next_token]).

        Args:
            model: in eval mode.
            batch: one sample of the rest of the set.
            generator: draws the ids.
            prompt: the text to continue; needed where the text is a stream
            max_new_tokens: upper limit
            sampling: draws the ids; its fields are options.
            steering: guidance and grammar, whose fields are options too.
            streaming: on a cache of bounded size, whose fields are options too.
            cache: keep keys and values of earlier tokens

        Raises:
            UserError: an option cannot be, or one that is needed is not given.
        """
        check_max_new_tokens(max_new_tokens)
        vocabulary = self._vocabulary
        start = [vocabulary.begin] if vocabulary.begin is not None else []
        ids = start + vocabulary.encode(prompt or "")
        if not ids:
            raise UserError('this model continues text and needs something to begin with: prompt="..."')
        options: Any = {"max_new_tokens": max_new_tokens, "sampling": sampling, "steering": steering}
        options |= {"streaming": streaming, "cache": cache}
        new = self._continued(model, batch, generator, ids, **options)
        return vocabulary.decode(ids + new)

    def answer(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        ids: Sequence[int],
        *,
        max_new_tokens: int = 200,
        sampling: Sampling = SAMPLED,
        steering: Steering = FREE,
        streaming: Streaming = WHOLE,
        cache: bool = True,
    ) -> str:
        """What is written after the ids of a conversation, without them (objective=[next_token]).

        Args:
            model: in eval mode.
            batch: one sample of the rest of the set.
            generator: draws the ids.
            ids: of the conversation.
            max_new_tokens: upper limit
            sampling: draws the ids; its fields are options.
            steering: guidance and grammar, whose fields are options too.
            streaming: on a cache of bounded size, whose fields are options too.
            cache: keep keys and values of earlier tokens

        Raises:
            UserError: an option cannot be, or there are no ids.
        """
        check_max_new_tokens(max_new_tokens)
        if not ids:
            raise UserError("the chat template made no text of these messages")
        options: Any = {"max_new_tokens": max_new_tokens, "sampling": sampling, "steering": steering}
        options |= {"streaming": streaming, "cache": cache}
        return self._vocabulary.decode(self._continued(model, batch, generator, [*ids], **options))

    def draw_codes(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        count: int,
        *,
        sampling: Sampling = SAMPLED,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> Int[Tensor, "B n"]:
        """Codes of a picture, film or sound for each sample of a batch, one after the other, given the rest of it.

        Args:
            model: in eval mode.
            batch: samples; what they have of the codes is not read.
            generator: draws the codes.
            count: of samples, which an empty batch does not have.
            sampling: draws the codes; its fields are options.
            guidance: {name: scale}: above 1, a name of the set counts for more than it did in training
        """
        vocabulary = vocabulary_of_codes(self.head)
        given = begun(batch, self.text, vocabulary, count, generator.device, whole=False)
        options: Any = {"max_new_tokens": vocabulary.num_tokens - 1, "sampling": sampling, "guidance": guidance}
        logits = partial(self.head.logits, model)
        ids = generate(model, logits, given, self.text, generator=generator, **options)
        return torch.tensor(ids, device=generator.device)

    @property
    def _vocabulary(self) -> Vocabulary:
        """Raises UserError where there is none."""
        if self.head.vocabulary is None:
            raise UserError(f"the data's '{self.text}' has no vocabulary to write with")
        return self.head.vocabulary

    def _continued(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        ids: list[int],
        *,
        steering: Steering,
        **options: Any,
    ) -> list[int]:
        """The ids that follow."""
        given_ids = torch.tensor([ids], device=next(model.parameters()).device)
        lengths = torch.full_like(given_ids[:, 0], len(ids))
        given = batch.with_name(self.text, {"ids": given_ids}, lengths, full=True)
        (new,) = generate(
            model,
            lambda hidden: self.head.logits(model, hidden),
            given,
            self.text,
            generator=generator,
            end=self._vocabulary.ends,
            guidance=steering.guidance,
            grammar=steering.automaton(self._vocabulary),
            **options,
        )
        return new


def _shares(score: Score) -> dict[str, float]:
    return {name: score.ratio(name) for name in ("accuracy", "exact_match") if name in score.stats}
