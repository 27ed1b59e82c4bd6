"""Prompts and what continues them, in a manifest: preferred and rejected texts with one vocabulary."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from contracts import check_source
from tables import write_table

from mmtx.config.compose import compose
from mmtx.data.base import Source
from mmtx.errors import UserError
from mmtx.experiment import assemble, construct_source

ROWS = [
    {"q": "ab"[i % 2] * (i % 3 + 1) + "?", "good": "c" * (i % 4 + 1), "bad": "dxyz"[: i % 4 + 1]} for i in range(20)
]
WORDS = ["data=manifest", "modality=[text]", "data.columns={text: [q, good], rejected: [q, bad]}"]
WORDS += ["objective=[preference]", "backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2"]


def source_of(folder: Path, *more: str, extension: str = "jsonl", rows: list[dict[str, Any]] = ROWS) -> Source:
    path = write_table(folder, extension, rows)
    return construct_source(compose([*WORDS, f"data.path={path}", "data.test_fraction=0", *more]))


@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
def test_both_continue_one_prompt_in_one_vocabulary(tmp_path: Path, extension: str) -> None:
    source = source_of(tmp_path, extension=extension)
    check_source(source)
    one, other = source.specs["text"].vocabulary, source.specs["rejected"].vocabulary
    assert one is not None and other is not None and one.state() == other.state()
    seen = set()
    for i in range(len(source.train())):
        sample = source.train()[i]
        ids, chosen = ({name: fields[key] for name, fields in sample.items()} for key in ("ids", "predicted"))
        given = {name: one.decode(ids[name][~chosen[name]].tolist()) for name in ids}
        written = {name: one.decode(ids[name][chosen[name]].tolist()) for name in ids}
        assert given["text"] == given["rejected"] and ids["text"][0] == one.begin and ids["text"][-1] == one.end
        assert bool(chosen["rejected"][-1]), "the mark that ends it is written too"
        seen.add((given["text"], written["text"], written["rejected"]))
    assert seen <= {tuple(row.values()) for row in ROWS} and len(seen) > 10


def test_such_a_table_is_learnt_from(tmp_path: Path) -> None:
    experiment = assemble(compose([*WORDS, f"data.path={write_table(tmp_path, 'jsonl', ROWS)}"]))
    learner = experiment.learner
    learner.freeze_reference()
    (batch,) = next(iter(experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)))
    score = learner(batch)["preference"]
    assert score.count == len(batch) and float(score.loss_sum.detach() / score.count) == pytest.approx(math.log(2))


MOVES = [
    {"x": i % 3, "y": i // 3, "good": "left forward " * (i % 2) + "pickup", "bad": "right " * (i % 3) + "done"}
    for i in range(20)
]
BEHIND_A_STATE = ["modality=[state,text]", "data.columns={state: [x, y], text: good, rejected: bad}"]
BEHIND_A_STATE += ["data/vocabulary=words", "data.kinds={text: continuation, rejected: continuation}"]


def test_sequences_of_actions_are_behind_a_state(tmp_path: Path) -> None:
    """Without a prompt, all of them is predicted, in one vocabulary."""
    source = source_of(tmp_path, *BEHIND_A_STATE, rows=MOVES)
    check_source(source)
    words = source.specs["text"].vocabulary
    assert words is not None and words.size == len({"left", "forward", "pickup", "right", "done"}) + 2
    for sample in (source.train()[i] for i in range(len(source.train()))):
        for name in ("text", "rejected"):
            assert sample[name]["predicted"].tolist() == [False] + [True] * (len(sample[name]["ids"]) - 1)
    seen = {words.decode(source.train()[i][name]["ids"].tolist()) for i in range(10) for name in ("text", "rejected")}
    assert seen <= {row[key].strip() for row in MOVES for key in ("good", "bad")} and len(seen) > 3


@pytest.mark.parametrize("objective", ["preference", "reward_model"])
def test_sequences_of_actions_are_learnt_from(tmp_path: Path, objective: str) -> None:
    words = [*WORDS, *BEHIND_A_STATE, f"data.path={write_table(tmp_path, 'jsonl', MOVES)}"]
    experiment = assemble(compose([*words, f"objective=[{objective}]"]))
    learner = experiment.learner
    learner.freeze_reference()
    (batch,) = next(iter(experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)))
    score = learner(batch)[objective]
    score.loss_sum.backward()
    assert score.count == len(batch) and float(score.loss_sum.detach() / score.count) == pytest.approx(
        math.log(2), abs=0.2
    )
    moved = [float(p.grad.abs().max()) for p in learner.model.tokenizers["state"].parameters() if p.grad is not None]
    assert max(moved) > 0, "what is preferred follows from the state"


def test_what_is_too_long_loses_its_end_and_never_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = source_of(tmp_path, "data.max_length=7")
    lengths = [len(source.train()[i]["text"]["ids"]) for i in range(len(source.train()))]
    assert max(lengths) == 7 and "reach data.max_length=7" in capsys.readouterr().err
    assert all(bool(source.train()[i]["text"]["predicted"][-1]) for i in range(len(lengths)))
    with pytest.raises(UserError, match=r"jsonl.*q: has 5 ids, so that data.max_length=6 leaves nothing"):
        source_of(tmp_path, "data.max_length=6")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be two columns"):
        source_of(tmp_path, "data.columns={text: [q, good, bad]}", "data.kinds={text: continuation}")
    with pytest.raises(UserError, match="bad"):
        source_of(tmp_path, rows=[*ROWS, {"q": "a?", "good": "c", "bad": ""}])
    path = write_table(tmp_path, "jsonl", ROWS)
    words = [*WORDS, f"data.path={path}", "data.columns={text: good, rejected: bad}"]
    with pytest.raises(UserError, match="same kind and vocabulary .* without a prompt, data.kinds="):
        assemble(compose(words))
