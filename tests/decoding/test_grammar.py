"""Grammars: which ids may come next, by the regular expressions of Python, and what is then written."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import Letters, backbone, batch_of, model, text, text_spec
from scipy.stats import chisquare
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.text.vocabulary import Bytes, Words
from mmtx.decoding.generate import generate
from mmtx.decoding.grammar import Grammar
from mmtx.decoding.sampling import Sampling
from mmtx.decoding.steering import Steering
from mmtx.errors import UserError
from mmtx.model import MultimodalTransformer

LETTERS = Letters()
"""a to i, a begin, an end."""
IDS = [b"a", b"b", b"ab", b"c", b"", b""]
END = 5


def untrained(spec: Any = None) -> MultimodalTransformer:
    return model({"text": text(spec or text_spec(max_length=16))}, backbone(init_std=0.3))


def scores(whole: MultimodalTransformer) -> Any:
    return lambda hidden: hidden @ whole.tokenizer("text").id_vectors.T  # type: ignore[attr-defined]


def prompts(lengths: list[int]) -> Batch:
    ids = torch.randint(9, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = LETTERS.begin
    return batch_of({"text": {"ids": ids}}, {"text": lengths})


@pytest.mark.parametrize("pattern", ["a+b?", "(ab|c)*", "(a|ab)(c|bc)", "a{2,3}|b", "[^a]b", "c?", "a(bc)?"])
@pytest.mark.parametrize("ends", [[END], []], ids=["an end", "a stream"])
def test_every_text_that_the_pattern_matches_and_no_other(pattern: str, ends: list[int]) -> None:
    """All sequences of up to four ids, several of which may spell the same."""
    grammar, room = Grammar(pattern, IDS, ends), 4

    def walk(state: int, left: int) -> set[tuple[int, ...]]:
        """Whole texts that can be written from a state."""
        allowed = grammar.may_follow(state, left).nonzero()[:, 0].tolist()
        found: set[tuple[int, ...]] = set() if allowed else {()}
        for new in allowed:
            after = grammar.follow(state, new, left - 1)
            rest = {()} if after is None else walk(after, left - 1)
            found |= {() if new == END else (new, *more) for more in rest}
        return found

    matching = {
        ids
        for count in range(room + 1)
        for ids in product(range(4), repeat=count)
        if re.fullmatch(pattern, b"".join(IDS[i] for i in ids).decode())
    }
    if ends:
        assert walk(grammar.start, room) == matching
    else:  # nothing ends a stream before it has to, but that nothing can follow
        follows = {ids for ids in matching if any(more[: len(ids)] == ids and more != ids for more in matching)}
        assert matching - follows <= walk(grammar.start, room) <= matching
    assert grammar.shortest == min(map(len, matching))


@pytest.mark.parametrize("cache", [True, False])
def test_an_untrained_model_writes_what_is_valid(cache: bool) -> None:
    """In a batch with prompts of unequal lengths, at a limit that some texts reach."""
    whole, pattern = untrained(), "(ab|c)+d?e"
    grammar = Steering(grammar=pattern).automaton(LETTERS)
    batch = prompts([1, 3, 2, 4] * 15)
    written = generate(
        whole,
        scores(whole),
        batch,
        "text",
        max_new_tokens=7,
        sampling=Sampling(temperature=2.0, repetition_penalty=1.2),
        generator=torch.Generator().manual_seed(0),
        end=LETTERS.ends,
        grammar=grammar,
        cache=cache,
    )
    assert all(re.fullmatch(pattern, LETTERS.decode(ids)) for ids in written)
    assert {len(ids) for ids in written} >= {2, 7}


def test_frequencies_are_renormalised_probabilities() -> None:
    """Of a language that can be enumerated, by chi-square; each id's score is the same wherever it stands."""
    language, count = ["a", "bc", "bd", "bdd", "aaa"], 4000
    grammar = Steering(grammar="|".join(language)).automaton(LETTERS)
    fixed = torch.randn(LETTERS.size, generator=torch.Generator().manual_seed(2))
    symbols = "abcdefghi<>"
    weight = dict(zip(symbols, fixed.exp().tolist(), strict=True))

    def probability(word: str) -> float:
        """Of each letter and of the end, among those with which some word of the language goes on."""
        whole, out = [f"{each}>" for each in language], 1.0
        for i, letter in enumerate(f"{word}>"):
            following = {each[i] for each in whole if each.startswith(word[:i]) and len(each) > i}
            out *= weight[letter] / sum(weight[each] for each in following)
        return out

    assert sum(map(probability, language)) == pytest.approx(1.0)

    def always(hidden: Tensor) -> Tensor:
        return fixed.expand(*hidden.shape[:2], -1)

    written = generate(
        untrained(),
        always,
        prompts([1] * count),
        "text",
        max_new_tokens=6,
        sampling=Sampling(),
        generator=torch.Generator().manual_seed(0),
        end=LETTERS.ends,
        grammar=grammar,
    )
    found = Counter(LETTERS.decode(ids) for ids in written)
    assert set(found) == set(language)
    expected = [count * probability(word) for word in language]
    assert chisquare([found[word] for word in language], expected).pvalue > 1e-3


