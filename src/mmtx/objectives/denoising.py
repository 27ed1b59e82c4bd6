"""Denoising: a text is corrupted in one name of the set, and what is missing, or the whole, is written in another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, required_name, required_spec
from mmtx.objectives.corruptions import Corruption
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.objectives.text_metrics import TextMetric


class Denoising(Seq2Seq):
    """A corrupted text is read in one name, and what is missing of it, or all of it, is written in another (T5: Raffel
    et al. 2020, JMLR 21; BART: Lewis et al. 2020, arXiv 1910.13461).

    Both names hold the same text in the data, such as ``data=parallel_text`` with one file as source and target, so
    that the trained model can go on to pairs. Corruption is drawn anew in each step of training; in an evaluation it is
    the same every time. What is read ends with the end id, and has no begin.

    Args:
        source: name that is read.
        corruption: from a text to what is read and written.
        sentinels: the first and the last of the ids that stand for what is missing, used downwards: T5's ``[32099,
            32000]``, or ``[255, 245]`` of bytes, which are in no UTF-8. Empty where the corruption needs none.
        The others are those of `Seq2Seq`, which decodes greedily.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        source: str,
        corruption: Corruption,
        sentinels: list[int],
        tied: bool,
        logit_scale: float,
        label_smoothing: float,
        metrics: dict[str, TextMetric],
        val_share: float | int,
    ) -> None:
        super().__init__(
            specs=specs,
            model=model,
            weight=weight,
            text=text,
            references=None,
            tied=tied,
            logit_scale=logit_scale,
            prompt=[],
            suppress=[],
            label_smoothing=label_smoothing,
            metrics=metrics,
            beam_size=1,
            length_penalty=0.0,
            val_share=val_share,
        )
        _check_source(source, text, specs, model)
        self.source, self.corruption, self.reads = source, corruption, (text, source)
        ids = _sentinels(sentinels)
        marks = {self.begin, self.end, *(i for i in ids if not 0 <= i < self.head.vocab_size)}
        if marks & {*ids}:
            raise InvalidValue(
                "sentinels", sentinels, f"must be ids of 0..{self.head.vocab_size - 1} that are no marks"
            )
        needed = corruption.num_sentinels(min(model.tokenizer(name).max_tokens for name in self.reads) - 2)
        if len(ids) < needed:
            problem = f"are {len(ids)} ids, and the longest text needs {needed}"
            raise InvalidValue("sentinels", sentinels, problem, "a smaller corruption.share, or more ids")
        self.register_buffer("sentinels", torch.tensor(ids, dtype=torch.long), persistent=False)

    sentinels: Tensor

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with the corrupted text in `source`, and in `text` what is to be written."""
        ids, lengths = batch[self.text]["ids"], batch.lengths[self.text]
        ids = F.pad(ids, (0, max(0, 3 - ids.shape[1])))[:, 1:]  # without begin, and at least one id
        made = self.corruption(ids[:, :-1], (lengths - 2).clamp(min=0), self.sentinels, generator)
        read, read_lengths = self._ended(made.read, made.read_lengths)
        written, written_lengths = self._ended(made.written, made.written_lengths)
        written = F.pad(written, (1, 0), value=self.begin)
        for name, values, count in ((self.source, read, read_lengths), (self.text, written, written_lengths + 1)):
            there = torch.where(lengths > 0, count, 0)
            host = there.cpu() if batch.is_packed else None  # one wait, where texts are packed
            values = values.masked_fill(torch.arange(values.shape[1], device=ids.device) >= there[:, None], 0)
            batch = batch.with_name(name, {"ids": values}, there, batch.full.get(self.text, False), host)
        return batch

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        return super().examples(model, self._seeded(model, batch))

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        return super().show(model, self._seeded(model, batch), examples, stem)

    def _seeded(self, model: MultimodalTransformer, batch: Batch) -> Batch:
        return self.prepare(model, batch, torch.Generator(batch.lengths[self.text].device).manual_seed(0))

    def _ended(
        self, ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"]
    ) -> tuple[Int[Tensor, "B n1"], Int[Tensor, " B"]]:
        """Texts with the end id behind them."""
        ended = F.pad(ids, (0, 1)).scatter(1, lengths[:, None], self.end)
        return ended, lengths + 1


def _sentinels(ends: list[int]) -> list[int]:
    if not ends:
        return []
    if len(ends) != 2 or ends[0] < ends[1]:
        raise InvalidValue("sentinels", ends, "must be empty, or two ids, the larger first")
    return [*range(ends[0], ends[1] - 1, -1)]


def _check_source(source: str, text: str, specs: Mapping[str, Spec], model: MultimodalTransformer) -> None:
    """Raises InvalidValue where `source` cannot hold what is left of the text."""
    required_name(source, model.names, "modality of the set", "source")
    tokenizer = model.tokenizer(source)
    if source == text or not isinstance(tokenizer, Ids):
        raise InvalidValue("source", source, f"must name another text of the set than '{text}'")
    vocabularies = [required_spec(name, specs, "source").vocabulary for name in (source, text)]
    states = [None if each is None else each.state() for each in vocabularies]
    if states[0] != states[1]:
        problem = f"has other ids than '{text}'; both are to hold the same text"
        raise InvalidValue("source", source, problem, "data.source and data.target of one file")
