"""Data that programs make: lengths, splits, and answers computed another way."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from contracts import check_source

from mmtx.batch import Sample
from mmtx.data.algorithmic.addition import Addition
from mmtx.data.algorithmic.algorithmic import Algorithmic
from mmtx.data.algorithmic.countdown import Countdown
from mmtx.data.algorithmic.induction import Induction
from mmtx.data.algorithmic.list_ops import ListOps
from mmtx.data.algorithmic.modular_sums import ModularSums
from mmtx.data.algorithmic.mqar import MQAR
from mmtx.data.algorithmic.name_pairs import NamePairs
from mmtx.data.algorithmic.parity import Parity
from mmtx.data.algorithmic.recall import Recall
from mmtx.data.algorithmic.reversal import Reversal
from mmtx.data.algorithmic.stack import Stack
from mmtx.data.algorithmic.task import LabelledTask, Task, WrittenTask
from mmtx.errors import UserError

TASKS: dict[str, Task] = {
    "parity": Parity(),
    "modular_sums": ModularSums(modulus=5),
    "reversal": Reversal(num_letters=3),
    "stack": Stack(),
    "addition": Addition(),
    "addition_with_hints": Addition(hints=True),
    "addition_on_a_scratchpad": Addition(hints=True, scratchpad=True),
    "recall": Recall(num_ids=12, num_pairs=2),
    "recall_of_notes": Recall(num_ids=12, num_pairs=2, marked=True),
    "list_ops": ListOps(max_depth=4, max_elements=4),
    "mqar": MQAR(num_ids=64, tokens_per_pair=8),
    "induction": Induction(num_ids=16),
    "name_pairs": NamePairs(ending="a", strength=1.0),
}
LENGTHS = {"list_ops": (4, 12), "mqar": (8, 20), "induction": (4, 12), "recall": (8, 20), "recall_of_notes": (10, 20)}


def made(name: str = "parity", **changes: Any) -> Algorithmic:
    shortest, longest = LENGTHS.get(name, (1, 6))
    keys = {"shortest": shortest, "longest": longest, "test_lengths": [longest, 25], "split_seed": 0}
    sizes = {"num_train": 300, "num_val": 20, "num_test": 10}
    return Algorithmic(task=TASKS[name], **{**keys, **sizes, **changes})


@pytest.mark.parametrize("name", TASKS)
def test_contract(name: str) -> None:
    check_source(made(name))


@pytest.mark.parametrize("name", TASKS)
def test_no_text_is_longer_than_declared_and_all_ids_occur(name: str) -> None:
    """So the sizes of the vocabulary and of the context are those of the task, not bounds."""
    source = made(name, test_lengths=[])
    texts = [source.train()[index]["text"] for index in range(300)]
    ids = source.specs["text"].fields["ids"]
    assert max(len(text["ids"]) for text in texts) == ids.max_length
    assert torch.cat([text["ids"] for text in texts]).unique().tolist() == list(range(ids.num_classes or 0))


def test_training_has_every_length_and_the_test_as_many_of_each() -> None:
    source = made()
    lengths = [len(source.train()[index]["text"]["ids"]) for index in range(300)]
    assert set(lengths) == set(range(1, 7)) and "length" not in source.train()[0]
    test = source.test()
    assert test is not None and source.specs["length"].class_names == ("6", "25")
    assert [len(test[index]["text"]["ids"]) for index in range(20)] == [6] * 10 + [25] * 10
    assert [int(test[index]["length"]["class"]) for index in range(20)] == [0] * 10 + [1] * 10
    assert made(test_lengths=[]).test() is None


def test_samples_follow_from_the_seed_the_split_and_the_index() -> None:
    def texts(source: Algorithmic, split: str) -> list[str]:
        samples = {"train": source.train(), "val": source.val()}[split]
        assert samples is not None
        return [str(samples[index]["text"]["ids"].tolist()) for index in range(20)]

    long = {"shortest": 30, "longest": 30, "test_lengths": []}  # of which no two are the same by chance
    one, again, other = made(**long), made(**long), made(**long, split_seed=1)
    assert texts(one, "train") == texts(again, "train")
    assert len({*texts(one, "train"), *texts(one, "val"), *texts(other, "train")}) == 60


def drawn(task: LabelledTask | WrittenTask) -> Iterator[tuple[int, Any, Any]]:
    generator = random.Random(1)
    for length in [*range(1, 9)] * 10:
        yield length, *task.example(generator, length)


def test_parity_is_that_of_the_sum() -> None:
    for length, bits, code in drawn(Parity()):
        assert len(bits) == length and code == int(bits, 2).bit_count() % 2


def test_modular_sums_go_round_as_a_clock() -> None:
    for length, digits, code in drawn(ModularSums(modulus=7)):
        clock = [*range(7)]
        for digit in digits:
            clock = clock[int(digit) :] + clock[: int(digit)]
        assert len(digits) == length and clock[0] == code


def test_reversal_and_addition() -> None:
    for length, given, written in drawn(Reversal(num_letters=4)):
        assert len(given) == length and all(given[-1 - i] == letter for i, letter in enumerate(written))
    for length, given, written in drawn(Addition()):
        one, other = (int(digits[::-1]) for digits in given.split("+"))
        assert len(given) == 2 * length + 1 and len(written) == length + 1 and int(written[::-1]) == one + other


def test_hints_name_the_place_of_each_digit_and_a_scratchpad_has_a_line_for_each() -> None:
    followed = set()
    for length, given, written in drawn(Addition(hints=True, scratchpad=True)):
        scratch, answer = written.split(">")
        places = given[::3]
        assert places == answer[::2] == scratch[::6] and len(set(places)) == length + 1
        followed |= {*zip(places, places[1:], strict=False)}
        numbers = [int(digits[::-1]) for digits in (given[1::3], given[2::3], answer[1::2])]
        assert numbers[0] + numbers[1] == numbers[2] and max(numbers[:2]) < 10**length
        for place, line in enumerate(scratch[i : i + 6] for i in range(0, len(scratch), 6)):
            below = 10**place
            carry = (numbers[0] % below + numbers[1] % below) // below
            digits = [number // below % 10 for number in numbers[:2]]
            assert [*map(int, line[1:4])] == [*digits, carry] and int(line[4:]) == sum(digits) + carry
    letters = string.ascii_lowercase
    assert followed == {*zip(letters, letters[1:] + "a", strict=True)}, "every letter has its next one, around"


def test_the_answer_is_scored_and_the_scratch_before_it_predicted_alone() -> None:
    task = Addition(hints=True, scratchpad=True)
    text = task.draw(random.Random(0), 3)["text"]
    predicted, scored = (task.vocabulary.decode(text["ids"][text[key]].tolist()) for key in ("predicted", "scored"))
    assert predicted.endswith(scored) and scored[0] == ">" and len(scored) == 9 and len(predicted) == 24 + 9


def test_values_are_recalled_over_any_distance() -> None:
    for length in (8, 9, 40):
        text = Recall(num_ids=12, num_pairs=2).draw(random.Random(length), length)["text"]
        ids, places = text["ids"].tolist(), text["predicted"].nonzero()[:, 0].tolist()
        pairs = {ids[0]: ids[1], ids[2]: ids[3]}
        assert len(ids) == length and places == [length - 3, length - 1] and {*ids[4:-4]} <= {8, 9, 10, 11}
        assert pairs == {ids[place - 1]: ids[place] for place in places}
        assert {*pairs} <= {0, 1, 2, 3} and {*pairs.values()} <= {4, 5, 6, 7}


def test_marked_pairs_are_recalled_from_anywhere() -> None:
    starts = set()
    for seed in range(30):
        text = Recall(num_ids=12, num_pairs=2, marked=True).draw(random.Random(seed), 14)["text"]
        ids, places = text["ids"].tolist(), text["predicted"].nonzero()[:, 0].tolist()
        start = ids.index(10)
        starts.add(start)
        pairs = dict(zip(ids[start + 1 : start + 5 : 2], ids[start + 2 : start + 6 : 2], strict=True))
        assert ids[start + 5] == 11 and places == [11, 13] and pairs == {ids[10]: ids[11], ids[12]: ids[13]}
        assert {*ids[:start], *ids[start + 6 : 10]} <= {8, 9}
    assert starts == {0, 1, 2, 3, 4}


def test_a_stack_is_what_rewriting_its_text_gives() -> None:
    """Without a list: pushes become bits, and what stands before a pop goes with it, until none is left."""
    for length, given, written in drawn(Stack()):
        text = given.replace("a", "0").replace("b", "1")
        while "-" in text:
            place = text.index("-")
            text = text[: max(place - 1, 0)] + text[place + 1 :]
        assert len(given) == length and written == text[::-1]


def test_what_follows_in_a_repeated_segment_is_known_from_its_first_occurrence() -> None:
    for length in (4, 5, 12, 31):
        text = Induction(num_ids=16).draw(random.Random(length), length)["text"]
        ids, predicted = text["ids"].tolist(), text["predicted"].tolist()
        assert len(ids) == len(predicted) == length and sum(predicted) == length // 2 - 1
        for place in (place for place, one in enumerate(predicted) if one):
            before = [other for other in range(place - 1) if ids[other] == ids[place - 1]]
            assert len(before) == 1 and ids[before[0] + 1] == ids[place]


def test_a_curriculum_begins_with_the_shortest_and_is_not_drawn_again() -> None:
    source, plain = made(longest=9, growing=90), made(longest=9)
    drawn = [draw.index for draw in itertools.islice(source.order(300, 0).stream(0), 400)]
    assert drawn[:90] == list(range(90)) and min(drawn[90:]) >= 90
    lengths = [len(source.train()[index]["text"]["ids"]) for index in range(90)]
    for block in range(9):  # of ten samples each, whose longest length is one more
        assert max(lengths[10 * block : 10 * block + 10]) <= 1 + block
    assert max(lengths[80:]) > 5
    assert all(_same(source.train()[index], plain.train()[index]) for index in (90, 200, 299))
    assert all(_same(source.val()[index], plain.val()[index]) for index in (0, 19))


def _same(one: Sample, other: Sample) -> bool:
    return one["text"]["ids"].equal(other["text"]["ids"])


def test_what_is_to_be_written_is_predicted_up_to_its_end() -> None:
    task = Addition()
    text = task.draw(random.Random(0), 3)["text"]
    given, predicted = text["ids"][~text["predicted"]].tolist(), text["ids"][text["predicted"]].tolist()
    assert given[0] == task.vocabulary.begin and task.vocabulary.decode(given)[-1] == "="
    assert predicted[-1] == task.vocabulary.end and len(task.vocabulary.decode(predicted)) == 4


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("parity", {"shortest": 0}, "shortest=0 must be at least 1"),
        ("parity", {"longest": 2, "shortest": 3}, "longest=2 is less than shortest=3"),
        ("parity", {"test_lengths": [5, 5]}, "test_lengths=.* each once"),
        ("parity", {"test_lengths": [0]}, "test_lengths=.* at least 1"),
        ("parity", {"growing": 300}, "growing=300 must be at least 0, and less than num_train=300"),
        ("parity", {"num_test": 0}, "num_test=0 must be at least 1"),
        ("list_ops", {"shortest": 3}, "a length of 3 is below that of the shortest list"),
        ("list_ops", {"test_lengths": [2000]}, "task.max_depth=4 gave no list of 1001 to 2000 symbols"),
        ("mqar", {"shortest": 7}, "a length of 7 has no pair, with task.tokens_per_pair=8"),
        ("induction", {"shortest": 3}, "a length of 3 has no segment of two ids; the shortest is 4"),
        ("recall", {"shortest": 7}, "a length of 7 is less than pairs and queries take, .* the shortest is 8"),
        (
            "recall_of_notes",
            {"shortest": 9},
            "a length of 9 is less than pairs and queries take, .* the shortest is 10",
        ),
        ("addition_with_hints", {"test_lengths": [26]}, "task.hints=True has 26 .*, and numbers of 26 digits need 27"),
        ("induction", {"longest": 33}, "task.num_ids=16 is less than a text of 33 needs.*; nearest: 17"),
        ("mqar", {"longest": 256}, "task.num_ids=64 has 31 keys, and a length of 256 has 32 pairs; nearest: 66"),
    ],
)
def test_what_is_refused(name: str, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        made(name, **changes)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (ModularSums, {"modulus": 11}),
        (Reversal, {"num_letters": 1}),
        (ListOps, {"max_depth": 0, "max_elements": 5}),
        (ListOps, {"max_depth": 5, "max_elements": 1}),
        (Induction, {"num_ids": 2}),
        (MQAR, {"num_ids": 3, "tokens_per_pair": 16}),
        (MQAR, {"num_ids": 16, "tokens_per_pair": 3}),
    ],
)
def test_what_a_task_refuses(task: Any, changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must"):
        task(**changes)


def test_a_scratchpad_needs_hints_and_every_pair_a_key() -> None:
    with pytest.raises(UserError, match=r"task.scratchpad=True names its lines by letters; nearest: task.hints=true"):
        Addition(scratchpad=True)
    with pytest.raises(UserError, match=r"num_ids=11 has 3 keys, fewer than num_pairs=4; nearest: 12"):
        Recall(num_ids=11, num_pairs=4)


def test_countdown() -> None:
    """Python reads the expressions to the targets; each number stands there once; no text is longer than declared."""
    task, longest = Countdown(largest=20), 0
    check_source(
        Algorithmic(
            task=task, shortest=2, longest=4, test_lengths=[3], num_train=40, num_val=9, num_test=4, split_seed=0
        )
    )
    drawn, seen = random.Random(0), set[str]()
    for length in (2, 3, 6):
        for _ in range(200):
            given, written = task.example(drawn, length)
            target, numbers = given.split(":")
            assert eval(written) == int(target) in range(1, 1000)
            assert (
                sorted(re.findall(r"\d+", written)) == sorted(numbers.split(",")) and len(numbers.split(",")) == length
            )
            assert len(f"{given}{written}") <= task.most(length)
            longest, seen = max(longest, len(f"{given}{written}") * (length == 3)), seen | set(given + written)
    assert longest == task.most(3) and seen == set("0123456789:,()+-*/")
    with pytest.raises(UserError, match="2 to 6 numbers, and none of 7"):
        task.example(drawn, 7)
    with pytest.raises(UserError, match="task.largest"):
        Countdown(largest=100)
