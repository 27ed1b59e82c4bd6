"""What stands on the command line is read in one way by every command."""

import re

import pytest

from mmtx.commands.arguments import Paths, parse, parse_run, refuse, take
from mmtx.errors import UserError

ONE = Paths(1, 1, "name one")
SOME = Paths(1, None, "name some")
KNOWN = ("split", "temperature", "prompt", "drop")


def test_paths_options_and_other_arguments():
    words = ["drop=[a,b]", "run", "temperature=1e-3", "prompt=1: 2=3", "data.path=x"]
    assert parse(words, ONE, KNOWN, texts=("prompt",)) == (
        ["run"],
        {"temperature": 0.001, "prompt": "1: 2=3", "drop": ["a", "b"]},
        ["data.path=x"],
    )
    assert parse(["run", "temperature=null"], ONE, KNOWN)[1]["temperature"] is None
    assert parse(["run", "top_p=1e-9", "drop=-.5E+3"], ONE, None)[1] == {"top_p": 1e-9, "drop": -500.0}
    assert parse(["run", "heads=12"], ONE, None) == (["run"], {"heads": 12}, [])


def test_what_lies_there_is_a_place_though_it_reads_like_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    assert parse(["seed=1", "seed=2"], SOME, ["seed"]) == (["seed=1"], {"seed": 2}, [])


def test_a_key_that_is_taken_away_is_no_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(["run", "~seed", "~data.path"], ONE, KNOWN) == (["run"], {}, ["~seed", "~data.path"])
    assert parse(["~/run"], ONE, KNOWN)[0] == ["~/run"]
    (tmp_path / "~old").mkdir()
    assert parse(["~old"], ONE, KNOWN)[0] == ["~old"]


@pytest.mark.parametrize(
    ("words", "paths"), [([], ONE), (["a", "b"], ONE), (["--a"], ONE), ([], SOME), (["a", "-m"], SOME)], ids=str
)
def test_other_paths_than_a_command_takes(words, paths):
    with pytest.raises(UserError, match=f"^{paths.wanted}$"):
        parse(words, paths, KNOWN)


def test_what_is_no_option():
    refuse([], KNOWN)
    with pytest.raises(UserError, match=r"^unknown key splt=val; did you mean 'split'\?"):
        refuse(["splt=val"], KNOWN)


@pytest.mark.parametrize("words", [["a", "--format", "onnx", "b"], ["--format=onnx", "a", "b"]], ids=" ".join)
def test_a_flag_and_its_value(words):
    assert take(words, "--format", "a name") == ("onnx", ["a", "b"])


def test_a_flag_that_is_not_there_or_has_no_value():
    assert take(["a", "--other"], "--format", "a name") == (None, ["a", "--other"])
    with pytest.raises(UserError, match="^--format needs a name$"):
        take(["a", "--format"], "--format", "a name")


@pytest.mark.parametrize("key", ["run_dir", "+run_dir", "hydra.run.dir", "hydra.sweep.dir"])
def test_the_words_of_a_run(key):
    words = ["seed=1,2", "-m", f"{key}='a b'", "--config", "c.yaml", "~logger"]
    assert parse_run(words) == ("c.yaml", True, ["seed=1,2", "~logger"], "a b")
    assert parse_run([f"{key}=null"]) == (None, False, [], None)


@pytest.mark.parametrize("word", ["seed", "--seed=1", "-x"])
def test_words_that_a_run_cannot_read(word):
    with pytest.raises(UserError, match=re.escape(f"cannot read '{word}'")):
        parse_run(["seed=1", word])
