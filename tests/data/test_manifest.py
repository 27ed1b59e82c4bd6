"""People's own files: one table of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contracts
import numpy
import pytest
import torch
from tables import columns_of, png, wav, write_table

from mmtx import build
from mmtx.batch import Spec
from mmtx.config.compose import compose
from mmtx.data.audio.sound_file import read_sound
from mmtx.data.base import Source, Split
from mmtx.data.fitted import FittedState
from mmtx.data.image.decode_image import decode_image
from mmtx.data.loaders import DataModule
from mmtx.data.manifest.manifest import Manifest
from mmtx.data.manifest.row_split import RowSplit
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment.source import construct_source

KINDS = ("csv", "tsv", "jsonl", "parquet", "datasets", "tar")
TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "loader.batch_size=4"]
SMALL = ["data.size=8", "data.max_seconds=0.2"]


ROWS = [
    {"picture": png(i), "sound": wav(i), "text": f"number {i % 7}", "kind": "abc"[i % 3], "x": i * 10.0, "y": -i * 1.5}
    for i in range(40)
]
for i, row in enumerate(ROWS):
    row |= {"z": i % 5 + 0.25, "age": i % 60}


def rows(*columns: str) -> list[dict[str, Any]]:
    return [{column: row[column] for column in columns} for row in ROWS]


def overrides(path: Path, kind: str, columns: dict[str, Any], *more: str) -> list[str]:
    own = columns_of(kind, columns)
    listed = [f"{n}: {c if isinstance(c, str) else '[' + ','.join(c) + ']'}" for n, c in own.items()]
    return ["data=manifest", f"data.path={path}", f"data.columns={{{', '.join(listed)}}}", *SMALL, *TINY, *more]


def source_of(folder: Path, table: list[dict[str, Any]], columns: dict[str, Any], *more: str) -> Source:
    """The source of a JSONL file."""
    path = write_table(folder, "jsonl", table)
    return construct_source(compose(overrides(path, "jsonl", columns, *more)))


def first_loss(words: list[str]) -> float:
    experiment = build(words)
    loader = experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    torch.manual_seed(0)
    (score,) = experiment.learner(next(iter(loader))[0]).values()
    return float((score.loss_sum / score.count).detach())


CASES = {
    "pictures with captions": (
        {"image": "picture", "text": "text"},
        ["modality=[image,text]", "objective=[next_token]"],
    ),
    "sounds with classes": ({"audio": "sound", "label": "kind"}, ["modality=[audio]", "objective=[classify]"]),
    "texts": ({"text": "text"}, ["modality=[text]", "objective=[next_token]"]),
    "pictures, texts and classes": (
        {"image": "picture", "text": "text", "label": "kind"},
        ["modality=[image,text]", "objective=[classify]"],
    ),
    "numbers": (
        {"state": ["x", "y", "z"], "target": "age"},
        ["modality=[state]", "objective=[regression]"],
    ),
    "numbers with classes": ({"state": ["x", "y"], "label": "kind"}, ["modality=[state]", "objective=[classify]"]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_content_of_any_kind_gives_the_same_first_loss(case: str, tmp_path: Path) -> None:
    columns, choices = CASES[case]
    listed = [each for column in columns.values() for each in ([column] if isinstance(column, str) else column)]
    losses = {}
    for kind in KINDS:
        path = write_table(tmp_path / kind, kind, rows(*listed))
        losses[kind] = first_loss(overrides(path, kind, columns, *choices))
    assert len(set(losses.values())) == 1, losses


def of(split: Split | None) -> Split:
    assert split is not None
    return split


def test_values_are_those_of_the_table(tmp_path: Path) -> None:
    columns = {"image": "picture", "audio": "sound", "text": "text", "label": "kind", "state": ["x", "y"]}
    chosen = [
        "modality=[image,audio,text,state]",
        "data.standardise=false",
        "data.val_fraction=0",
        "data.test_fraction=0",
    ]
    source = source_of(tmp_path, ROWS, columns, *chosen, "data.standardise=false")
    assert isinstance(source, Manifest)
    contracts.check_source(source)
    samples = source.train()
    assert (len(samples), source.val(), source.test()) == (40, None, None)
    vocabulary = source.specs["text"].vocabulary
    assert vocabulary is not None
    for i in (0, 13, 39):
        sample, files = samples[i], tmp_path / "files"
        assert vocabulary.decode(sample["text"]["ids"].tolist()) == ROWS[i]["text"]
        assert "abc"[int(sample["label"]["class"])] == ROWS[i]["kind"]
        assert sample["state"]["values"].tolist() == [ROWS[i]["x"], ROWS[i]["y"]]
        pixels = decode_image(files / f"{i}.png", size=(8, 8), channels=3, max_pixels=100)
        assert sample["image"]["pixels"].equal(pixels)
        assert isinstance(samples, RowSplit)
        assert samples.origin(i) == f"{tmp_path}/table.jsonl, line {i + 1}"
        waveform = read_sound(files / f"{i}.wav", sample_rate_hz=16_000, resample=False, max_seconds=1.0)
        assert sample["audio"]["waveform"].equal(waveform)


def test_names_of_the_set_are_the_columns_of_that_name(tmp_path: Path) -> None:
    table = [{"image": ROWS[i]["picture"], "label": i % 2, "other": 0} for i in range(12)]
    path = write_table(tmp_path, "parquet", table)
    words = ["data=manifest", f"data.path={path}", *SMALL, "modality=[image]", "objective=[classify]"]
    assert set(construct_source(compose(words)).specs) == {"image", "label"}


def test_files_that_nothing_reads_are_not_decoded(tmp_path: Path) -> None:
    table = rows("picture", "text", "kind")
    table[3]["picture"] = b"not a picture"
    path = write_table(tmp_path, "parquet", table)
    whole = ["data.val_fraction=0", "data.test_fraction=0", "modality=[image,text]"]
    data = build(overrides(path, "parquet", {"image": "picture", "label": "kind"}, *whole)).data
    for names in (["text", "label"], ["image"]):
        keys = {"source": data.source, "names": names, "seed": 0, "batch_size": 40, "eval_batch_size": None}
        keys |= {"num_workers": 0, "packing": False, "on_bad_sample": "raise", "max_bad_share": 0.0}
        loader = iter(DataModule(**keys).train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1))
        if names == ["image"]:
            with pytest.raises(UserError, match="row 4: picture is not an image"):
                next(loader)
        else:
            assert set(next(loader)[0].fields) == {"text", "label"}


def test_a_name_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    path = write_table(tmp_path, "parquet", rows("picture", "text", "kind", "x"))
    columns = {"image": "picture", "text": "text", "label": "kind", "state": "x"}
    source = construct_source(
        compose(overrides(path, "parquet", columns, "modality=[text]", "data.kinds.state=number"))
    )
    assert list(source.specs) == ["text", "label", "state"]


def test_splits_are_the_same_whatever_the_set_reads(tmp_path: Path) -> None:
    """Four texts for each picture."""
    table = [{"picture": png(i % 10), "text": f"{i}", "split": "train"} for i in range(40)]
    for kind in ("jsonl", "parquet"):
        path = write_table(tmp_path / kind, kind, table)
        held = []
        for names in ("[text]", "[image,text]"):
            words = overrides(path, kind, {"image": "picture"}, f"modality={names}")
            val = of(construct_source(compose(words)).val())
            held.append([val[i]["text"]["ids"].tolist() for i in range(len(val))])
        assert held[0] == held[1]


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "shape", "first"),
    [
        ([1, 2], (1,), [1.0]),
        ([[1, 2, 3], [4, 5, 6]], (3,), [1.0, 2.0, 3.0]),
        ([[1, 2, 3], [4, 5]], (None, 1), [[1.0], [2.0], [3.0]]),
        ([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], (None, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (["1e3", "[2]"], (1,), [1000.0]),
    ],
)
def test_numbers_have_the_shape_of_their_cells(cells: Any, shape: Any, first: Any, tmp_path: Path) -> None:
    table = [{"state": cell} for cell in cells]
    source = source_of(tmp_path, table, {}, "modality=[state]", "data.val_fraction=0", "data.test_fraction=0")
    spec = source.specs["state"].fields["values"]
    scale = standard_of(numpy.concatenate([numpy.array(as_list(c), float).reshape(-1, shape[-1]) for c in cells]))
    assert spec.shape == shape
    expected = torch.tensor((numpy.array(first) - scale[0]) / scale[1], dtype=torch.float32)
    torch.testing.assert_close(source.train()[0]["state"]["values"], expected)
    contracts.check_source(source)


def as_list(cell: Any) -> Any:
    return [float(cell.strip("[]"))] if isinstance(cell, str) else cell


def standard_of(values: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    std = values.std(0)
    return values.mean(0), numpy.where(std > 0, std, 1.0)


def test_a_tokenizer_of_ones_own_says_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_readers.py").write_text(
        "from mmtx.modalities import Image, Vectors\n"
        "class Photo(Image):\n    pass\n"
        "class Gauge(Vectors):\n    column_kind = None\n"
        "class Odd(Vectors):\n    column_kind = 'smell'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["modality=[image,state]", "plugins=[own_readers]", "modality.image._target_=own_readers.Photo"]
    columns = {"image": "picture", "state": "x"}
    source = source_of(tmp_path, ROWS, columns, *words, "modality.state._target_=own_readers.Gauge")
    assert set(source.specs["image"].fields) == {"pixels"}
    assert source.specs["state"].fields["values"].shape == (1,), "as the values are, not a series"
    with pytest.raises(UserError, match="kinds.state=smell is none of picture, sound"):
        source_of(tmp_path, ROWS, columns, *words, "modality.state._target_=own_readers.Odd")


def test_slices_of_a_regression_are_classes(tmp_path: Path) -> None:
    words = ["modality=[state]", "objective=[regression]", "objective.regression.slices=[kind,age]"]
    source = source_of(tmp_path, ROWS, {"state": "x", "target": "age"}, *words)
    assert source.specs["kind"].class_names == ("a", "b", "c")
    assert len(source.specs["age"].class_names or ()) == 40
    assert set(source.specs["target"].fields) == {"values"}


def test_a_kind_that_is_given_counts(tmp_path: Path) -> None:
    table = [{"state": [i, i + 1], "reading": [i, 2, 3], "channel": [4, i, 5]} for i in range(3)]
    whole = ["data.val_fraction=0", "data.test_fraction=0", "modality=[state]"]
    kinds = "data.kinds={state: series, both: series}"
    source = source_of(tmp_path, table, {"both": ["reading", "channel"]}, *whole, kinds)
    assert [source.specs[name].fields["values"].shape for name in ("state", "both")] == [(None, 1), (None, 2)]
    assert source.train()[1]["both"]["values"].tolist() == [[1, 4], [2, 1], [3, 5]]


def test_numbers_of_the_set_are_standardised_by_the_training_part_alone(tmp_path: Path) -> None:
    table = [{"state": float(i**2), "target": float(i), "split": "train" if i < 30 else "test"} for i in range(40)]
    source = source_of(tmp_path, table, {}, "modality=[state]", "objective=[regression]", "data.val_fraction=0")
    values = numpy.array([i**2 for i in range(40)])
    expected = (values - values[:30].mean()) / values[:30].std()
    test = of(source.test())
    assert [float(test[i]["state"]["values"]) for i in range(10)] == pytest.approx(expected[30:])
    assert [float(test[i]["target"]["values"]) for i in range(10)] == [float(i) for i in range(30, 40)]
    plain = source_of(tmp_path, table, {}, "modality=[state]", "data.standardise=false")
    assert sorted(float(of(plain.test())[i]["state"]["values"]) for i in range(10)) == values[30:].tolist()


@pytest.mark.parametrize("form", ["lists", "texts", "columns"])
def test_several_labels(form: str, tmp_path: Path) -> None:
    given = [["a", "c"], ["b"], [], ["a", "b", "c"]]
    table: list[dict[str, Any]]
    columns: dict[str, Any] = {"label": "kinds"}
    more = ["data.val_fraction=0", "data.test_fraction=0", "modality=[text]"]
    if form == "lists":
        table = [{"text": "x", "kinds": labels} for labels in given]
    elif form == "texts":
        table = [{"text": "x", "kinds": "|".join(labels)} for labels in given]
        more += ["data.separator='|'", "data.kinds.label=labels"]
    else:
        table = [{"text": "x", **{label: int(label in labels) for label in "abc"}} for labels in given]
        columns, more = {"label": ["a", "b", "c"]}, [*more, "data.kinds.label=labels"]
    source = source_of(tmp_path, table, columns, *more)
    assert source.specs["label"].class_names == ("a", "b", "c")
    found = [source.train()[i]["label"]["labels"].int().tolist() for i in range(4)]
    assert found == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    contracts.check_source(source)


def test_long_texts_lose_their_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = source_of(tmp_path, rows("text"), {}, "modality=[text]", "data.max_length=5", "data/vocabulary=bytes")
    assert source.specs["text"].max_length == 5
    assert source.train()[0]["text"]["ids"].tolist() == [256, *b"num", 257]
    assert "40 texts of text reach data.max_length=5" in capsys.readouterr().err


def test_a_row_may_lack_what_is_optional(tmp_path: Path) -> None:
    table = rows("picture", "text", "kind", "x")
    table[3] |= {"picture": None, "text": "", "kind": None, "x": None}
    columns = {"image": "picture", "text": "text", "label": "kind", "state": "x"}
    whole = ["modality=[image,text,state]", "data.val_fraction=0", "data.test_fraction=0"]
    source = source_of(tmp_path, table, columns, *whole, "data.optional=[image,text,label,state]")
    assert (len(source.train()[2]), len(source.train()[3])) == (4, 0)
    with pytest.raises(UserError, match="line 4: picture is missing(.|\n)*line 4: x is missing"):
        source_of(tmp_path, table, columns, *whole, "data.optional=[text,label]")


# --- splits -----------------------------------------------------------------------------------------------------------


def split_sizes(source: Source) -> list[int]:
    return [len(split) if split is not None else 0 for split in (source.train(), source.val(), source.test())]


def test_splits_by_fractions_have_their_share_of_every_class(tmp_path: Path) -> None:
    table = [{"text": f"{i}", "label": "a" if i % 4 else "b"} for i in range(80)]
    source = source_of(tmp_path, table, {"label": "label"}, "modality=[text]", "data.val_fraction=0.2")
    assert split_sizes(source) == [56, 16, 8]
    for split, count in ((source.train(), 14), (of(source.val()), 4), (of(source.test()), 2)):
        assert sum(int(split[i]["label"]["class"]) for i in range(len(split))) == count
    again = source_of(tmp_path, table, {"label": "label"}, "modality=[text]", "data.val_fraction=0.2")
    other = source_of(tmp_path, table, {"label": "label"}, "modality=[text]", "data.split_seed=1")
    first = [str(of(each.val())[0]["text"]["ids"].tolist()) for each in (source, again, other)]
    assert first[0] == first[1] != first[2]


def test_a_column_tells_splits(tmp_path: Path) -> None:
    table = [{"text": f"{i}", "part": ("train", "validation", "test", "train")[i % 4]} for i in range(40)]
    assert split_sizes(source_of(tmp_path, table, {}, "modality=[text]", "data.split=part")) == [20, 10, 10]
    assert split_sizes(source_of(tmp_path, table, {}, "modality=[text]")) == [32, 4, 4]
    table[5]["part"] = "holdout"
    with pytest.raises(UserError, match="line 6: part is holdout, and must be one of train, val, test"):
        source_of(tmp_path, table, {}, "modality=[text]", "data.split=part")


def test_files_of_their_own_for_validation_and_test(tmp_path: Path) -> None:
    paths = {
        key: write_table(tmp_path / key, "jsonl", [{"text": "hello", "label": label} for label in labels])
        for key, labels in (("train", "abab" * 5), ("val", "ab"), ("test", "abc"))
    }
    words = ["modality=[text]", "objective=[classify]", "data.columns={label: label}"]
    given = [f"data.path={paths['train']}", f"data.val_path={paths['val']}"]
    source = construct_source(compose(["data=manifest", *given, *words]))
    assert split_sizes(source) == [18, 2, 2]
    with pytest.raises(UserError, match=r"test/table.jsonl, line 3: label c is not among the 2 of the training rows"):
        construct_source(compose(["data=manifest", *given, f"data.test_path={paths['test']}", *words]))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_with_one_file_are_in_one_split(kind: str, tmp_path: Path) -> None:
    """Ten pictures, each in four rows, under four names."""
    table = [{"picture": png(i % 10), "text": f"{i}"} for i in range(40)]
    path = write_table(tmp_path, kind, table)
    words = overrides(path, kind, {"image": "picture"}, "modality=[image,text]", "data.val_fraction=0.3")
    source = construct_source(compose(words))
    assert split_sizes(source) == [24, 12, 4]
    seen = [
        {split[i]["image"]["pixels"].numpy().tobytes() for i in range(len(split))}
        for split in (source.train(), of(source.val()), of(source.test()))
    ]
    assert [len(each) for each in seen] == [6, 3, 1]
    assert len(set.union(*seen)) == 10
    apart = [{**row, "split": ("train", "test")[i // 30]} for i, row in enumerate(table)]
    with pytest.raises(UserError, match=r"10 problems(.|\n)*31 \(test\) holds the same file as .* 1 \(train\)"):
        words[1] = f"data.path={write_table(tmp_path / 'apart', kind, apart)}"
        construct_source(compose(words))


# --- what is wrong with a table ---------------------------------------------------------------------------------------

PLACE = {"csv": "row 4", "tsv": "row 4", "jsonl": "line 3", "parquet": "row 3", "datasets": "row 3"}
PLACE["tar"] = "sample 000002"


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_row_is_named_by_row_and_column(kind: str, tmp_path: Path) -> None:
    table = rows("text", "kind", "x")
    table[2] |= {"text": " ", "x": float("inf")}
    path = write_table(tmp_path, kind, table)
    column = "txt" if kind == "tar" else "text"
    words = overrides(path, kind, {"text": "text", "state": "x"}, "modality=[text,state]")
    with pytest.raises(UserError) as error:
        construct_source(compose(words))
    assert f"{PLACE[kind]}: {column} is empty" in str(error.value)
    assert f"{PLACE[kind]}: x is " in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_column_is_named_with_those_that_are_there(kind: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, kind, rows("text", "kind"))
    words = overrides(path, kind, {"text": "text", "label": "kimd"}, "modality=[text]")
    with pytest.raises(UserError, match=r"columns.label=kimd is not a column of .*; did you mean '(json\.)?kind'\?"):
        construct_source(compose(words))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_missing_file_is_named_by_row_and_column(kind: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, kind, rows("picture", "kind"))
    (tmp_path / "files" / "2.png").unlink()
    words = overrides(path, kind, {"image": "picture", "label": "kind"}, "modality=[image]")
    with pytest.raises(UserError, match=f"{PLACE[kind]}: picture files/2.png is not a file"):
        construct_source(compose(words))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_is_named_by_row_and_column(kind: str, tmp_path: Path) -> None:
    """A sound's header shows it at the start, a picture when it is decoded."""
    table = rows("picture", "sound")
    table[2] |= {"picture": b"not a picture", "sound": b"not a sound"}
    path = write_table(tmp_path, kind, table)
    columns = columns_of(kind, {"image": "picture", "audio": "sound"})
    words = overrides(path, kind, {"audio": "sound"}, "modality=[audio]")
    with pytest.raises(UserError, match=f"{PLACE[kind]}: {columns['audio']}.*cannot be read as sound"):
        construct_source(compose(words))
    whole = ["modality=[image]", "data.val_fraction=0", "data.test_fraction=0"]
    source = construct_source(compose(overrides(path, kind, {"image": "picture"}, *whole)))
    with pytest.raises(UserError, match=f"{PLACE[kind]}: {columns['image']}.*is not an image of a known kind"):
        source.train()[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.kinds={text: prose}"], "kinds.text=prose is none of picture, sound"),
        (["data.kinds={txet: text}"], "kinds.txet=text is of no name of the data: text"),
        (["data.columns={text: [text,kind,x]}"], "columns.text=.* are several columns, and a text is one"),
        (["data.optional=[view]"], "optional=view is no name of the data, which has text"),
        (["data.columns={image: text}", "modality=[text,image]"], "line 1: text number 0 is not a file"),
        (["data.columns={label: x}", "data.kinds={label: label}"], "x is 1.5, neither a text nor a whole number"),
        (["data.columns={state: text}", "data.kinds={state: number}"], 'text is "number 0", not a number'),
        (["data.columns={state: x}", "data.kinds={state: sound}"], "x is 0.0, neither a path nor bytes"),
        (["data.val_fraction=0.6", "data.test_fraction=0.5"], "leaves no training"),
        (["data.split=kind", "data.val_path=FILE"], "split=kind is a column that tells splits, beside"),
        (["data.shuffle_mb=0"], "shuffle_mb=0 must be at least 1"),
    ],
)
def test_what_is_refused(changes: list[str], message: str, tmp_path: Path) -> None:
    table = [{"text": row["text"], "kind": row["kind"], "x": i * 1.5} for i, row in enumerate(ROWS)]
    path = write_table(tmp_path, "jsonl", table)
    changes = [change.replace("FILE", str(path)) for change in changes]
    with pytest.raises(UserError, match=message):
        construct_source(compose(["data=manifest", f"data.path={path}", "modality=[text]", *changes]))


