"""A model card says what is recorded, says what is not, and holds no secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from learners import made_learner
from run_cli import TINY

import mmtx
from mmtx.commands.main import main
from mmtx.run.card.facts import Facts, facts_of
from mmtx.run.card.front_matter import front_matter, pipeline_of
from mmtx.run.card.write import MARK, card_text, write_card

SMALL = [*TINY, "data=digits", "modality=[image]", "objective=[classify]", "trainer.max_steps=2", "logger=[]"]
SMALL += ["callbacks=[]", "trainer.accelerator=cpu", "trainer.devices=1", "name=small"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mmtx", "train", "data=digits", "api_key=verysecret"])
        patch.setenv("MY_API_KEY", "verysecret")
        assert main(["train", *SMALL, f"run_dir={run}"]) == 0
    return run


def head_of(page: str) -> dict[str, Any]:
    return yaml.safe_load(page.split("---\n")[1])


def cells(page: str, first: str) -> list[str]:
    """The cells of the row of a table that begins so."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \| (.*) \|$", page, re.MULTILINE)
    return row.split(" | ")


def test_the_head_is_what_a_hub_reads(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    head = head_of(card_text(facts_of(run), "mmtx", "mit", "place"))
    assert head["license"] == "mit" and head["library_name"] == "mmtx"
    assert head["pipeline_tag"] == "image-classification" and head["tags"] == [
        "mmtx",
        "multimodal",
        "image",
        "classify",
    ]
    assert head["metrics"] == ["loss", "accuracy"]
    (index,) = head["model-index"]
    given = {each["name"]: each["value"] for result in index["results"] for each in result["metrics"]}
    assert given == {name: value for name, value in metrics.items() if name.startswith(("val/", "test/"))}


def test_set_data_figures_and_training_are_those_of_the_run(run: Path) -> None:
    """The digits are 1,797 pictures, of which 360 are the test and 144 validation; a picture is 4 x 4 patches of 2."""
    page, metrics = card_text(facts_of(run), "mmtx", None, "place"), json.loads((run / "metrics.json").read_text())
    assert cells(page, "image") == ["Image", "4 x 4", "16", "learned", "Learned", "backbone"]
    assert [cells(page, split)[0] for split in ("train", "val", "test")] == ["1,293", "144", "360"]
    assert cells(page, "test/accuracy") == [f"{metrics['test/accuracy']:.6g}", "360"]
    assert cells(page, "steps") == ["2, of 64 samples"] and cells(page, "seed") == ["0"]
    assert "Licence of the data: cc-by-4.0." in page and "torch" in cells(page, "versions")[0]


def test_a_secret_of_the_command_is_not_in_it(run: Path) -> None:
    page = card_text(facts_of(run), "mmtx", None, "place")
    assert "verysecret" not in page and "api_key=${oc.env:MY_API_KEY}" in page


def test_what_is_not_recorded_says_so(run: Path) -> None:
    """A learner alone knows its set, and nothing of a run."""
    page = card_text(Facts(facts_of(run).learner), "mmtx", None, "place")
    assert cells(page, "steps") == cells(page, "command") == cells(page, "hardware") == ["not recorded"]
    assert "Figures: not recorded." in page and "Samples: not recorded." in page and "none was given" in page
    assert {"license", "metrics", "model-index"}.isdisjoint(head_of(page))


def test_a_model_folder_brings_its_record(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "out"), "--format", "mmtx"]) == 0
    own, there = (card_text(facts_of(place), "mmtx", None, "place") for place in (run, tmp_path / "out"))
    assert own == there
    assert "directory" not in json.loads((tmp_path / "out" / "mmtx.json").read_text())["record"]["environment"]


def test_each_export_has_its_card(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for form, out, card in (("mmtx", "out", "out/README.md"), ("safetensors", "w.safetensors", "w.safetensors.md")):
        assert main(["export", str(run), out, "--format", form, "--license", "mit"]) == 0
        page = Path(card).read_text()
        assert head_of(page)["license"] == "mit" and repr(out) in page


def test_the_lines_of_the_weights_work(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "w.safetensors", "--format", "safetensors"]) == 0
    (lines,) = re.findall(r"```python\n(.*?)```", Path("w.safetensors.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert sum(weight.numel() for weight in names["weights"].values()) >= facts_of(run).learner.num_parameters


def test_a_page_of_somebody_else_stays(run: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("mine")
    write_card(run, tmp_path, "mmtx")
    assert card.read_text() == "mine"
    card.write_text(MARK)
    write_card(run, tmp_path, "mmtx")
    assert "# small" in card.read_text()


def test_weights_of_an_earlier_step_have_their_own_figures(run: Path) -> None:
    """The final metrics are of the last weights; those of a checkpoint before are its own."""
    final, best = facts_of(run), facts_of(run / "checkpoints" / "best.ckpt")
    assert "test/loss" in final.figures and "test/loss" not in best.figures
    assert best.seconds is None


def test_a_model_on_a_hub_is_named_as_the_base(run: Path) -> None:
    facts = facts_of(run)
    facts.learner.config = {**facts.config, "init_from": f"hub://lab/digits@{'a' * 40}"}
    assert front_matter(facts, "mmtx", None)["base_model"] == "lab/digits"


@pytest.mark.parametrize(
    ("kind", "task"),
    [("seq2seq, prefix", "automatic-speech-recognition"), ("next_token", None), ("ctc and seq2seq", None)],
)
def test_a_task_has_the_name_that_a_hub_has_for_it(kind: str, task: str | None) -> None:
    assert pipeline_of(made_learner(kind)) == task


@pytest.mark.parametrize(
    ("recipe", "task"), [("spell_digits", "image-to-text"), ("regress_diabetes", "tabular-regression")]
)
def test_so_has_the_task_of_a_recipe(recipe: str, task: str) -> None:
    assert pipeline_of(mmtx.build([f"experiment={recipe}"]).learner) == task
