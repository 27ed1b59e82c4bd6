"""Conversations in a manifest: the same ids from any kind of table, and what is wrong with a row by its place."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cli import TINY, mmtx, text_of
from tables import png, write_table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mmtx.config.compose import compose
from mmtx.data.base import Source
from mmtx.data.text.picture_marks import AROUND, TOKEN, WHOLE
from mmtx.errors import UserError
from mmtx.experiment import construct_source

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '</>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
TALKS = [
    [
        {"role": "user", "content": "ab"[i % 2] * (i % 5 + 1)},
        {"role": "assistant", "content": "c" * (i % 3 + 1)},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    for i in range(20)
]
ROWS = [{"talk": talk} for talk in TALKS]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """One id for each letter."""
    return letters(tmp_path / "letters")


def letters(folder: Path, marks: Sequence[str] = (), template: str = TEMPLATE) -> Path:
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate("abcde")}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer.add_special_tokens(["<u>", "<a>", "</>", *marks])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": template, "eos_token": "</>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def source_of(path: Path, vocabulary: Path, *more: str) -> Source:
    words = ["data=manifest", f"data.path={path}", "data.columns={text: talk}", "modality=[text]"]
    words += ["data/vocabulary=pretrained", f"data.vocabulary.path={vocabulary}", "objective=[next_token]"]
    return construct_source(compose([*words, "data.val_fraction=0", "data.test_fraction=0", *more]))


def expected(talk: list[dict[str, str]], turns: str = "assistant") -> tuple[str, list[bool]]:
    """The text, a character for each id, and which are predicted."""
    text, predicted = "", list[bool]()
    for message in talk:
        first = {"user": "U", "assistant": "A"}[message["role"]]
        text += first + message["content"] + "/"
        is_learnt = turns == "all" or first == "A"
        predicted += [turns == "all", *[is_learnt] * (len(message["content"]) + 1)]
    return text, predicted


def as_text(ids: torch.Tensor) -> str:
    return "".join("abcdeUA/SWI"[int(i)] for i in ids)


@pytest.mark.parametrize("turns", ["assistant", "all"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "tar", "csv"])
def test_ids_and_what_is_predicted_of_them(kind: str, turns: str, tmp_path: Path, vocabulary: Path) -> None:
    more = ["data.kinds.text=messages"] if kind == "csv" else []  # JSON in a cell is a text, too
    source = source_of(write_table(tmp_path / "table", kind, ROWS), vocabulary, f"data.turns={turns}", *more)
    split = source.train()
    assert len(split) == len(TALKS)
    for index, talk in enumerate(TALKS):
        fields = split[index]["text"]
        assert (as_text(fields["ids"]), fields["predicted"].tolist()) == expected(talk, turns)


def test_long_ones_lose_their_end(tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = source_of(write_table(tmp_path, "jsonl", ROWS), vocabulary, "data.max_length=9").train()
    for index, talk in enumerate(TALKS):
        assert as_text(split[index]["text"]["ids"]) == expected(talk)[0][:9]
    assert "20 texts of text reach data.max_length=9 ids, and end there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ("hm", "line 2: talk is .* not a list of messages"),
        ([], "line 2: talk is .*, not a list of messages"),
        ([{"role": "user"}], 'line 2: talk has {"role": "user"} as message 1, not {"role": ..., "content": ...}'),
        ([{"role": "user", "content": "a"}], "line 2: talk: has nothing that the assistant wrote; data.turns=all"),
        (None, "line 2: talk is null, not a list of messages"),
    ],
)
def test_a_bad_row_is_named(talk: Any, message: str, tmp_path: Path, vocabulary: Path) -> None:
    with pytest.raises(UserError, match=message):
        source_of(write_table(tmp_path, "jsonl", [ROWS[0], {"talk": talk}, *ROWS]), vocabulary)


def test_what_cannot_be_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    path = write_table(tmp_path, "jsonl", ROWS)
    with pytest.raises(UserError, match="data.turns=user is not one of assistant, all"):
        source_of(path, vocabulary, "data.turns=user")
    with pytest.raises(UserError, match="conversations need a vocabulary with a chat template"):
        source_of(path, vocabulary, "data/vocabulary=characters", "~data.vocabulary.path")
    with pytest.raises(UserError, match="data.vocabulary.path=null is that of init_from=RUN, which has none"):
        source_of(path, vocabulary, "data.vocabulary.path=null")


def test_a_row_may_lack_its_conversation(tmp_path: Path, vocabulary: Path) -> None:
    path = write_table(tmp_path, "jsonl", [*ROWS, {"talk": None}])
    split = source_of(path, vocabulary, "data.optional=[text]").train()
    assert "text" not in split[20] and as_text(split[19]["text"]["ids"]) == expected(TALKS[19])[0]


def test_csv_holds_json(tmp_path: Path) -> None:
    path = write_table(tmp_path, "csv", ROWS)
    with open(path, newline="") as stream:
        assert [json.loads(row["talk"]) for row in csv.DictReader(stream)] == TALKS


PARTS = (
    "{% for m in messages %}{{ '<' + m.role[0] + '>' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ '<image>' if 'image' in part.values() else part.text }}{% endfor %}{% endif %}"
    "{{ '</>' }}{% endfor %}{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
IMAGE = {"type": "image"}


def asked(*content: dict[str, Any], answer: str = "c") -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}, {"role": "assistant", "content": [letter(answer)]}]


def letter(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "image": None}  # columns of parts are filled with nulls


SHOWN = [
    {"talk": asked(letter("ab"), IMAGE, letter("d")), "picture": png(0)},
    {"talk": asked(IMAGE, letter("e"), answer="cc"), "picture": png(1)},
    {"talk": asked(letter("ab")), "picture": None},
]


@pytest.fixture
def with_pictures(tmp_path: Path) -> Path:
    return letters(tmp_path / "shown", [AROUND, WHOLE, TOKEN], PARTS)


def shown_source(path: Path, vocabulary: Path, *more: str) -> Source:
    words = ["data.columns={before: talk, image: picture, text: talk}", "data.kinds.before=before_picture"]
    words += ["modality=[before,image,text]", "data.size=8", "data.optional=[image]"]
    return source_of(path, vocabulary, *words, *more)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_picture_within_a_conversation(kind: str, tmp_path: Path, with_pictures: Path) -> None:
    """Between its marks; what is before them is a name of its own, and only the assistant's turns are predicted."""
    split = shown_source(write_table(tmp_path, kind, SHOWN), with_pictures).train()
    for row, (before, after) in enumerate([("UabSW", "Sd/Ac/"), ("USW", "Se/Acc/"), ("", "Uab/Ac/")]):
        sample = split[row]
        assert as_text(sample["before"]["ids"] if before else torch.tensor([])) == before
        assert as_text(sample["text"]["ids"]) == after and ("image" in sample) == bool(before)
        start = after.index("A") + 1
        assert sample["text"]["predicted"].tolist() == [i >= start for i in range(len(after))]


