"""Metrics of decoded texts against their references. Nothing is lower-cased or normalised here."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from mmtx.metric_directions import Direction

Stats = Mapping[str, tuple[float, float]]
"""``{name: (sum, count)}``; the names of different metrics differ."""

NGRAMS = (1, 2, 3, 4)
"""Lengths of BLEU's n-grams."""


class TextMetric(ABC):
    """A metric of a corpus, computed from sums over its texts.

    Attributes:
        direction: ``"max"`` where higher is better, ``"min"`` where lower is; every metric declares its own.
    """

    direction: Direction

    @abstractmethod
    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
        """The sums over some texts, or none, always with the same names.

        Args:
            hypotheses: the decoded texts.
            references: of each, at least one.
        """

    @abstractmethod
    def value(self, stats: Stats) -> float:
        """The metric of added-up sums, among which may be those of other metrics; nan where nothing was counted."""


class ErrorRate(TextMetric):
    """Substitutions, deletions and insertions over the length of the references, over the whole corpus.

    Of several references the one with the lowest rate counts, the first of equal ones. An empty reference adds its
    insertions to the errors and nothing to the length.
    """

    direction = "min"
    name: str

    @abstractmethod
    def errors(self, hypothesis: str, reference: str) -> tuple[int, int]:
        """Errors, and length of the reference."""

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
        total, length = 0, 0
        for hypothesis, accepted in zip(hypotheses, references, strict=True):
            best = min((self.errors(hypothesis, reference) for reference in accepted), key=_rate)
            total, length = total + best[0], length + best[1]
        return {self.name: (float(total), float(length))}

    def value(self, stats: Stats) -> float:
        errors, length = stats[self.name]
        return errors / length if length else float("nan")


class WordErrorRate(ErrorRate):
    """WER, by jiwer: words are separated by spaces."""

    name = "wer"

    def errors(self, hypothesis: str, reference: str) -> tuple[int, int]:
        import jiwer

        return _counted(jiwer.process_words(reference, hypothesis))


class PhonemeErrorRate(WordErrorRate):
    """PER: word error rate of texts whose words are phonemes."""

    name = "per"


class CharacterErrorRate(ErrorRate):
    """CER, by jiwer: spaces count, except those at either end."""

    name = "cer"

    def errors(self, hypothesis: str, reference: str) -> tuple[int, int]:
        import jiwer

        return _counted(jiwer.process_characters(reference, hypothesis))


class BLEU(TextMetric):
    """Corpus BLEU (Papineni et al. 2002), 0 to 100, by sacreBLEU with its defaults (Post 2018).

    That is tokenisation 13a, case kept, n-grams up to 4, exponential smoothing:
    ``#:1|c:mixed|e:no|tok:13a|s:exp``.
    """

    direction = "max"

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
        correct, total, written, expected = [0] * 4, [0] * 4, 0, 0
        if hypotheses:
            from sacrebleu import corpus_bleu

            # sacreBLEU takes the first references of all texts, then the second ones, with None where a text has fewer
            accepted = [each for _, each in zip(hypotheses, references, strict=True)]
            found = corpus_bleu(hypotheses, list(zip_longest(*accepted)), force=True)
            correct, total, written, expected = found.counts, found.totals, found.sys_len, found.ref_len
        ngrams = {f"bleu_{n}": (float(correct[n - 1]), float(total[n - 1])) for n in NGRAMS}
        texts = float(len(hypotheses))
        return {**ngrams, "bleu_length": (float(written), float(expected)), "bleu_texts": (texts, texts)}

    def value(self, stats: Stats) -> float:
        from sacrebleu import BLEU as Definition

        if not stats["bleu_texts"][1]:
            return float("nan")
        correct, total = ([round(stats[f"bleu_{n}"][i]) for n in NGRAMS] for i in (0, 1))
        written, expected = map(round, stats["bleu_length"])
        return Definition.compute_bleu(correct, total, written, expected, smooth_method="exp").score


class ExactMatch(TextMetric):
    """The share of texts that equal one of their references, character by character."""

    direction = "max"

    def score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
        right = sum(text in accepted for text, accepted in zip(hypotheses, references, strict=True))
        return {"exact_match": (float(right), float(len(hypotheses)))}

    def value(self, stats: Stats) -> float:
        right, count = stats["exact_match"]
        return right / count if count else float("nan")


def _counted(found: Any) -> tuple[int, int]:
    """Errors and length of the reference, from jiwer's counts."""
    kept = found.hits + found.substitutions
    return found.substitutions + found.deletions + found.insertions, kept + found.deletions


def _rate(counted: tuple[int, int]) -> float:
    errors, length = counted
    return errors / length if length else (math.inf if errors else 0.0)
