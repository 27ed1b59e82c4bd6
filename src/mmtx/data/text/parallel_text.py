"""Texts and their translations, in two files of parallel lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.data.files.decompression import gunzip
from mmtx.data.text.text_file import decode_utf8, read_text
from mmtx.data.text.text_pairs import IdLists, TextPairs, TextPart, encode_all
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_fraction

MOST_UNPACKED = 1 << 30
"""Bytes that may come out of a ``.gz``; a larger file is given unpacked."""


class ParallelText(TextPairs):
    """Names: ``source``, ``target``, each with the mark that begins a text and the one that ends it.

    Files are UTF-8, plain or ``.gz``; line n of one belongs to line n of the other. Lines end at ``\\n`` or ``\\r\\n``
    and are not changed. Pairs of the training files that are longer than `max_length` are skipped, also those
    held out, and so are pairs of any file that are empty on both sides; a line on stderr gives their number. A longer
    pair of the validation or test files is an error.

    Args:
        source: training file of the texts that are read.
        target: training file of the texts that are written.
        val_source: the same for validation; None: validation is held out of the training files.
        val_target: belongs to it.
        test_source: the same for the test; None: there is no test.
        test_target: belongs to it.
        val_fraction: share of the training pairs that is held out where there are no validation files; 0: none. A pair
            that the files hold twice may be on both sides.
        split_seed: of the choice of held-out pairs.
        source_vocabulary: fitted to the training part of the source.
        target_vocabulary: fitted to the training part of the target.
        max_length: ids of either side, both marks included.

    Attributes:
        num_too_long: skipped pairs that are longer than `max_length`.
        num_empty: skipped pairs that are empty.
    """

    def __init__(
        self,
        *,
        source: str,
        target: str,
        val_source: str | None,
        val_target: str | None,
        test_source: str | None,
        test_target: str | None,
        val_fraction: float,
        split_seed: int,
        source_vocabulary: TextVocabulary,
        target_vocabulary: TextVocabulary,
        max_length: int,
    ) -> None:
        if max_length < 3:
            raise InvalidValue("max_length", max_length, "must be at least 3, for a text and its two marks")
        check_fraction("val_fraction", val_fraction)
        given = read_pairs("source", source, "target", target)
        val = read_pairs("val_source", val_source, "val_target", val_target)
        test = read_pairs("test_source", test_source, "test_target", test_target)
        for key, pairs in (("val", val), ("test", test)):
            if pairs.texts == given.texts:
                print(
                    f"data.{key}_source holds the training pairs: {key}/ measures what was trained on", file=sys.stderr
                )
        kept, drawn = _hold_out(given, 0.0 if len(val) else val_fraction, split_seed)
        vocabularies = {"source": source_vocabulary, "target": target_vocabulary}
        for name, vocabulary in vocabularies.items():
            unseen = [text for pairs in (drawn, val, test) for text in pairs.texts[name]]
            self.fitted.vocabulary(name, vocabulary, kept.texts[name], marks=True, held_out=unseen)
        train, num_train = _without_long(kept, vocabularies, max_length)
        part, num_drawn = _without_long(drawn, vocabularies, max_length)
        self.num_too_long = num_train + num_drawn
        self.num_empty = given.num_empty + val.num_empty + test.num_empty
        super().__init__(
            vocabularies=vocabularies,
            max_lengths=dict.fromkeys(vocabularies, max_length),
            train=train,
            val=_all_of(val, vocabularies, max_length) if len(val) else part,
            test=_all_of(test, vocabularies, max_length),
        )
        if self.num_too_long or self.num_empty:
            print(
                f"data=parallel_text leaves out {self.num_too_long} pairs of more than data.max_length={max_length} "
                f"ids and {self.num_empty} that are empty on both sides",
                file=sys.stderr,
            )


@dataclass(frozen=True)
class LinePairs:
    """Lines of two parallel files.

    Attributes:
        files: their names in an error, by ``source`` and ``target``.
        texts: by the same names, as many of each.
        lines: their numbers in the files, from 1.
        num_empty: lines that are empty in both files, which are not among these.
    """

    files: Mapping[str, str]
    texts: Mapping[str, list[str]]
    lines: list[int]
    num_empty: int

    def __len__(self) -> int:
        return len(self.lines)

    def select(self, index: list[int]) -> LinePairs:
        """Some of the pairs."""
        texts = {name: [column[i] for i in index] for name, column in self.texts.items()}
        return LinePairs(self.files, texts, [self.lines[i] for i in index], self.num_empty)


def read_pairs(source_key: str, source: str | None, target_key: str, target: str | None) -> LinePairs:
    """The lines of two files, or no pairs if neither is given.

    Raises:
        UserError: a file is missing, cannot be read, or has no text; or the files are not parallel.
    """
    if source is None and target is None:
        return LinePairs({}, {"source": [], "target": []}, [], 0)
    if source is None:
        raise InvalidValue(source_key, None, f"is missing beside {target_key}={target}")
    if target is None:
        raise InvalidValue(target_key, None, f"is missing beside {source_key}={source}")
    files = {"source": f"data.{source_key}={source}", "target": f"data.{target_key}={target}"}
    sources, targets = read_lines(source_key, source), read_lines(target_key, target)
    if len(sources) != len(targets):
        raise UserError(
            f"{files['source']} has {len(sources)} lines and {files['target']} has {len(targets)}; "
            f"line n of one goes with line n of the other"
        )
    filled = []
    for i, (one, other) in enumerate(zip(sources, targets, strict=True)):
        if bool(one.strip()) != bool(other.strip()):
            empty = files["target" if one.strip() else "source"]
            raise UserError(f"line {i + 1} of {empty} is empty, and that of the other file is not; empty both or none")
        if one.strip():
            filled.append(i)
    if not filled:
        raise InvalidValue(source_key, source, f"holds no text, and neither does {target_key}={target}")
    numbers = list(range(1, len(sources) + 1))
    whole = LinePairs(files, {"source": sources, "target": targets}, numbers, len(sources) - len(filled))
    return whole.select(filled)


def read_lines(key: str, path: str) -> list[str]:
    """Lines of a file; other line ends of Unicode are part of a line."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValue(key, path, "is not a file")
    text = _unpacked(key, file) if file.suffix.lower() == ".gz" else read_text(file)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _unpacked(key: str, file: Path) -> str:
    try:
        data = gunzip(file.read_bytes(), MOST_UNPACKED)
    except ValueError as error:
        raise InvalidValue(key, file, str(error)) from None
    return decode_utf8(data, f"{file}, unpacked,")


