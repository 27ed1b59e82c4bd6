"""Metrics of texts, against their definitions and against the libraries on the whole corpus."""

import math
from itertools import zip_longest

import jiwer
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtx.objectives.text_metrics import BLEU, CharacterErrorRate, ExactMatch, PhonemeErrorRate, WordErrorRate

ALL = [WordErrorRate(), CharacterErrorRate(), PhonemeErrorRate(), BLEU(), ExactMatch()]
HYPOTHESES = ["the cat sat on the mat", "hello", "", "a b c d", "It's 3.5%, isn't it?", "the the the"]
REFERENCES = [
    ["the cat sat on a mat", "there is a cat on the mat"],
    ["hello"],
    ["gone"],
    ["a x c", "b c d e f", "a b c d e"],
    ["It is 3.5%, is it not?"],
    ["", "the cat"],
]

words = st.lists(st.sampled_from(["a", "b", "cat", "the", "is,", "3.5"]), max_size=7).map(" ".join)
corpora = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=8)


def distance(one, other):
    """Edit distance, as it is defined."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def brute_force_rate(corpus, cut):
    errors = length = 0
    for hypothesis, references in corpus:
        counted = [(distance(cut(hypothesis), cut(r)), len(cut(r))) for r in references]
        best = min(counted, key=lambda pair: pair[0] / pair[1] if pair[1] else (math.inf if pair[0] else 0))
        errors, length = errors + best[0], length + best[1]
    return errors / length if length else math.nan


def measure(metric, corpus):
    hypotheses, references = zip(*corpus, strict=True) if corpus else ((), ())
    return metric.value(metric.score(hypotheses, references))


def equal(value):
    return pytest.approx(value, rel=1e-12, nan_ok=True)


def corpus_bleu(corpus):
    hypotheses, references = zip(*corpus, strict=True)
    return sacrebleu.corpus_bleu(hypotheses, list(zip_longest(*references))).score


@given(corpora)
@settings(deadline=None, max_examples=200)
def test_error_rates_are_their_definition(corpus):
    assert measure(WordErrorRate(), corpus) == equal(brute_force_rate(corpus, str.split))
    assert measure(PhonemeErrorRate(), corpus) == equal(brute_force_rate(corpus, str.split))
    assert measure(CharacterErrorRate(), corpus) == equal(brute_force_rate(corpus, list))


@given(corpora)
@settings(deadline=None, max_examples=200)
def test_with_one_reference_they_are_what_the_library_says_of_the_whole(corpus):
    hypotheses, references = [h for h, _ in corpus], [r[0] for _, r in corpus]
    alone = [(h, [r]) for h, r in zip(hypotheses, references, strict=True)]
    if any(references):
        assert measure(WordErrorRate(), alone) == equal(jiwer.wer(references, hypotheses))
        assert measure(CharacterErrorRate(), alone) == equal(jiwer.cer(references, hypotheses))


@given(corpora)
@settings(deadline=None, max_examples=200)
def test_bleu_is_the_library_s_of_the_whole(corpus):
    assert measure(BLEU(), corpus) == corpus_bleu(corpus)


def test_bleu_of_texts_that_have_something_in_common():
    corpus = list(zip(HYPOTHESES, REFERENCES, strict=True))
    assert measure(BLEU(), corpus) == corpus_bleu(corpus) > 10
    assert measure(BLEU(), [(text, [text]) for text in HYPOTHESES]) == pytest.approx(100)
    assert measure(BLEU(), [("The cat sat on the mat .", ["the cat sat on the mat."])]) < 90, "case is kept"


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
@given(corpus=corpora, cuts=st.lists(st.integers(0, 8), max_size=4))
@settings(deadline=None, max_examples=60)
def test_parts_add_up_to_the_whole(metric, corpus, cuts):
    bounds = [0, *sorted(min(cut, len(corpus)) for cut in cuts), len(corpus)]
    parts = [corpus[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
    total = metric.score([], [])
    for part in parts:
        stats = metric.score([h for h, _ in part], [r for _, r in part])
        assert stats.keys() == total.keys(), "always the same names, so that ranks can add them up"
        total = {name: tuple(map(sum, zip(stats[name], total[name], strict=True))) for name in total}
    whole = metric.score([h for h, _ in corpus], [r for _, r in corpus])
    assert total == whole
    assert metric.value(total) == pytest.approx(metric.value(whole), rel=0, abs=0, nan_ok=True)
    assert all(isinstance(number, float) for pair in whole.values() for number in pair)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_of_nothing_there_is_no_value(metric):
    stats = metric.score([], [])
    assert all(pair == (0, 0) for pair in stats.values())
    assert math.isnan(metric.value(stats))


def test_metrics_share_a_dictionary():
    names = [name for metric in ALL for name in metric.score(HYPOTHESES, REFERENCES)]
    assert len(set(names)) == len(names)
    together = {name: pair for metric in ALL for name, pair in metric.score(HYPOTHESES, REFERENCES).items()}
    for metric in ALL:
        assert metric.value(together) == metric.value(metric.score(HYPOTHESES, REFERENCES))


@pytest.mark.parametrize(
    "hypothesis, references, counted",
    [
        ("a b c d", ["a x c", "a b c d e"], (1, 5)),  # 1/5 is less than 2/3, whichever comes first
        ("a b c d", ["a b c d e", "a x c"], (1, 5)),
        ("a b", ["a", "a b c d"], (2, 4)),  # 2 of 4 errors are a lower rate than 1 of 1, though there are more
        ("", ["a b"], (2, 2)),
        ("a b", [""], (2, 0)),
        ("", [""], (0, 0)),
        ("a", ["", "b"], (1, 1)),  # nothing is the worst reference of something
        ("", ["b", ""], (0, 0)),
        ("a  b ", ["a b"], (0, 2)),
        ("A", ["a"], (1, 1)),
    ],
)
def test_errors_of_one_text(hypothesis, references, counted):
    assert WordErrorRate().score([hypothesis], [references]) == {"wer": counted}
    assert PhonemeErrorRate().score([hypothesis], [references]) == {"per": counted}


def test_insertions_beside_an_empty_reference_count():
    assert WordErrorRate().score(["a b", "c"], [[""], ["c"]]) == {"wer": (2, 1)}
    assert measure(WordErrorRate(), [("a b", [""]), ("c", ["c"])]) == 2
    assert math.isnan(measure(WordErrorRate(), [("a b", [""])])), "a share of no words"


def test_characters_include_spaces():
    assert CharacterErrorRate().score(["ab c"], [["abc d"]]) == {"cer": (distance("ab c", "abc d"), 5)}


def test_exact_match_is_to_the_letter():
    hypotheses = ["a", "b", "A", "a ", ""]
    assert ExactMatch().score(hypotheses, [["a"], ["a", "b"], ["a"], ["a"], [""]]) == {"exact_match": (3, 5)}
    assert measure(ExactMatch(), [("a", ["a"]), ("b", ["a"])]) == 0.5


def test_as_many_references_as_hypotheses():
    for metric in ALL:
        with pytest.raises(ValueError):
            metric.score(["a", "b"], [["a"]])