def test_a_list_of_one_picture(tmp_path: Path, with_pictures: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    rows = [{"talk": SHOWN[0]["talk"], "picture": each} for each in (["0.png"], "0.png")]
    split = shown_source(write_table(tmp_path, "jsonl", rows), with_pictures).train()
    assert torch.equal(split[0]["image"]["pixels"], split[1]["image"]["pixels"])
    path = write_table(tmp_path, "jsonl", [*rows, {"talk": SHOWN[0]["talk"], "picture": ["0.png", "0.png"]}])
    with pytest.raises(UserError, match="line 3: picture is a list of 2 files; a row has one, or null"):
        shown_source(path, with_pictures)


@pytest.mark.parametrize(
    ("talk", "picture", "message"),
    [
        (asked(letter("a")), png(0), 'talk: has no place for the picture of its row: {"type": "image"} in a content'),
        (asked(IMAGE), None, 'talk: has a place for a picture, {"type": "image"}, and its row has none'),
        (asked(IMAGE, IMAGE), png(0), "talk: a text has 2 pictures; this model takes one"),
        (asked(letter("a")) + asked(IMAGE), png(0), "talk: has its picture in a turn that is predicted, or after one"),
    ],
)
def test_a_picture_that_does_not_fit_its_row(
    talk: Any, picture: bytes | None, message: str, tmp_path: Path, with_pictures: Path
) -> None:
    path = write_table(tmp_path, "parquet", [*SHOWN, {"talk": talk, "picture": picture}])
    with pytest.raises(UserError, match="row 4: " + re.escape(message)):
        shown_source(path, with_pictures)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "~data.kinds.before",
            "talk: has a picture in it, before which .*: data.columns.before=talk data.kinds.before=",
        ),
        ("data.kinds.text=before_picture", "kinds.*=before_picture is the beginning of conversations, and no text is"),
        (
            "data.columns.more=picture data.optional=[image,more]",
            "kinds=before_picture needs one name of pictures; the data have image, more",
        ),
        ("data.turns=all", "has its picture in a turn that is predicted.*; data.turns=assistant"),
    ],
)
def test_keys_that_a_picture_needs(override: str, message: str, tmp_path: Path, with_pictures: Path) -> None:
    with pytest.raises(UserError, match=message):
        shown_source(write_table(tmp_path, "parquet", SHOWN), with_pictures, *override.split())


