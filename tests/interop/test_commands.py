"""``mmtx import`` and ``mmtx export``, and what other commands make of an imported run."""

from __future__ import annotations

import json
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file

transformers = pytest.importorskip("transformers")

from public import CASES, bert, gpt2, hubert, padded, saved, whisper  # noqa: E402
from run_cli import mmtx as run_mmtx  # noqa: E402
from run_cli import text_of  # noqa: E402
from small_data import small_tokenizer, write_sound  # noqa: E402

import mmtx  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.config.compose import compose  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.exporting import family_of  # noqa: E402
from mmtx.run.import_export import shape_of, to_program  # noqa: E402


def test_import_generate_export(tmp_path: Path) -> None:
    """The real command line: a public model becomes a run that writes text, and a public model again."""
    folder = small_tokenizer(saved(gpt2(vocab_size=263, n_positions=64), tmp_path / "public"))
    done = run_mmtx("import", str(folder), "run", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    assert "to train on: init_from=" in done.stdout
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    options = ["prompt=to be", "max_new_tokens=12", "temperature=0"]
    written = run_mmtx("generate", "run", *options, cwd=tmp_path)
    assert written.returncode == 0, text_of(written)
    assert written.stdout.startswith("to be")
    done = run_mmtx("export", "run", "again", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("public", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_imported_run_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folder = small_tokenizer(saved(gpt2(vocab_size=263, n_positions=64), tmp_path / "public"))
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question.\n" * 30)
    assert main(["import", str(folder), "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "split=val", "data.path=text.txt", "data.context=20"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["val/loss"] > 0
    assert main(["import", str(folder), "run"]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_training_begins_with_a_public_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The recipe from a small BERT, low-rank updates alone; the report says what is new; the run loads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    public = saved(bert(kind=transformers.BertModel, vocab_size=263), tmp_path / "public")
    folder = small_tokenizer(public)
    rows = [f"{('good', 'bad')[i % 2]}\tnumber {i} is {('fine', 'poor')[i % 2]}" for i in range(40)]
    (tmp_path / "texts.tsv").write_text("\n".join(["label\ttext", *rows]))
    words = ["experiment=finetune_text_classification", "data.path=texts.tsv", f"init_from={folder}", "lora=attention"]
    words += ["backbone.dim=24", "backbone.num_layers=2", "backbone.num_heads=2", "backbone.mlp.expansion=1.5"]
    words += ["backbone.mlp.multiple_of=1", "data.max_length=16", "trainer.max_epochs=null", "trainer.max_steps=2"]
    words += ["run_dir=run", "logger=[]", "callbacks=[]", "lora.rank=2"]
    assert main(["check", *words]) == 0
    assert main(["train", *words]) == 0
    printed = capsys.readouterr().out
    assert printed.count("weights matched") == 2
    assert "new: " in printed
    assert "objectives.classify.head.weight" in printed
    learner, imported = mmtx.load("run"), mmtx.from_pretrained(folder)
    learnt = learner.model.backbone.blocks[0].attention.qkv.parametrizations.weight
    assert torch.equal(learnt.original, imported.model.backbone.blocks[0].attention.qkv.weight)
    assert main(["export", "run", "classifier"]) == 0
    theirs = transformers.BertForSequenceClassification.from_pretrained("classifier").eval()
    ids, mask = padded([9, 4])
    expected = theirs(ids, attention_mask=mask).logits
    actual = mmtx.interop.forward(learner, input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


SHAPES = [
    "gpt2-odd-heads",
    "bert-masked",
    "t5-1.1",
    "vit-odd-heads",
    "whisper-128",
    "qwen2",
    "qwen3-moe-mixed",
    "dinov2",
    "clip",
    "gemma2",
    "gemma3-scaled",
    "hubert-over-channels",
]


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_that_import_prints_is_the_whole_shape(name: str, tmp_path: Path) -> None:
    make, changes, _ = CASES[name]
    learner = mmtx.from_pretrained(saved(make(**changes), tmp_path))
    names = f"modality=[{','.join(learner.model.names)}]"
    data = {"source": "parallel_text", "image": "image_folder"}.get(learner.model.names[0], "av_digits")
    objective = f"objective=[{','.join(learner.objectives)}]"
    config = compose([names, f"data={data}", objective, *shape_of(learner)])
    assert config["backbone"] == learner.config["backbone"]
    assert (config["encode"], config["towers"]) == (learner.config["encode"], learner.config["towers"])
    assert config["data"].get("fit") == learner.config["data"].get("fit")
    for name, node in learner.config["objective"].items():
        assert config["objective"][name].get("softcap") == node.get("softcap")
    if "text" in config["modality"]:
        scales = [each["modality"]["text"]["embedding_scale"] for each in (config, learner.config)]
        assert scales[0] == scales[1]
    if "image" in config["modality"]:
        assert {**config["modality"]["image"], "summary": True} == learner.config["modality"]["image"]
    if make is hubert:
        assert config["modality"] == learner.config["modality"]
        assert config["type_embeddings"] is learner.config["type_embeddings"] is False
    assert not learner.config["encode"] or config["encoder"] == learner.config["encoder"]


def test_sound_in_text_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(saved(whisper(), tmp_path / "public")), "run"]) == 0
    write_sound(tmp_path / "a.wav", 0.5)
    assert main(["generate", "run", "audio=a.wav", "max_new_tokens=4"]) == 0
    assert "[00:00.000 --> 00:00.500]" in capsys.readouterr().out


@pytest.fixture
def symbolic(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program is written, sizes are symbols, which are no integers for those who check types."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("bert-classes", "t5-1.1", "vit-classes", "clip", "whisper-80")
]


@pytest.mark.parametrize("name", ["gpt2", *SLOW])
def test_programs(name: str, tmp_path: Path, symbolic: None) -> None:
    """A program gives what the model gives, for another number of samples too, and for texts of another length."""
    make, changes, _ = CASES[name]
    ours = mmtx.from_pretrained(saved(make(**changes), tmp_path / "public"))
    to_program(ours, tmp_path / "model.pt2", "torch_export")
    family, config = family_of(ours)
    inputs = {key: value[:1].repeat(3, *[1] * (value.ndim - 1)) for key, value in family.example(config).items()}
    inputs = {key: value if value.is_floating_point() else value[:, :5] for key, value in inputs.items()}
    program = torch.export.load(tmp_path / "model.pt2").module()
    for actual, expected in zip(program(*inputs.values()), mmtx.interop.forward(ours, **inputs).values(), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "vit-classes"])
def test_onnx(name: str, tmp_path: Path, symbolic: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Another run time computes the same from the file alone, for inputs of another shape too."""
    runtime = pytest.importorskip("onnxruntime")
    make, changes, inputs_for = CASES[name]
    theirs = make(**changes)
    to_program(mmtx.from_pretrained(saved(theirs, tmp_path / "public")), tmp_path / "model.onnx", "onnx")
    assert "torch.onnx" not in capfd.readouterr().out
    learner = mmtx.from_pretrained(tmp_path / "public")
    family, config = family_of(learner)
    own = inputs_for(theirs)[0]
    inputs = {key: own[key] for key in family.example(config)}
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits"]
    (actual,) = session.run(names, {key: value.numpy() for key, value in inputs.items()})
    expected = mmtx.interop.forward(learner, **inputs).logits
    torch.testing.assert_close(torch.from_numpy(actual), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(theirs(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def test_onnx_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtx.interop.program_formats.find_spec", lambda package: None)
    ours = mmtx.from_pretrained(saved(gpt2(), tmp_path / "public"))
    with pytest.raises(UserError, match=r"needs onnx and onnxscript and onnxruntime: pip install 'mmtx\[onnx\]'"):
        to_program(ours, tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_a_program_of_unequal_axes_is_refused(tmp_path: Path, symbolic: None) -> None:
    """Times of any number, of as many states as the example has."""
    ours = mmtx.from_pretrained(saved(CASES["decision-transformer"][0](), tmp_path / "public"))
    with pytest.raises(UserError, match="^this model cannot be recorded as a program: Constraints violated"):
        to_program(ours, tmp_path / "model.pt2", "onnx")


def test_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(saved(gpt2(), tmp_path / "public")), "run"]) == 0
    assert main(["export", "run", "ours.safetensors", "--format", "safetensors"]) == 0
    weights, learner = load_file("ours.safetensors"), mmtx.load("run")
    assert all(torch.equal(weights[key], value) for key, value in learner.state_dict().items())
    for words in (["export", "run", "x", "--format", "gguf"], ["export", "run"], ["import", "public"]):
        assert main(words) == 2
