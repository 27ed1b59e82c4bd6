"""``mmtx predict split=all``: every row of any data once, beside what other libraries read."""

import csv
import json
import signal
from collections import Counter

import pytest
from small_data import small_audio_manifest
from tables import write_table
from test_other_data import pictures, saved

from mmtx.commands.main import main
from mmtx.predict import Predictor
from mmtx.process.stopping import Interrupted

ROWS = [
    {"x": i / 7, "y": i % 5, "kind": "abc"[i % 3], "split": ("train", "dev", "test")[min(i % 8 // 5, i % 3)]}
    for i in range(43)
]
OF_TABLE = ["data=manifest", "modality=[state]", "data.columns={state: [x,y], label: kind}", "objective=[classify]"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(name):
    with open(name, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def predicted(run, *words, split="all"):
    name = f"{split}.csv"
    assert main(["predict", str(run), f"out={name}", f"split={split}", *words]) == 0
    return rows_of(name)


def table(folder, rows, kind="csv", *columns):
    return write_table(folder, kind, [{key: row[key] for key in columns or rows[0]} for row in rows])


def test_a_column_tells_splits(tmp_path):
    run = saved(tmp_path / "run", [*OF_TABLE, f"data.path={table(tmp_path, ROWS)}"])
    found, names = predicted(run), {"dev": "val"}
    assert [row["split"] for row in found] == [names.get(row["split"], row["split"]) for row in ROWS]
    assert [row["truth"] for row in found] == [row["kind"] for row in ROWS]
    assert [int(row["row"]) for row in found] == [int(row["sample"]) for row in found] == list(range(43))


def test_fractions_are_those_of_training_and_each_row_is_what_its_split_says(tmp_path):
    run = saved(tmp_path / "run", [*OF_TABLE, "data.split=null", f"data.path={table(tmp_path, ROWS)}"])
    found = predicted(run)
    assert [row["truth"] for row in found] == [row["kind"] for row in ROWS]
    for split, size in Counter(row["split"] for row in found).items():
        apart, together = predicted(run, split=split), [row for row in found if row["split"] == split]
        assert len(apart) == size
        for one, other in zip(apart, together, strict=True):
            assert (one["path"], one["truth"]) == (other["path"], other["truth"])
            assert float(one["probability/b"]) == pytest.approx(float(other["probability/b"]), rel=1e-5)
    assert Counter(row["split"] for row in found).keys() == {"train", "val", "test"}


def test_tables_of_their_own_are_numbered_each(tmp_path):
    parts = {"train": ROWS[:20], "val": ROWS[20:31], "test": ROWS[31:]}
    paths = {split: table(tmp_path / split, rows, "csv", "x", "y", "kind") for split, rows in parts.items()}
    words = [f"data.path={paths['train']}", f"data.val_path={paths['val']}", f"data.test_path={paths['test']}"]
    found = predicted(saved(tmp_path / "run", [*OF_TABLE, *words]))
    assert len(found) == 43
    read = {split: rows_of(path) for split, path in paths.items()}
    assert [row["truth"] for row in found] == [read[row["split"]][int(row["row"])]["kind"] for row in found]


def test_a_folder_of_datasets_has_its_own_splits(tmp_path):
    """As ``DatasetDict.save_to_disk`` of `datasets` writes them."""
    made = {"train": ROWS[:25], "validation": ROWS[25:32], "test": ROWS[32:]}
    home = tmp_path / "dict"
    home.mkdir()
    (home / "dataset_dict.json").write_text(json.dumps({"splits": list(made)}))
    for split, rows in made.items():
        table(tmp_path / split, rows, "datasets", "x", "y", "kind").rename(home / split)
    found, names = predicted(saved(tmp_path / "run", [*OF_TABLE, f"data.path={home}"])), {"val": "validation"}
    assert Counter(row["split"] for row in found) == {"train": 25, "val": 7, "test": 11}
    for row in found:
        assert row["truth"] == made[names.get(row["split"], row["split"])][int(row["row"])]["kind"]


@pytest.mark.parametrize("columns", [("x", "y"), ("x", "y", "kind")])
def test_a_table_without_labels_is_whole(tmp_path, columns):
    """Nothing is held out of another table than the run's, however small; a column of labels may be empty."""
    run = saved(tmp_path / "run", [*OF_TABLE, f"data.path={table(tmp_path, ROWS)}"])
    new = [{**row, "kind": ""} for row in ROWS[:3]]
    found = predicted(run, f"data.path={table(tmp_path / 'new', new, 'csv', *columns)}")
    assert [row["sample"] for row in found] == ["0", "1", "2"]
    assert not {"split", "row"} & found[0].keys() and {row["truth"] for row in found} == {""}


def test_numbers_to_predict_may_be_missing(tmp_path):
    path = table(tmp_path, [{"x": row["x"], "y": row["y"], "force": [row["x"], 1.0]} for row in ROWS], "jsonl")
    words = ["data=manifest", "modality=[state]", "data.columns={state: [x,y], target: force}"]
    run = saved(tmp_path / "run", [*words, "objective=[regression]", f"data.path={path}"])
    new = table(tmp_path / "new", [{"x": 1, "y": 2, "force": None}] * 2, "jsonl")
    assert len(predicted(run, f"data.path={new}")) == 2


def test_what_the_set_reads_has_to_be_there(tmp_path, capsys):
    run = saved(tmp_path / "run", [*OF_TABLE, f"data.path={table(tmp_path, ROWS)}"])
    other = table(tmp_path / "new", ROWS, "csv", "x", "kind")
    assert main(["predict", str(run), "out=a.csv", "split=all", f"data.path={other}"]) == 2
    assert "data.columns.state=y is not a column" in capsys.readouterr().err


def test_sounds_of_a_list_and_pictures_of_folders(tmp_path):
    words = small_audio_manifest(tmp_path)
    run = saved(tmp_path / "heard", ["data=audio_manifest", "modality=[audio]", "objective=[classify]", *words])
    assert [row["truth"] for row in predicted(run)] == [row["label"] for row in rows_of("train.csv")]
    (tmp_path / "all.csv").unlink()
    folder = pictures(tmp_path / "pictures", ["ant", "bee", "cat"])
    words = ["data=image_folder", "modality=[image]", "objective=[classify]", "data.size=8", f"data.path={folder}"]
    found = predicted(saved(tmp_path / "seen", [*words, "modality.image.patch_size=4", "data.val_fraction=0.3"]))
    assert sorted(row["path"] for row in found) == sorted(map(str, folder.glob("*/*.png")))


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    run = saved(tmp_path / "run", [*OF_TABLE, f"data.path={table(tmp_path, ROWS)}"])
    words, whole = [str(run), "split=all", "loader.eval_batch_size=4"], Predictor._rows
    assert main(["predict", *words, "out=all.csv"]) == 0

    def rows(self, part, samples, batch, first):
        if first == 12:
            raise Interrupted(signal.SIGTERM)
        return whole(self, part, samples, batch, first)

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "_rows", rows)
        assert main(["predict", *words, "out=part.csv"]) == 128 + signal.SIGTERM
    assert len((tmp_path / "part.csv.part").read_text().splitlines()) == 1 + 12
    assert main(["predict", *words, "out=part.csv"]) == 0
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()


def test_parts_of_a_mixture_are_whole_each(tmp_path):
    one, two = table(tmp_path / "one", ROWS[:17]), table(tmp_path / "two", ROWS[17:], "csv", "x", "y", "kind")
    words = ["data=mixture", "+data@data.parts.one=manifest", "+data@data.parts.two=manifest", "data.names={}"]
    words += [f"data.parts.{part}.columns={{state: [x,y], label: kind}}" for part in ("one", "two")]
    words += [f"data.parts.one.path={one}", f"data.parts.two.path={two}", "modality=[state]", "objective=[classify]"]
    words += [f"data.parts.{part}.standardise=false" for part in ("one", "two")]
    found = predicted(saved(tmp_path / "run", words))
    assert [(row["part"], row["sample"]) for row in found] == [
        *(("one", str(i)) for i in range(17)),
        *(("two", str(i)) for i in range(26)),
    ]
    assert [row["truth"] for row in found] == [row["kind"] for row in ROWS]


def test_a_stream_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the cat sat on a mat by the big red mill\n" * 20)
    words = ["data=text_file", "modality=[text]", "objective=[next_token]", "data.path=a.txt", "data.context=8"]
    run = saved(tmp_path / "run", words)
    for more in ([], ["data.path=a.*"]):
        assert main(["predict", str(run), "out=a.csv", "split=all", *more]) == 2
        message = "split=all needs data whose samples have a place each, and those of TextFile have none"
        assert message in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