def test_a_vocabulary_without_pictures(tmp_path: Path, vocabulary: Path) -> None:
    with pytest.raises(UserError, match="kinds=before_picture needs a vocabulary with an id for pictures"):
        shown_source(write_table(tmp_path, "parquet", SHOWN), vocabulary)


def test_a_picture_before_the_whole_conversation(tmp_path: Path, vocabulary: Path) -> None:
    rows = [{"talk": talk, "picture": png(i)} for i, talk in enumerate(TALKS)]
    words = ["data.columns={image: picture, text: talk}", "modality=[image,text]", "data.size=8"]
    split = source_of(write_table(tmp_path, "parquet", rows), vocabulary, *words).train()
    for index, talk in enumerate(TALKS):
        sample = split[index]
        assert (as_text(sample["text"]["ids"]), sample["text"]["predicted"].tolist()) == expected(talk)
        assert sample["image"]["pixels"].shape == (3, 8, 8)


@pytest.mark.slow
def test_preferences_of_conversations_are_learnt_by_one_command(tmp_path: Path, vocabulary: Path) -> None:
    """Pairs with one question; of both, what the assistant writes. At the start the two models are one, so that the
    loss is -log 1/2; at the end held-out pairs are known."""
    asked = [{"role": "user", "content": "ab"[i % 2] * (i % 5 + 1)} for i in range(40)]
    answers = {"chosen": "c", "rejected": "de"}
    rows = [{side: [one, {"role": "assistant", "content": text}] for side, text in answers.items()} for one in asked]
    table = write_table(tmp_path / "pairs", "jsonl", rows)
    words = ["data=manifest", f"data.path={table}", "data.columns={text: chosen, rejected: rejected}"]
    words += ["data/vocabulary=pretrained", f"data.vocabulary.path={vocabulary}", "data.val_fraction=0.2"]
    words += ["data.test_fraction=0", "modality=[text]", "objective=[preference]", "backbone.dropout=0.0", *TINY[:3]]
    words += ["trainer.max_epochs=null", "trainer.max_steps=20", "trainer.val_every_steps=20", "loader.batch_size=16"]
    words += ["optim.lr=1e-2", "optim.warmup_steps=1", "log_every_steps=1", "logger=[]", "callbacks=[]"]
    done = mmtx("train", *words, "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-5)
    (known,) = (row["val/accuracy"] for row in logged if "val/accuracy" in row)
    assert known == 1.0
