"""``mmtx export --format onnx|torch_export`` of runs: programs by the names of their fields, equal to the run."""

import csv
import json
import re
from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch
from test_every_yaml import OPTIONS, small_data_of

import mmtx
from mmtx.batch import fake_batch
from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.data.collate import collate
from mmtx.errors import UserError
from mmtx.experiment import assemble
from mmtx.interop.interface import inputs_of
from mmtx.interop.program_formats import TorchExport
from mmtx.objectives.base import Objective
from mmtx.objectives.ctc import collapse
from mmtx.run.import_export import to_program
from mmtx.run.program_export import export_program

runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("unchecked")  # sizes are symbols while a program is recorded, and no integers

REFUSED = {"parity": "LSTM", "translate_recurrent": "GRU"}
FIXED = {
    # a flow needs noise and a time
    **dict.fromkeys(("draw_digits_flow", "say_digits", "act_by_flow"), "gives nothing to export"),
    **dict.fromkeys(("mae_digits", "fold_small", "next_digits"), "gives nothing to export"),
    "recall_memory": "number of segments",
}
NOT_ONNX = ("sequential_digits", "sequential_mnist")
"""Their state space has complex poles, which ONNX has no numbers for."""
SMALL = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "backbone.compile=false"]


def experiment_of(recipe, folder, patch, shape=SMALL):
    """A recipe on tiny data, whose weights are random, biases and scales too."""
    words = [word for word in small_data_of(recipe, folder, patch) if not word.startswith("init_from=")]
    words += ["init_from=null"] if recipe.startswith("finetune") else []
    experiment = assemble(compose([f"experiment={recipe}", *words, *shape, "loader.num_workers=0"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in experiment.learner.eval().parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return experiment


def batches_of(experiment):
    """A batch of each part of the data, as an evaluation has it."""
    data = experiment.data
    split = next(split for split in ("val", "test", "train") if data.splits(split))
    return [
        next(iter(data.eval_loader(part, samples)))[0].select(slice(0, 5))
        for part, samples in data.splits(split).items()
    ]


def named(file, inputs):
    """``run(inputs)`` of an ONNX file, by names."""
    session = runtime.InferenceSession(file)
    names = [each.name for each in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OPTIONS["experiment"])
def test_every_recipe(recipe, tmp_path, monkeypatch):
    """In both formats, on its own data and at sizes that it was not recorded at; torch's own recurrences in none."""
    experiment = experiment_of(recipe, tmp_path, monkeypatch)
    if recipe in NOT_ONNX:
        check_programs(experiment, tmp_path, "torch_export")
        with pytest.raises(UserError, match="ONNX"):
            export_program(experiment.learner, tmp_path / "onnx", "onnx", batches_of(experiment))
        return
    if recipe in FIXED:
        with pytest.raises(UserError, match=FIXED[recipe]):
            export_program(experiment.learner, tmp_path / "program", "torch_export", batches_of(experiment))
        return
    if recipe not in REFUSED:
        check_programs(experiment, tmp_path, "onnx", "torch_export")
        return
    with pytest.raises(UserError, match=f"{REFUSED[recipe]} .*; min_lstm, min_gru, s4d, mamba2 and short_conv can"):
        export_program(experiment.learner, tmp_path / "onnx", "onnx", batches_of(experiment))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in OPTIONS["experiment"] if recipe.endswith("_gpu")])
def test_recipes_for_a_gpu_at_their_own_shape(recipe, tmp_path, monkeypatch):
    """As wide and deep as they are trained."""
    check_programs(
        experiment_of(recipe, tmp_path, monkeypatch, shape=["backbone.compile=false"]), tmp_path, "onnx", "torch_export"
    )


def check_programs(experiment, folder, *kinds):
    """Programs of these formats are written, and need no mmtx."""
    for kind in kinds:
        file = folder / kind
        assert "samples of its data" in export_program(experiment.learner, file, kind, batches_of(experiment))
        assert json.loads(file.with_name(f"{kind}.json").read_text())["inputs"]
    assert "mmtx." not in torch.export.load(folder / "torch_export").graph_module.code


def test_a_run_of_numbers(tmp_path, monkeypatch, capsys):
    """From the command line: the values are those of `mmtx predict`, in the units of the data."""
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, "trainer.max_epochs=null", "trainer.max_steps=2", "logger=[]", "callbacks=[]", "run_dir=run"]
    assert main(["train", "experiment=regress_diabetes", *words]) == 0
    assert main(["predict", "run", "split=val", "out=rows.csv"]) == 0
    capsys.readouterr()
    assert main(["export", "run", "model.onnx", "--format", "onnx"]) == 0
    printed = capsys.readouterr().out
    assert (
        "greatest difference from the run, on 8 samples of its data: " in printed and "written: model.onnx" in printed
    )
    with open("rows.csv") as file:
        expected = [float(row["predicted"]) for row in csv.DictReader(file)]
    data = mmtx.build(["experiment=regress_diabetes"]).data
    (samples,) = data.splits("val").values()
    batch = collate(list(samples), {"measurements": data.source.specs["measurements"]})
    found = named("model.onnx", inputs_of(mmtx.load("run"), batch))["values"]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=1e-5)
    described = json.loads((tmp_path / "model.onnx.json").read_text())
    assert [(port["name"], port["dtype"], port["shape"][0]) for port in described["inputs"]] == [
        ("measurements.values", "float32", "batch"),
        ("measurements.length", "int64", "batch"),
    ]
    assert described["outputs"] == [{"name": "values", "dtype": "float32", "shape": ["batch"]}]
    onnx = pytest.importorskip("onnx")
    assert {p.key: p.value for p in onnx.load("model.onnx").metadata_props}["mmtx"] == json.dumps(described)
    page = (tmp_path / "model.onnx.md").read_text()
    assert "library_name: onnx\n" in page and "## Licence of the weights" in page
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(lines, {})
    assert capsys.readouterr().out == "['measurements.values', 'measurements.length']\n"


