"""Public models on one's own data: ``mmtx evaluate`` of an imported run gives the losses that `transformers` gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

transformers = pytest.importorskip("transformers")

from public import bert, clip, decision_transformer, saved, siglip, siglip2, t5, vit  # noqa: E402
from small_data import MARKS, small_tokenizer  # noqa: E402

import mmtx  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.run.import_export import shape_of  # noqa: E402

NAMES = {0: "zebra", 1: "ant", 2: "bee"}
BY_NAME = {"num_labels": 3, "id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
WHOLE = ["split=train", "data.val_fraction=0"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluated(capsys: Any, *words: str) -> tuple[dict[str, float], str]:
    """The metrics of a model that was saved as ``public``, which is gone by then; and what was printed."""
    assert main(["import", "public", "run"]) == 0
    shutil.rmtree("public")
    capsys.readouterr()
    assert main(["evaluate", "run", *WHOLE, *words]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_classes_of_pictures_go_by_name_and_nothing_is_augmented(capsys: Any) -> None:
    theirs, losses = vit(**BY_NAME), []
    saved(theirs, Path("public"))
    generator = numpy.random.default_rng(0)
    for name in sorted(NAMES.values()):
        Path("pictures", name).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (8, 8, 3)).astype(numpy.uint8)
            Image.fromarray(pixels).save(f"pictures/{name}/{number}.png")
            prepared = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
            target = torch.tensor([theirs.config.label2id[name]])
            losses.append(F.cross_entropy(theirs(prepared).logits, target).item())
    metrics, _ = evaluated(capsys, "data.path=pictures", "data.test_fraction=0")
    assert metrics["train/loss"] == pytest.approx(numpy.mean(losses), rel=1e-4)


def test_pictures_and_captions_find_each_other(capsys: Any) -> None:
    """Loss and recall of a table of pictures with captions."""
    end = 256 + MARKS.index("[SEP]")
    theirs, generator = clip(text={"vocab_size": 263, "eos_token_id": end}), numpy.random.default_rng(0)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_tokenizer(saved(theirs, Path("public"))) / "tokenizer.json")
    )
    captions = ["a cat", "two dogs", "an owl", "bees"]
    pixels = generator.integers(0, 256, (len(captions), 8, 8, 3)).astype(numpy.uint8)
    rows = [f"{number}.png,{caption}\n" for number, caption in enumerate(captions)]
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"{number}.png")
    Path("table.csv").write_text("image,text\n" + "".join(rows))
    processed = transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=8)
    pictures = processed([*pixels], return_tensors="pt")["pixel_values"]
    ids = torch.full((len(captions), 10), end)
    for row, caption in zip(ids, captions, strict=True):
        own = tokenizer(caption, add_special_tokens=False).input_ids
        row[: len(own)] = torch.tensor(own)
    outputs = theirs(input_ids=ids, pixel_values=pictures, return_loss=True)
    metrics, _ = evaluated(capsys, "data.path=table.csv", "data.test_fraction=0")
    assert metrics["train/loss"] == pytest.approx(outputs.loss.item(), rel=1e-4)
    found = outputs.logits_per_image.argmax(1) == torch.arange(len(captions))
    assert metrics["train/image_to_text/recall@1"] == pytest.approx(found.double().mean().item())
    assert metrics["train/recall@5"] == 1


CAPTIONS = ["a cat", "two dogs", "an owl", "bees"]


def ragged_pictures() -> float:
    """A SigLIP 2 NaFlex as ``public``, ``table.jsonl`` of pictures of any shape with captions, and their loss there."""
    theirs, sizes = siglip2(text={"vocab_size": 263, "pad_token_id": 0}), [(23, 31), (60, 7), (9, 9), (12, 40)]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_tokenizer(saved(theirs, Path("public"))) / "tokenizer.json")
    )
    processor = transformers.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=20)
    processor.save_pretrained("public")
    Path("public/tokenizer_config.json").write_text(json.dumps({"eos_token": "[SEP]"}))
    generator = numpy.random.default_rng(0)
    shown = [Image.fromarray(generator.integers(0, 256, (*size, 3)).astype(numpy.uint8)) for size in sizes]
    for number, picture in enumerate(shown):
        picture.save(f"{number}.png")
    rows = [json.dumps({"image": f"{number}.png", "text": text}) for number, text in enumerate(CAPTIONS)]
    Path("table.jsonl").write_text("\n".join(rows))
    ids = torch.zeros(len(CAPTIONS), 11, dtype=torch.long)
    for row, caption in zip(ids, CAPTIONS, strict=True):
        own = tokenizer(f"{caption}[SEP]", add_special_tokens=False).input_ids
        row[: len(own)] = torch.tensor(own)
    loss: float = theirs(input_ids=ids, **processor(shown, return_tensors="pt"), return_loss=True).loss.item()
    return loss


def test_pictures_keep_their_shape(capsys: Any) -> None:
    expected = ragged_pictures()
    metrics, _ = evaluated(capsys, "data.path=table.jsonl", "data.test_fraction=0")
    assert metrics["train/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_pictures_that_keep_their_shape_are_learnt(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the loss of the model on; and each row is predicted."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    expected = ragged_pictures()
    assert main(["import", "public", "run"]) == 0
    imported = mmtx.load("run")
    pool = imported.config["objective"]["contrastive"]["first_pool"]
    words = [*shape_of(imported), "data.path=table.jsonl", "data.test_fraction=0", "data.val_fraction=0"]
    words += ["data=manifest", "modality=[native_image,text]", "init_from=run", "data/vocabulary=pretrained"]
    words += ["objective=[contrastive]", "objective.contrastive.second=text", "objective.contrastive.size=30"]
    words += [f"objective/pool@objective.contrastive.{each}" for each in ("first_pool=probe", "second_pool=last")]
    words += [f"objective.contrastive.first_pool.{key}={pool[key]}" for key in ("dim", "num_heads", "expansion", "eps")]
    words += ["objective/pair_loss@objective.contrastive.loss=sigmoid", "objective.contrastive.projected=[text]"]
    words += ["objective.contrastive.projection_bias=true", "log_every_steps=1", "trainer.max_steps=4"]
    words += ["loader.batch_size=4", "logger=[]", "callbacks=[]", "optim.warmup_steps=0"]
    words += [f"modality.text.{key}" for key in ("causal=false", "fill=0", "context=11")]
    assert main(["train", *words, "run_dir=tuned"]) == 0
    losses = [json.loads(row).get("train/loss") for row in Path("tuned/metrics.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(expected, rel=1e-4) and losses[3] < losses[0]
    assert main(["predict", "tuned", "out=predicted.jsonl", "split=train"]) == 0
    assert len(Path("predicted.jsonl").read_text().splitlines()) == len(CAPTIONS)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_classes_are_described(family: str, capsys: Any) -> None:
    """Pictures of a table with classes, by two templates: vectors are averaged, and made of length 1 again, by hand."""
    end, prompts = 256 + MARKS.index("[SEP]"), ["a photo of a {}", "{}!"]
    text = {"vocab_size": 263, **({"eos_token_id": end} if family == "clip" else {"max_position_embeddings": 24})}
    theirs = clip(text={**text, "max_position_embeddings": 24}) if family == "clip" else siglip(text=text)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_tokenizer(saved(theirs, Path("public"))) / "tokenizer.json")
    )
    classes, truth = sorted(NAMES.values()), torch.arange(12) % 3
    pixels = numpy.random.default_rng(0).integers(0, 256, (len(truth), 8, 8, 3)).astype(numpy.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"{number}.png")
    rows = "".join(f"{number}.png,{classes[code]}\n" for number, code in enumerate(truth))
    Path("table.csv").write_text(f"image,label\n{rows}")
    vectors = []
    for name in classes:
        ids = torch.full((len(prompts), 24), end if family == "clip" else theirs.config.text_config.pad_token_id)
        for row, prompt in zip(ids, prompts, strict=True):
            own = [*tokenizer(prompt.format(name), add_special_tokens=False).input_ids]
            row[: len(own)] = torch.tensor(own)
        vectors.append(F.normalize(theirs.get_text_features(input_ids=ids).pooler_output, dim=1).mean(0))
    processor = {"clip": transformers.CLIPImageProcessor, "siglip": transformers.SiglipImageProcessor}[family]
    sized = {"size": {"shortest_edge": 8}, "crop_size": 8} if family == "clip" else {"size": {"height": 8, "width": 8}}
    pictures = processor(**sized)([*pixels], return_tensors="pt")["pixel_values"]
    shown = F.normalize(theirs.get_image_features(pixel_values=pictures).pooler_output, dim=1)
    logits = shown @ F.normalize(torch.stack(vectors), dim=1).T
    wanted = (logits.argmax(1) == truth).double().mean().item()
    loss = F.cross_entropy(logits * theirs.logit_scale.exp(), truth).item()
    data = ["data.path=table.csv", "data.test_fraction=0", "data.columns={label: label}", "data.kinds={label: label}"]
    metrics, _ = evaluated(capsys, *data, f"prompts={prompts}")
    found = {name.rpartition("/")[2]: value for name, value in metrics.items()}
    assert found["accuracy"] == pytest.approx(wanted)
    assert found["loss"] == pytest.approx(loss, rel=1e-4)


def test_classes_of_texts_go_by_name(capsys: Any) -> None:
    kind = transformers.BertForSequenceClassification
    theirs, losses = bert(kind=kind, vocab_size=263, **BY_NAME), []
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_tokenizer(saved(theirs, Path("public"))) / "tokenizer.json")
    )
    begin, end = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    rows = [("ant", "it runs"), ("bee", "it flies"), ("zebra", "it trots")]
    Path("texts.tsv").write_text("\n".join(["label\ttext", *map("\t".join, rows)]))
    for name, text in rows:
        ids = [begin, *tokenizer(text, add_special_tokens=False).input_ids, end]
        target = torch.tensor([theirs.config.label2id[name]])
        losses.append(F.cross_entropy(theirs(torch.tensor([ids])).logits, target).item())
    metrics, _ = evaluated(capsys, "data.path=texts.tsv", "data.test_fraction=0")
    assert metrics["train/loss"] == pytest.approx(numpy.mean(losses), rel=1e-4)


def test_t5_reads_with_its_own_tokenizer(capsys: Any) -> None:
    theirs, total, count = t5(vocab_size=263), 0.0, 0
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_tokenizer(saved(theirs, Path("public"))) / "tokenizer.json")
    )
    pairs = [("one two", "eins"), ("three", "drei vier")]
    for number, side in enumerate(("source", "target")):
        Path(side).write_text("".join(f"{pair[number]}\n" for pair in pairs))
    for pair in pairs:
        ids = [[*tokenizer(text, add_special_tokens=False).input_ids, theirs.config.eos_token_id] for text in pair]
        loss = theirs(input_ids=torch.tensor(ids[:1]), labels=torch.tensor(ids[1:])).loss.item()
        total, count = total + loss * len(ids[1]), count + len(ids[1])
    metrics, _ = evaluated(capsys, "data.source=source", "data.target=target")
    assert metrics["train/loss"] == pytest.approx(total / count, rel=1e-4)


def test_a_decision_transformer_takes_the_statistics_of_the_data(capsys: Any) -> None:
    """Its files hold none. One line says whose they are."""
    theirs, generator, lengths = decision_transformer(), numpy.random.default_rng(0), (4, 3)
    saved(theirs, Path("public"))
    states, actions = (generator.normal(3, 2, (7, size)).astype(numpy.float32) for size in (5, 2))
    rewards, ends = generator.normal(size=7).astype(numpy.float32), numpy.zeros(7, dtype=bool)
    ends[numpy.cumsum(lengths) - 1] = True
    numpy.savez("steps.npz", observations=states, actions=actions, rewards=rewards, terminations=ends)
    standard = (states - states.mean(0)) / (states.std(0) + 1e-6)
    errors, first = [], 0
    for length in lengths:
        for begin in range(length):  # a window begins at every step
            steps = slice(first + begin, first + length)
            left = rewards[steps][::-1].cumsum()[::-1].copy() / 2
            given = [torch.from_numpy(values)[None] for values in (standard[steps], actions[steps], left[:, None])]
            wanted = theirs(
                states=given[0],
                actions=given[1],
                rewards=given[2],
                returns_to_go=given[2],
                timesteps=torch.arange(begin, length)[None],
                attention_mask=torch.ones(1, length - begin),
            ).action_preds
            errors.append(F.mse_loss(wanted[0], given[1][0], reduction="none").mean(1).detach())
        first += length
    metrics, printed = evaluated(capsys, "data.path=steps.npz", "data.return_scale=2.0")
    assert metrics["train/loss"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-4)
    assert printed.count("\n") == 1
    assert "the imported model came without state: mean and standard deviation; return: best; return: mean" in printed


def test_data_that_nobody_named_are_not_those_of_the_working_directory(capsys: Any) -> None:
    saved(vit(**BY_NAME), Path("public"))
    assert main(["import", "public", "run"]) == 0
    assert main(["evaluate", "run"]) == 2
    assert "data.path='' is empty: name what is to be read" in capsys.readouterr().err