def test_a_set_that_the_table_lacks_is_refused_with_what_is_there(tmp_path: Path) -> None:
    path = write_table(tmp_path, "jsonl", rows("text", "kind"))
    with pytest.raises(ConfigErrors, match="the data offers no 'image'; it has label"):
        build(overrides(path, "jsonl", {"label": "kind", "text": "text"}, "modality=[image]"))


# --- what belongs to the run ------------------------------------------------------------------------------------------


def test_what_is_fitted_belongs_to_the_run(tmp_path: Path) -> None:
    def made(count: int) -> Source:
        table = [{key: row[key] for key in ("text", "kind", "x", "y")} for row in ROWS[:count]]
        kept = ["modality=[text,state]", "data.val_fraction=0", "data.test_fraction=0"]
        path = write_table(tmp_path / str(count), "jsonl", table)
        words = overrides(path, "jsonl", {"label": "kind", "text": "text", "state": ["x", "y"]}, *kept)
        return construct_source(compose(words), FittedState.current())

    contracts.check_learns(lambda: made(40), lambda: made(5))
    assert contracts.learns(lambda: made(40), lambda: made(5))


def test_other_data_have_to_fit_the_run(tmp_path: Path) -> None:
    whole = ["modality=[text,state]", "data.val_fraction=0", "data.test_fraction=0"]
    first = source_of(tmp_path / "a", rows("text", "kind", "x"), {"label": "kind", "state": "x"}, *whole)
    handed = FittedState.from_run(first.specs, first.fitted.state())

    def fails(table: list[dict[str, Any]], columns: dict[str, Any], message: str) -> None:
        path = write_table(tmp_path / str(len(list(tmp_path.iterdir()))), "jsonl", table)
        with pytest.raises(UserError, match=message):
            construct_source(compose(overrides(path, "jsonl", columns, *whole)), handed)

    columns = {"label": "kind", "state": "x"}
    fails([{"text": "n", "kind": kind, "x": 1.0} for kind in "az"], columns, "z is no class of the run")
    fails(
        [{"text": "n", "kind": kind, "x": [1, 2]} for kind in "ab"], columns, "has 2 numbers here, and the run had 1 n"
    )
    fails([{"text": "ü", "kind": kind, "x": 1.0} for kind in "ab"], columns, "line 1: text: the character 'ü'")


def test_specs_are_those_of_the_old_readers(tmp_path: Path) -> None:
    """A run on recordings or labelled texts reads the same from a manifest."""
    source = source_of(tmp_path, ROWS, {"audio": "sound", "text": "text", "label": "kind"}, "modality=[audio,text]")
    audio: Spec = source.specs["audio"]
    assert (audio.sample_rate_hz, audio.trim_db, audio.fields["waveform"].max_length) == (16_000, None, 3200)