@pytest.mark.parametrize(("pattern", "lengths"), [("ab|c", {1, 2}), ("a*", {5}), ("(ab)*", {4}), ("(abc)+", {3})])
def test_a_stream_ends_where_nothing_can_follow_and_whole_at_its_limit(pattern: str, lengths: set[int]) -> None:
    letters, whole = Letters("abcdefghijk", marks=False), untrained()
    written = generate(
        whole,
        scores(whole),
        prompts([1, 2] * 8),
        "text",
        max_new_tokens=5,
        sampling=Sampling(temperature=3.0),
        generator=torch.Generator().manual_seed(0),
        grammar=Steering(grammar=pattern).automaton(letters),
    )
    assert all(re.fullmatch(pattern, letters.decode(ids)) for ids in written)
    assert {len(ids) for ids in written} == lengths


def test_a_schema_gives_json(tmp_path: Path) -> None:
    """Of bytes, between marks."""
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}, "size": {"enum": ["small", "ein Stück"]}},
        "required": ["on", "size"],
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    vocabulary = Bytes()
    vocabulary.fit([], marks=True)
    whole = untrained(text_spec(num_classes=vocabulary.size, max_length=60))
    batch = batch_of({"text": {"ids": torch.full((6, 1), vocabulary.begin)}}, {"text": [1] * 6})
    options: dict[str, Any] = {"sampling": Sampling(), "generator": torch.Generator().manual_seed(0)}
    options |= {"end": vocabulary.ends, "max_new_tokens": 50}
    grammar = Steering(schema=str(tmp_path / "schema.json")).automaton(vocabulary)
    written = [
        vocabulary.decode(ids) for ids in generate(whole, scores(whole), batch, "text", grammar=grammar, **options)
    ]
    for each in map(json.loads, written):
        assert each.keys() == {"on", "size"}
        assert isinstance(each["on"], bool)
        assert each["size"] in ("small", "ein Stück")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grammar": "a("}, r"grammar=a\( cannot be followed: Failed to build DFA"),
        ({"grammar": "a)(b"}, r"grammar=a\)\(b cannot be followed: Failed to build DFA"),
        ({"grammar": r"(?=a)b"}, "cannot be followed"),
        ({"grammar": "ax"}, r"grammar=ax cannot be followed: The vocabulary .* \[\"x\"\]"),
        ({"grammar": "a*x"}, "grammar=a\\*x cannot be spelt by the ids"),
        ({"grammar": "a", "schema": "s.json"}, "schema=s.json cannot be given beside grammar=a; give one of them"),
        ({"schema": "none.json"}, "schema=none.json is no JSON file that can be read"),
        ({"schema": "broken.json"}, "schema=broken.json is no JSON file that can be read"),
        ({"schema": "unknown.json"}, "schema=unknown.json is no schema that can be followed: Unsupported type: colour"),
        ({"schema": "number.json"}, "schema=number.json cannot be followed: The vocabulary"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("unknown.json").write_text('{"type": "colour"}')
    Path("number.json").write_text('{"type": "integer"}')
    with pytest.raises(UserError, match=message):
        Steering(**options).automaton(LETTERS)


def test_a_vocabulary_a_limit_and_a_library_that_do_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    words.fit(["to be"], marks=True)
    with pytest.raises(UserError, match="grammar=to needs ids that spell bytes: .* not words"):
        Steering(grammar="to").automaton(words)
    whole = untrained()
    options: dict[str, Any] = {"grammar": Steering(grammar="a{4}").automaton(LETTERS), "end": LETTERS.ends}
    with pytest.raises(UserError, match="max_new_tokens=3 is too few .* 4 ids; nearest: 4"):
        generate(whole, scores(whole), prompts([1]), "text", max_new_tokens=3, **options)
    with pytest.raises(UserError, match="each begins with ids that suppress_first rules out"):
        generate(whole, scores(whole), prompts([1]), "text", max_new_tokens=4, suppress_first=[0], **options)
    monkeypatch.setitem(sys.modules, "outlines_core", None)
    with pytest.raises(UserError, match=r"pip install 'mmtx\[grammar\]'"):
        Steering(grammar="a").automaton(LETTERS)
