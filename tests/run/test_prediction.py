"""``mmtx predict``: tables of three formats, gone on with where they were stopped."""

import csv
import json
import os
import signal

import pytest
from run_cli import TINY, fork, mmtx, text_of

from mmtx.commands.main import main
from mmtx.predict import Predictor
from mmtx.process.stopping import Interrupted
from mmtx.run.table_draft import TableDraft
from mmtx.run.table_file import write_table

FORMATS = ["csv", "jsonl", "parquet"]
KINDS = {"sample": int, "said": str, "odds": float, "words": list[str], "vectors": list[list[float]]}
ROWS = [
    {
        "sample": 0,
        "said": 'a "b",\nc; ü\u2028',
        "odds": 0.1,
        "words": ["x", 'y"'],
        "vectors": [[0.5, 1.0], [2.0, 1e-9]],
    },
    {"sample": 1, "said": None, "odds": None, "words": None, "vectors": None},
    {"sample": 2, "said": "", "odds": 1.0, "words": [], "vectors": []},
    {"sample": 3},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prediction")
    words = ["experiment=spell_digits", "run_dir=run", "logger=[]", "callbacks=[]", "trainer.max_steps=2"]
    done = mmtx("train", *words, "loader.eval_batch_size=32", *TINY, cwd=folder)
    assert done.returncode == 0, text_of(done)
    return folder


@pytest.fixture
def here(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return str(folder / "run")


def stop_after(monkeypatch, number):
    """Ends predictions by a signal before another batch."""
    whole = Predictor._rows

    def rows(self, part, samples, batch, first):
        if first == number * len(batch):
            raise Interrupted(signal.SIGTERM)
        return whole(self, part, samples, batch, first)

    monkeypatch.setattr(Predictor, "_rows", rows)


@pytest.mark.parametrize("suffix", FORMATS)
def test_stopped_and_gone_on_with_it_is_the_same_file(here, tmp_path, monkeypatch, capsys, suffix):
    """Also where it was killed within a row."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    assert main(["predict", here, f"out=whole.{suffix}"]) == 0
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        assert main(["predict", here, f"out=part.{suffix}"]) == 128 + signal.SIGTERM
    assert f"part.{suffix}.part has the first 96 samples; the same command goes on" in capsys.readouterr().err
    draft = tmp_path / f"part.{suffix}.part"
    assert not (tmp_path / f"part.{suffix}").exists()
    draft.write_bytes(draft.read_bytes()[:-20])
    seen, batches = [], Predictor.batches
    monkeypatch.setattr(Predictor, "batches", lambda self, first: seen.append(first) or batches(self, first))
    assert main(["predict", here, f"out=part.{suffix}"]) == 0
    assert seen == [64], "only whole batches stay, as padding is a batch's own"
    files = [tmp_path / f"{name}.{suffix}" for name in ("part", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not draft.exists()


def killed_in_the_middle(run, folder):
    """Predicts until a kill comes, which no process survives or notices, after three batches."""
    os.chdir(folder)
    whole = Predictor._rows

    def rows(self, part, samples, batch, first):
        if first == 3 * len(batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, part, samples, batch, first)

    Predictor._rows = rows
    main(["predict", run, "out=killed.csv"])


def test_killed_and_gone_on_with_it_is_the_same_file(here, tmp_path):
    process = fork(killed_in_the_middle, here, str(tmp_path))
    process.join(180)
    assert process.exitcode == -signal.SIGKILL
    draft = tmp_path / "killed.csv.part"
    begun = draft.read_text().splitlines()
    assert len(begun) == 1 + 96, "the settings, and each sample"
    assert not (tmp_path / "killed.csv").exists()
    for name in ("killed", "whole"):
        done = mmtx("predict", here, f"out={name}.csv", cwd=tmp_path)
        assert done.returncode == 0, text_of(done)
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not draft.exists()


def test_it_goes_on_with_the_same_alone(here, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        main(["predict", here, "out=a.csv"])
    assert main(["predict", here, "out=a.csv", "split=val"]) == 2
    assert "a.csv.part was begun with split=test, and is to go on with val" in capsys.readouterr().err
    draft = TableDraft(tmp_path / "a.csv.part", json.loads((tmp_path / "a.csv.part").read_text().split("\n")[0]))
    assert main(["predict", here, "out=a.csv"]) == 2
    assert "a.csv.part is in use by another process" in capsys.readouterr().err
    draft.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the table that is to be written: out=FILE"),
        (["out=a.xls"], "out=a.xls must end with one of .csv .jsonl .parquet"),
        (["out=there.csv"], "out=there.csv is there already"),
        (["out=there.csv/a.csv"], "cannot be written"),
        (["out=a.csv", "spilt=val"], "did you mean 'split'?"),
        (["out=a.csv", "split=tset"], "split=tset is none of"),
        (["out=a.csv", "backbone.dim=64"], "backbone.dim=64 would be another model; this command takes out, split"),
    ],
)
def test_what_cannot_be_is_refused(here, tmp_path, capsys, words, message):
    (tmp_path / "there.csv").touch()
    assert main(["predict", here, *words]) == 2
    assert message in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"there.csv"}


def test_a_table_in_every_format(tmp_path):
    """The same values, read by other libraries."""
    expected = [{name: row.get(name) for name in KINDS} for row in ROWS]
    write_table(tmp_path / "a.jsonl", KINDS, ROWS)
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().split("\n")[:-1]] == expected
    write_table(tmp_path / "a.csv", KINDS, ROWS)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    texts = [{name: "" if value is None else value for name, value in row.items()} for row in expected]
    for row in texts:
        lists = {name: json.dumps(value) for name, value in row.items() if isinstance(value, list)}
        row |= {name: str(value) for name, value in row.items()} | lists
    assert found == texts
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "a.parquet", KINDS, ROWS)
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == expected
    assert [str(kind) for kind in parquet.read_schema(tmp_path / "a.parquet").types[:3]] == [
        "int64",
        "string",
        "double",
    ]


def test_numbers_that_are_none_are_null(tmp_path):
    draft = TableDraft(tmp_path / "a.part", {})
    draft.append([{"odds": float("nan"), "vectors": [[1.0, float("inf")]]}])
    assert list(draft.rows()) == [{"odds": None, "vectors": [[1.0, None]]}]
    draft.close()