def _hold_out(pairs: LinePairs, fraction: float, seed: int) -> tuple[LinePairs, LinePairs]:
    """The pairs that are kept, and those that are held out."""
    count = min(round(len(pairs) * fraction), len(pairs) - 1)
    if fraction and not count:
        raise InvalidValue("val_fraction", fraction, f"of {len(pairs)} pairs holds none out", "0, or validation files")
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
    return pairs.select(sorted(order[count:])), pairs.select(sorted(order[:count]))


def _encoded(pairs: LinePairs, vocabularies: Mapping[str, TextVocabulary]) -> dict[str, IdLists]:
    return {name: encode_all(vocabulary, pairs.texts[name]) for name, vocabulary in vocabularies.items()}


def _longer_sides(part: TextPart) -> Int64[Tensor, " pairs"]:
    """Ids of the longer text of each pair."""
    return torch.maximum(part["source"].lengths, part["target"].lengths)


def _without_long(
    pairs: LinePairs, vocabularies: Mapping[str, TextVocabulary], max_length: int
) -> tuple[TextPart, int]:
    """The pairs of at most `max_length` ids, and the number of others."""
    part = _encoded(pairs, vocabularies)
    lengths = _longer_sides(part)
    index = (lengths <= max_length).nonzero()[:, 0]
    if len(pairs) and not len(index):
        problem = f"leaves none of {len(pairs)} pairs of {pairs.files['source']}"
        raise InvalidValue("max_length", max_length, problem, str(int(lengths.min())))
    return {name: lists.select(index) for name, lists in part.items()}, len(pairs) - len(index)


def _all_of(pairs: LinePairs, vocabularies: Mapping[str, TextVocabulary], max_length: int) -> TextPart:
    """All pairs. Raises `InvalidValue` if one is too long: a limit of the model must not change what is measured."""
    part = _encoded(pairs, vocabularies)
    for name, lists in part.items():
        longer = (lists.lengths > max_length).nonzero()[:, 0].tolist()
        if longer:
            where = f"line {pairs.lines[longer[0]]} of {pairs.files[name]}"
            problem = (
                f"is less than the {int(lists.lengths[longer[0]])} ids of {where} ({len(longer)} lines are longer)"
            )
            raise InvalidValue("max_length", max_length, problem, str(int(_longer_sides(part).max())))
    return part