def program_of(learner, batch, folder, kind):
    """A program that was written, as ``program(inputs)``, by names."""
    file = folder / f"model.{kind}"
    export_program(learner, file, kind, [batch])
    if kind == "onnx":
        return partial(named, file)
    described = json.loads(file.with_name(f"{file.name}.json").read_text())
    module, names = torch.export.load(file).module(), [port["name"] for port in described["outputs"]]
    return lambda inputs: dict(zip(names, module(*inputs.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch_export", "onnx"])
def test_texts_of_sound(kind, tmp_path, monkeypatch):
    """Greedy decoding of what the program gives of waveforms writes what the run does; also of less than a frame."""
    experiment = experiment_of("ctc_digits", tmp_path, monkeypatch)
    learner, (batch,) = experiment.learner, batches_of(experiment)
    program = program_of(learner, batch, tmp_path, kind)
    found = program(inputs_of(learner, batch))
    objective, rows = learner.objective("ctc"), zip(found["log_probabilities"], found["length"].tolist(), strict=True)
    ids = [collapse(row[:length].argmax(-1).tolist(), objective.blank) for row, length in rows]
    assert [objective.vocabulary.decode(row) for row in ids] == objective.write(learner.model, batch)
    assert any(ids)
    for samples in (1, learner.model.tokenizer("audio").spectrogram.hop_length - 1):
        waveform, lengths = batch["audio"]["waveform"][:, :samples], batch.lengths["audio"].clamp(max=samples)
        short = replace(batch.with_values("audio", waveform=waveform), lengths={**batch.lengths, "audio": lengths})
        with torch.no_grad():
            expected = objective.outputs(learner.model, short)["log_probabilities"]
        given = program(inputs_of(learner, short))["log_probabilities"]
        torch.testing.assert_close(given[:, :1], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_texts_from_an_encoder(tmp_path, monkeypatch):
    """A text that is written by the program, id by id, is the one that the run writes."""
    experiment = experiment_of("g2p", tmp_path, monkeypatch)
    learner, (batch,) = experiment.learner, batches_of(experiment)
    export_program(learner, tmp_path / "model.onnx", "onnx", [batch])
    objective, inputs = learner.objective("seq2seq"), inputs_of(learner, batch)
    ids = torch.full((len(batch), 1), objective.begin)
    for _ in range(8):
        given = {**inputs, "target.ids": ids, "target.length": torch.full((len(batch),), ids.shape[1])}
        ids = torch.cat([ids, named(tmp_path / "model.onnx", given)["logits"][:, -1:].argmax(-1)], dim=1)
    rows = [row[1 : row.index(objective.end)] if objective.end in row else row[1:] for row in ids.tolist()]
    written = objective.write(learner.model, batch, max_new_tokens=8)
    assert [objective.vocabulary.decode(row) for row in rows] == written


@pytest.mark.slow
def test_actions_by_names_that_python_reserves(tmp_path, monkeypatch):
    """``return`` is in the set; actions and returns may have unequal lengths."""
    experiment = experiment_of("dt_key_to_door", tmp_path, monkeypatch)
    learner, (batch,) = experiment.learner, batches_of(experiment)
    found = program_of(learner, batch, tmp_path, "torch_export")(inputs_of(learner, batch))
    described = json.loads((tmp_path / "model.torch_export.json").read_text())
    assert [port["name"] for port in described["inputs"]] == list(inputs_of(learner, batch))
    expected = learner.objective("action").predictions(learner.model, batch)["probabilities"]
    for actual, steps in zip(found["probabilities"], expected, strict=True):
        torch.testing.assert_close(actual[: len(steps)].double(), torch.tensor(steps).double(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_name_may_be_absent(tmp_path, monkeypatch):
    """Whatever stands in the fields of a name whose length is 0 is not read."""
    experiment = experiment_of("spell_digits", tmp_path, monkeypatch)
    learner, (batch,) = experiment.learner, batches_of(experiment)
    export_program(learner, tmp_path / "model.pt2", "torch_export", [batch])
    program = torch.export.load(tmp_path / "model.pt2").module()
    inputs, absent = inputs_of(learner, batch), torch.zeros(len(batch), dtype=torch.long)
    (found,) = program(*{**inputs, "image.length": absent}.values())
    with torch.no_grad():
        without = batch.without({"image": absent == 0})
        expected = learner.objective("next_token").outputs(learner.model, without)["logits"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - program(*inputs.values())[0]).abs().max() > 1e-3


def test_a_program_that_computes_something_else_is_not_left(tmp_path, monkeypatch):
    """Numbers that the host draws are recorded as constants."""
    learner = experiment_of("regress_diabetes", tmp_path, monkeypatch).learner
    real = type(learner.objective("regression")).outputs
    draw = numpy.random.default_rng(0).random

    def outputs(self, model, batch):
        return {"values": real(self, model, batch)["values"] + draw()}

    monkeypatch.setattr(type(learner.objective("regression")), "outputs", outputs)
    with pytest.raises(UserError, match="something else: 'values' differs by .* nothing is written"):
        to_program(learner, tmp_path / "model.pt2", "torch_export")
    assert not list(tmp_path.glob("model*"))


def test_a_program_that_does_not_run_is_not_left(tmp_path, monkeypatch):
    """As one that was recorded for other sizes: torch refuses its inputs."""
    learner = experiment_of("regress_diabetes", tmp_path, monkeypatch).learner

    def refuse(inputs):
        raise AssertionError("Guard failed: size != 1\nwhere")

    monkeypatch.setattr(TorchExport, "open", lambda self, file: refuse)
    sizes = r"measurements.values \(2, 7, 20\), measurements.length \(2,\)"
    with pytest.raises(UserError, match=f"does not run, as the run does, on {sizes}: Guard failed: size != 1; nothing"):
        to_program(learner, tmp_path / "model.pt2", "torch_export")
    assert torch.is_grad_enabled()
    assert not list(tmp_path.glob("model*"))


class WithoutOutputs(Objective):
    """All that an objective needs, and nothing that it may offer."""

    count = forward = metrics = examples = None


def test_what_cannot_be_recorded_is_refused(tmp_path, monkeypatch):
    """A choice by a value, which only the host could make; and an objective that gives nothing."""
    learner = experiment_of("regress_diabetes", tmp_path, monkeypatch).learner
    kind = type(learner.objective("regression"))
    real = kind.outputs

    def chosen(self, model, batch):
        return real(self, model, batch) if batch["measurements"]["values"].sum() > 0 else {}

    monkeypatch.setattr(kind, "outputs", chosen)
    with pytest.raises(UserError, match="^this model cannot be recorded as a program: "):
        to_program(learner, tmp_path / "model.pt2", "torch_export")
    learner.objectives["regression"] = WithoutOutputs(weight=1.0)
    with pytest.raises(UserError, match=r"^WithoutOutputs gives nothing to export: .* outputs\(model, batch\)"):
        to_program(learner, tmp_path / "model.pt2", "torch_export")
    assert not list(tmp_path.glob("model*"))


def test_programs_are_in_float32(tmp_path, monkeypatch):
    learner = experiment_of("regress_diabetes", tmp_path, monkeypatch).learner.bfloat16()
    to_program(learner, tmp_path / "model.pt2", "torch_export")
    program = torch.export.load(tmp_path / "model.pt2")
    assert {p.dtype for p in program.module().parameters()} == {torch.float32}
    batch = fake_batch({"measurements": learner.specs["measurements"]}, 1)
    assert program.module()(*inputs_of(learner, batch).values())[0].dtype == torch.float32
