"""HuBERT and wav2vec 2.0 on sound files: the texts that `transformers` reads, and what its files may look like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

from public import OVER_CHANNELS, hubert, saved, wav2vec2  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Field, fake_batch  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.data.text.pretrained_vocabulary import Pretrained  # noqa: E402
from mmtx.data.text.tokenizer_files import find_tokenizer  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402
from mmtx.objectives.ctc import collapse  # noqa: E402
from mmtx.run.import_export import shape_of, to_program  # noqa: E402
from mmtx.run.program_export import export_program  # noqa: E402

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVW'"]
TEXTS = ["A BIT", "HELLO", "AN OWL SAW", "OLD"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)


def recordings() -> list[Any]:
    """Noise of unequal lengths and loudness, as files with texts in ``table.csv``."""
    generator, sounds = numpy.random.default_rng(0), []
    for number, _ in enumerate(TEXTS):
        soundfile.write(f"{number}.wav", 0.1 * (number + 1) * generator.uniform(-1, 1, 700 + 331 * number), 16_000)
        sounds.append(soundfile.read(f"{number}.wav", dtype="float32")[0])
    Path("table.csv").write_text("path,text\n" + "".join(f"{i}.wav,{text}\n" for i, text in enumerate(TEXTS)))
    return sounds


def with_processor(theirs: Any, **extractor: Any) -> Any:
    """The processor of a model that is saved as ``public``; the model says more than its blank."""
    Path("letters.json").write_text(json.dumps({token: i for i, token in enumerate(LETTERS)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer("letters.json")
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, **extractor)
    processor = transformers.Wav2Vec2Processor(extractor, tokenizer)
    saved(theirs, Path("public"))
    processor.save_pretrained("public")
    return processor


def predicted() -> list[str]:
    """Texts of the run, in the order of the files."""
    words = ["split=train", "data.path=table.csv", "data.val_fraction=0", "data.test_fraction=0", "out=rows.jsonl"]
    assert main(["predict", "run", *words]) == 0
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {row["truth"] for row in rows} == {*TEXTS}
    by_truth = {row["truth"]: row["predicted"] for row in rows}
    return [by_truth[text] for text in TEXTS]


def transcribed(theirs: Any, processor: Any, sounds: list[Any]) -> list[str]:
    """By their processor, each sound alone."""
    texts = []
    for sound in sounds:
        values = processor(sound, sampling_rate=16_000, return_tensors="pt")
        texts += processor.batch_decode(theirs(values["input_values"]).logits.argmax(-1))
    return texts


@pytest.mark.parametrize(
    ("make", "changes", "extractor"),
    [(hubert, {}, {}), (wav2vec2, OVER_CHANNELS, {"do_normalize": False})],
    ids=["hubert", "wav2vec2"],
)
def test_files_are_transcribed_as_by_transformers(make: Any, changes: Any, extractor: Any) -> None:
    sounds, theirs = recordings(), make(vocab_size=len(LETTERS), **changes)
    processor = with_processor(theirs, **extractor)
    assert main(["import", "public", "run"]) == 0
    expected = transcribed(theirs, processor, sounds)
    assert len({*expected}) == len(expected), "there is something to read"
    assert predicted() == expected
    assert main(["export", "run", "again"]) == 0
    again = transformers.AutoProcessor.from_pretrained("again")
    assert again.feature_extractor.do_normalize == processor.feature_extractor.do_normalize
    assert transcribed(type(theirs).from_pretrained("again").eval(), again, sounds) == expected
    assert again.tokenizer("AN OWL").input_ids == processor.tokenizer("AN OWL").input_ids


@pytest.mark.parametrize("changes", [{}, OVER_CHANNELS], ids=["over time", "over channels"])
def test_padding_changes_nothing(changes: Any) -> None:
    """Where the first convolution is normalised over time it does in their library, given a batch: ours of a batch is
    theirs of each sound alone."""
    theirs = hubert(**changes)
    ours = mmtx.from_pretrained(saved(theirs, Path("public")))
    lengths = torch.tensor([400, 271, 64])
    values = torch.randn(3, 400)
    mask = torch.arange(400) < lengths[:, None]
    logits = mmtx.interop.forward(ours, input_values=values * mask, attention_mask=mask.long()).logits
    for row, sound, length in zip(logits, values, lengths.tolist(), strict=True):
        expected = theirs(sound[None, :length]).logits[0]
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=1e-5)


FINE_TUNE = [
    *("data=audio_manifest", "data.path=table.csv", "data.val_fraction=0", "data.test_fraction=0", "modality=[audio]"),
    *("objective=[ctc]", "init_from=public", "trainer.max_epochs=null", "trainer.max_steps=3", "log_every_steps=1"),
    *("run_dir=tuned", "logger=[]", "callbacks=[]"),
]


def test_fine_tuned_with_letters_of_its_own_and_back(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are masked on the way. The blank is one more row then, and what is exported says so."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    recordings()
    imported = mmtx.from_pretrained(saved(hubert(kind=transformers.HubertModel, mask_time_length=2), Path("public")))
    assert main(["train", *FINE_TUNE, *shape_of(imported)]) == 0
    assert "new: " in (printed := capsys.readouterr().out)
    assert "model.tokenizers" not in printed.partition("new: ")[2].partition("\n")[0]
    rows = [json.loads(line) for line in Path("tuned/metrics.jsonl").read_text().splitlines()]
    assert all(row["train/loss"] > 0 for row in rows if "train/loss" in row)
    tuned = mmtx.load("tuned")
    learnt = tuned.model.tokenizer("audio").stem.masks.vector
    assert not torch.equal(learnt, imported.model.tokenizer("audio").stem.masks.vector)
    assert main(["export", "tuned", "again"]) == 0
    theirs = transformers.AutoModelForCTC.from_pretrained("again").eval()
    letters = tuned.specs["text"].vocabulary
    assert (theirs.config.vocab_size, theirs.config.pad_token_id) == (letters.size + 1, letters.size)
    values = torch.randn(2, 400)
    actual = mmtx.interop.forward(tuned, input_values=values).logits
    torch.testing.assert_close(actual, theirs(values).logits, atol=1e-5, rtol=1e-5)


def test_both_spellings_of_weight_norm() -> None:
    """Files of versions before 4.32 have ``weight_g`` and ``weight_v``."""
    expected = mmtx.from_pretrained(saved(wav2vec2(), Path("public"))).state_dict()
    weights = load_file("public/model.safetensors")
    conv = "wav2vec2.encoder.pos_conv_embed.conv"
    for old, number in (("weight_g", 0), ("weight_v", 1)):
        weights[f"{conv}.{old}"] = weights.pop(f"{conv}.parametrizations.weight.original{number}")
    save_file(weights, "public/model.safetensors")
    read = mmtx.from_pretrained("public").state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(value, read[key]) for key, value in expected.items())


@pytest.mark.slow
def test_programs_of_sounds_of_any_length(capsys: Any, unchecked: None) -> None:
    """Of an imported model, from samples that are prepared; of a run, from sounds with their lengths."""
    runtime = pytest.importorskip("onnxruntime")
    imported = mmtx.from_pretrained(saved(hubert(), Path("public")))
    to_program(imported, "model.onnx", "onnx")
    values = torch.randn(3, 517)
    found = runtime.InferenceSession("model.onnx").run(None, {"input_values": values.numpy()})[0]
    expected = mmtx.interop.forward(imported, input_values=values).logits
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    sound = replace(imported.specs["audio"], fields={"waveform": Field((None,), torch.float32, max_length=900)})
    run = rebuild(imported.config, {**imported.specs, "audio": sound})
    run.load_state_dict(imported.state_dict())
    export_program(run, Path("run.onnx"), "onnx", [fake_batch({"audio": sound}, 4)])


def test_the_quantizer_of_pre_training_is_left_out_with_a_line(capsys: Any) -> None:
    theirs = wav2vec2(kind=transformers.Wav2Vec2ForPreTraining, codevector_dim=8, proj_codevector_dim=8)
    assert main(["import", str(saved(theirs, Path("public"))), "run"]) == 0
    assert "left out: project_hid, project_q, quantizer, which mmtx does not have" in capsys.readouterr().out
    values = torch.randn(2, 400)
    hidden = mmtx.interop.forward(mmtx.load("run"), input_values=values).last_hidden_state
    torch.testing.assert_close(hidden, theirs.wav2vec2(values).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("letters", "roles"),
    [
        (LETTERS, {}),
        (["a", "b", " ", "c", "[PAD]", "[UNK]", "-"], {"pad_token": "[PAD]", "unk_token": "[UNK]"}),
        (["_", "a", "b", "<pad>", "<unk>"], {"word_delimiter_token": "_"}),
    ],
)
def test_letters_are_those_of_transformers(letters: list[str], roles: dict[str, str]) -> None:
    """Ids of texts, and texts of ids with neighbours that are equal and spaces anywhere. Tokens that it adds behind the
    vocabulary are tokens, too."""
    Path("letters.json").write_text(json.dumps({token: i for i, token in enumerate(letters)}))
    theirs = transformers.Wav2Vec2CTCTokenizer("letters.json", **roles)
    theirs.save_pretrained("tokenizer")
    pad, size = theirs.pad_token, len(theirs)
    ours = Pretrained(path="tokenizer", begin=pad, end=pad, prefix=[], size=None)
    assert ours.size == size
    for text in ("", "a b", "AB ba  c", " ab", "x\ny"):
        assert ours.encode(text) == theirs(text).input_ids
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        path = torch.randint(0, size, (12,), generator=generator).tolist()
        assert ours.decode(collapse(path, theirs.pad_token_id)) == theirs.decode(path)


@pytest.mark.parametrize(
    ("vocabulary", "config", "message"),
    [
        ({"<pad>": 0, "sh": 1}, {}, "the token 'sh' has several characters; a vocab.json without merges.txt has"),
        ({"<pad>": 0, "A": 1}, {"do_lower_case": True}, "do_lower_case=True writes lower case for upper"),
        ({"eng": {"<pad>": 0}}, {"target_lang": "eng"}, "target_lang=eng .vocabularies of several languages"),
        ({"<pad>": 0}, {"replace_word_delimiter_char": "_"}, "replace_word_delimiter_char=_"),
        ({"<pad>": 0}, {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}, "reads vocab.json otherwise"),
    ],
)
def test_letters_that_cannot_be_followed(vocabulary: Any, config: dict[str, Any], message: str) -> None:
    Path("vocab.json").write_text(json.dumps(vocabulary))
    Path("tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(mmtx.errors.UserError, match=message):
        find_tokenizer(".")


def test_a_head_is_declared_or_there() -> None:
    theirs = hubert(kind=transformers.HubertModel)
    config = json.loads((saved(theirs, Path("public")) / "config.json").read_text())
    Path("public/config.json").write_text(json.dumps({**config, "architectures": ["HubertForCTC"]}))
    with pytest.raises(mmtx.errors.UserError, match="this HubertForCTC lacks its head: lm_head.weight is missing"):
        mmtx.from_pretrained("public")


def test_padding_stands_at_the_end() -> None:
    ours = mmtx.from_pretrained(saved(hubert(), Path("public")))
    with pytest.raises(mmtx.errors.UserError, match="attention_mask: sounds must be padded at their end"):
        mmtx.interop.forward(ours, input_values=torch.randn(1, 9), attention_mask=torch.tensor([[0] + [1] * 8]))
