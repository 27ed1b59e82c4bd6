"""Short texts, one a line of a file."""

import sys

import torch

from mmtx.data.text.parallel_text import read_lines
from mmtx.data.text.text_pairs import TextPairs, encode_all
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, check_at_least


class TextLines(TextPairs):
    """Name: ``text``, a line between the mark that begins a text and the one that ends it.

    The file is UTF-8, plain or ``.gz``. Lines end at ``\\n`` or ``\\r\\n`` and are not changed; those of white space
    alone are left out, and a line on stderr gives their number. Lines are split one by one: a text that the file has
    twice may be in two splits.

    Args:
        path: the file.
        vocabulary: fitted to the training lines.
        num_val: validation lines; 0: none.
        num_test: test lines; 0: none.
        split_seed: of the choice of both.
    """

    def __init__(self, *, path: str, vocabulary: TextVocabulary, num_val: int, num_test: int, split_seed: int) -> None:
        check_at_least("num_val", num_val, 0)
        check_at_least("num_test", num_test, 0)
        lines = read_lines("path", path)
        texts = [line for line in lines if line.strip()]
        if len(texts) <= num_val + num_test:
            problem = f"leaves no training of the {len(texts)} lines of data.path={path} with num_val={num_val}"
            raise InvalidValue("num_test", num_test, problem)
        if len(texts) < len(lines):
            print(f"data.path={path}: {len(lines) - len(texts)} empty lines are left out", file=sys.stderr)
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(split_seed)).tolist()
        ends = {"test": num_test, "val": num_test + num_val, "train": len(texts)}
        parts, start = {}, 0
        for split, end in ends.items():
            parts[split] = [texts[i] for i in sorted(order[start:end])]
            start = end
        held_out = [*parts["val"], *parts["test"]]
        self.fitted.vocabulary("text", vocabulary, parts["train"], marks=True, held_out=held_out)
        lists = {split: {"text": encode_all(vocabulary, part)} for split, part in parts.items()}
        longest = max(int(part["text"].lengths.max()) for part in lists.values() if len(part["text"]))
        super().__init__(vocabularies={"text": vocabulary}, max_lengths={"text": longest}, **lists)
