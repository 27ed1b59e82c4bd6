"""A saved model and data that it did not learn from: encoded as its run encodes them, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_data import small_audio_manifest, small_episodes, write_sound

from mmtx.batch import Batch
from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.config.overrides import written
from mmtx.config.stored import read_config
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment import assemble
from mmtx.interop.family import text_batch
from mmtx.run.checkpoint_content import Checkpoint, contents, load, read_checkpoint
from mmtx.run.checkpoint_file import write_checkpoint
from mmtx.run.directory import RunDirectory
from mmtx.run.evaluation import DEFAULTS, evaluate_run
from mmtx.run.fitted_source import fitted_state_for, source_for
from mmtx.run.init_from import initialise_from

TINY = [
    "backbone.dim=16",
    "backbone.num_layers=1",
    "backbone.num_heads=2",
    "loader.num_workers=0",
    "loader.batch_size=4",
]
ALL = ["data.val_fraction=0", "data.test_fraction=0"]


def saved(folder, overrides, **changes):
    """A run of fresh weights, as it is saved; `changes` of what its checkpoint records of its data."""
    experiment = assemble(compose([*overrides, *TINY]))
    run = RunDirectory(folder)
    run.create()
    state = {f"learner.{key}": value for key, value in experiment.learner.state_dict().items()}
    write_checkpoint(run.last, {"mmtx": {**contents(experiment), "step": 0, **changes}, "state_dict": state})
    return folder


def evaluated(run, split, *overrides):
    return evaluate_run(str(run), {**DEFAULTS, "split": split}, overrides)


# --- classes ----------------------------------------------------------------------------------------------------------

COLOURS = {"ant": (220, 30, 30), "bee": (30, 220, 30), "cat": (30, 30, 220), "zebra": (90, 90, 90)}


def pictures(folder, labels):
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(3):
            colour = tuple(value + number for value in COLOURS[label])
            Image.new("RGB", (8, 8), colour).save(folder / label / f"{number}.png")
    return folder


def of_pictures(folder):
    words = ["data=image_folder", "modality=[image]", "objective=[classify]", "data.size=8"]
    return [*words, "modality.image.patch_size=4", f"data.path={folder}", *ALL]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pictures(folder / "all", ["ant", "bee", "cat"])
    return saved(folder / "run", of_pictures(folder / "all"))


def test_classes_go_by_the_names_that_the_run_knows(seen, tmp_path):
    folder, learner = pictures(tmp_path / "few", ["bee", "cat"]), load(seen)
    metrics = evaluated(seen, "train", f"data.path={folder}")
    objective = learner.objective("classify")
    losses = []
    for code, label in enumerate(["ant", "bee", "cat"]):
        for file in sorted((folder / label).glob("*.png")):
            pixels = torch.from_numpy(numpy.array(Image.open(file))).permute(2, 0, 1)[None]
            batch = Batch({"image": {"pixels": pixels}}, {"image": torch.ones(1, dtype=torch.long)}, {"image": True})
            losses.append(F.cross_entropy(objective.logits(learner.model, batch), torch.tensor([code])).item())
    assert metrics["train/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_class_that_is_none_of_the_runs_is_refused(seen, tmp_path):
    folder = pictures(tmp_path / "other", ["bee", "zebra"])
    with pytest.raises(UserError, match="label: zebra is no class of the run, which has ant, bee, cat"):
        evaluated(seen, "train", f"data.path={folder}")


def test_pictures_of_another_size_are_refused(seen):
    with pytest.raises(UserError, match=r"image: .* the field pixels, \(3, 8, 8\) .* and \(3, 16, 16\)"):
        evaluated(seen, "train", "data.size=16")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no weights"),
        ('{"model_type": "zamba9"}', "is a model of the family 'zamba9'; mmtx reads gpt2, "),
        ('{"model_type": "gpt2", ', "config.json cannot be read: Expecting property name"),
        ("[1]", "config.json is not an object"),
    ],
)
def test_what_no_model_is_in_is_refused_before_anything_is_made(content, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    if content is not None:
        (tmp_path / "given" / "config.json").write_text(content)
        (tmp_path / "given" / "model.safetensors").write_bytes(b"is not read")
    assert main(["train", "experiment=vit_digits", "init_from=given", "run_dir=run", *TINY]) == 2
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["given"]


def test_another_run_takes_over_the_rows_of_classes_by_their_names(seen, tmp_path):
    folder, other = pictures(tmp_path / "other", ["cat", "ant", "zebra"]), load(seen)
    config = compose([*of_pictures(folder), *TINY, f"init_from={seen}", "seed=7"])
    learner = assemble(config, fitted_state_for(config)).learner
    fresh = learner.objective("classify").head.weight.clone()
    report = initialise_from(learner, str(seen), [])
    head, theirs = learner.objective("classify").head, other.objective("classify").head
    assert learner.specs["label"].class_names == ("ant", "cat", "zebra")
    assert head.weight[0].equal(theirs.weight[0]) and head.weight[1].equal(theirs.weight[2])
    assert head.weight[2].equal(fresh[2]) and head.bias[1].equal(theirs.bias[2])
    assert "by name: objectives.classify.head.weight (2 of 3), objectives.classify.head.bias (2 of 3)" in str(report)


def test_classes_that_have_other_names_take_nothing_from_places(tmp_path, seen):
    folder = tmp_path / "renamed"
    pictures(folder, ["ant", "bee", "cat"])
    for label in ("ant", "bee", "cat"):
        (folder / label).rename(folder / f"old_{label}")
    config = compose([*of_pictures(folder), *TINY, f"init_from={seen}"])
    learner = assemble(config, fitted_state_for(config)).learner
    assert "objectives.classify.head.weight" in initialise_from(learner, str(seen), []).new


def test_data_with_nothing_to_predict_is_refused(tmp_path):
    words = small_audio_manifest(tmp_path)
    set_of_run = ["data=audio_manifest", "modality=[audio]", "objective=[classify]"]
    run = saved(tmp_path / "run", [*set_of_run, *words, *ALL])
    rows = [row.rpartition(",")[0] for row in (tmp_path / "train.csv").read_text().splitlines()]
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match="this data has nothing to predict for any objective; it has audio, text"):
        evaluated(run, "train", f"data.path={tmp_path / 'texts.csv'}")


@pytest.mark.parametrize(
    "more, message", [([], "learned positions for 10"), (["modality.audio.pad_to_seconds=0.2"], "0.2 s")]
)
def test_a_sound_that_is_longer_than_the_model_attends_is_refused(tmp_path, more, message):
    """Whisper's length would be cut, and a table of positions has no more rows."""
    words = [*small_audio_manifest(tmp_path), *ALL]
    set_of_run = ["data=audio_manifest", "modality=[audio]", "objective=[classify]", "backbone/positions=learned"]
    run = saved(tmp_path / "run", [*set_of_run, *words, *more])
    write_sound(tmp_path / "long.wav", 0.45)
    (tmp_path / "long.csv").write_text("path,text,label\nlong.wav,one,odd\nsounds/1.wav,two,even\n")
    with pytest.raises(UserError, match=message):
        evaluated(run, "train", f"data.path={tmp_path / 'long.csv'}", "data.max_seconds=0.5")


@pytest.mark.parametrize(
    "override, named",
    [
        ("modality.image.std=0.25", "modality.image.std=0.25 (there 0.5)"),
        ("modality.image.mean=[0.5,0.5,0.5]", None),
        ("data.fit.resample=nearest", "data.fit.resample=nearest (there bicubic)"),
        ("backbone.num_heads=4", "backbone.num_heads=4 (there 2)"),
        ("backbone.mlp.activation._target_=torch.nn.ReLU", "backbone.mlp.activation=ReLU (there GELU)"),
        ("backbone.dropout=0.5", None),
    ],
)
def test_settings_by_which_weights_mean_something_else_are_named(seen, tmp_path, override, named):
    config = compose([*of_pictures(pictures(tmp_path / "other", ["ant", "bee"])), *TINY, f"init_from={seen}", override])
    report = initialise_from(assemble(config, fitted_state_for(config)).learner, str(seen), [], config)
    assert report.set_otherwise == ([] if named is None else [named])


def test_texts_of_a_saved_config_are_no_references(tmp_path, monkeypatch):
    """What looks like one is the name of a folder here."""
    monkeypatch.setenv("PLACE", "elsewhere")
    folder = pictures(tmp_path / "${oc.env:PLACE}", ["ant", "bee"])
    run = saved(tmp_path / "run", [*of_pictures(written(str(folder)))])
    assert evaluated(run, "train")["train/loss"] > 0
    directory, config = RunDirectory(run), read_checkpoint(run / "checkpoints" / "last.ckpt")["mmtx"]["config"]
    directory.write_config(config)
    assert read_config(directory.config) == config
    assert config["data"]["path"] == str(folder)


# --- texts ------------------------------------------------------------------------------------------------------------

SENTENCE = "the cat sat on a mat by the big red mill\n" * 20


def of_text(file):
    return ["data=text_file", "modality=[text]", "objective=[next_token]", f"data.path={file}", "data.context=8"]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "text.txt").write_text(SENTENCE)
    return saved(folder / "run", of_text(folder / "text.txt"))


def test_ids_are_those_of_the_runs_vocabulary(read, tmp_path):
    text = SENTENCE.replace("a", "e").replace("b", "d")  # every id behind them would move
    (tmp_path / "other.txt").write_text(text)
    learner = load(read)
    ids = torch.tensor(learner.specs["text"].vocabulary.encode(text[int(len(text) * 0.9) :]))
    objective, total = learner.objective("next_token"), 0.0
    for start in range(0, len(ids) - 1, 8):
        window = ids[start : start + 9]
        states = learner.model(text_batch("text", window[None, :-1], None)).tokens("text")
        logits = objective.head.logits(learner.model, states)[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    metrics = evaluated(read, "val", f"data.path={tmp_path / 'other.txt'}")
    assert metrics["val/perplexity"] == pytest.approx(math.exp(total / (len(ids) - 1)), rel=1e-5)


def test_a_character_that_the_run_does_not_know_is_named(read, tmp_path):
    (tmp_path / "other.txt").write_text(SENTENCE + "#")
    with pytest.raises(UserError, match=r"the character '#' \(U\+0023\)"):
        evaluated(read, "val", f"data.path={tmp_path / 'other.txt'}")


@pytest.mark.parametrize("override", ["data.vocabulary._target_=mmtx.data.Bytes", "+data.vocabulary.path=x"])
def test_the_vocabulary_is_the_runs(read, override):
    with pytest.raises(UserError, match="would read texts by other ids; the vocabulary is the run's"):
        evaluated(read, "val", override)


def test_another_vocabulary_of_as_many_ids_is_no_way_to_begin(read, tmp_path):
    """Every letter of the new text stands for another one."""
    (tmp_path / "other.txt").write_text(SENTENCE.translate(str.maketrans("abc", "xyz")))
    config = compose([*of_text(tmp_path / "other.txt"), *TINY, f"init_from={read}"])
    with pytest.raises(ConfigErrors, match="the character 'z'"):
        assemble(config, fitted_state_for(config))
    (tmp_path / "other.txt").write_text(SENTENCE.replace("c", "b"))
    begun = assemble(config, fitted_state_for(config)).learner
    assert begun.specs["text"].vocabulary.symbols == load(read).specs["text"].vocabulary.symbols
    config = compose([*of_text(tmp_path / "other.txt"), "data/vocabulary=bytes", *TINY, f"init_from={read}"])
    report = initialise_from(assemble(config, fitted_state_for(config)).learner, str(read), [])
    assert "model.tokenizers.text.embedding.weight" in report.new


# --- statistics -------------------------------------------------------------------------------------------------------


def trajectories(file, shift):
    episodes = small_episodes(6, state=3, action=2)
    arrays = {name: numpy.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    ends[numpy.cumsum([len(episode["rewards"]) for episode in episodes]) - 1] = True
    arrays["observations"] = arrays["observations"] * shift + shift
    numpy.savez(file, **arrays, terminations=ends)
    return file


def of_steps(file):
    words = ["data=trajectories", "modality=[return,state,action]", "objective=[action]", f"data.path={file}"]
    return [*words, "data.context=4", "data.return_scale=2.0", "data.val_fraction=0.2"]


@pytest.fixture(scope="module")
def acted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    return saved(folder / "run", of_steps(trajectories(folder / "steps.npz", 1.0)))


def sources(run, other):
    """The dataset that the run learnt from, and another for its model."""
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    config = checkpoint["mmtx"]["config"]
    return source_for(checkpoint, config), source_for(checkpoint, {**config, "data": {**config["data"], **other}})


def test_states_are_scaled_and_returns_wished_for_as_the_run_learnt(acted, tmp_path):
    other = str(trajectories(tmp_path / "other.npz", 3.0))
    first, second = sources(acted, {"path": other})
    state, moved = first.train()[0]["state"]["values"], second.train()[0]["state"]["values"]
    mean, std = first.standardise.mean, first.standardise.std
    assert moved.allclose(((state * std + mean) * 3 - mean) / std, atol=1e-4)  # 3 (x + 1) where it was x + 1
    assert (second.best_return, second.mean_return) == (first.best_return, first.mean_return)


def test_another_scale_of_returns_is_refused(acted):
    with pytest.raises(
        UserError, match="data.return_scale=5.0 differs from that of the model for return; nearest: 2.0"
    ):
        evaluated(acted, "val", "data.return_scale=5.0")


def test_a_scale_of_returns_that_differs_from_where_a_run_begins_is_named(acted):
    file = read_checkpoint(acted / "checkpoints" / "last.ckpt")["mmtx"]["config"]["data"]["path"]
    config = compose([*of_steps(file), *TINY, "data.return_scale=5.0", f"init_from={acted}"])
    report = initialise_from(assemble(config, fitted_state_for(config)).learner, str(acted), [], config)
    assert report.set_otherwise == ["data.return_scale=5.0 (there 2.0)"]


def test_an_older_checkpoint_without_statistics_goes_with_its_own_data_alone(tmp_path):
    file = trajectories(tmp_path / "steps.npz", 1.0)
    run = saved(tmp_path / "run", of_steps(file), fitted={})
    assert evaluated(run, "val")["val/loss"] > 0
    other = trajectories(tmp_path / "other.npz", 3.0)
    with pytest.raises(UserError, match="state: mean and standard deviation: the checkpoint does not hold it"):
        evaluated(run, "val", f"data.path={other}")


def test_episodes_that_last_longer_than_the_model_has_learned_times_are_refused(acted):
    with pytest.raises(UserError, match="return: the data declares times below 2000, .* those below 1000"):
        evaluated(acted, "val", "data.max_steps=2000")


def test_a_run_that_goes_on_keeps_what_it_learnt(acted):
    checkpoint = Checkpoint.read(acted / "checkpoints" / "last.ckpt")
    config = checkpoint.content["mmtx"]["config"]
    changed = Path(config["data"]["path"])
    kept, first = changed.read_bytes(), assemble(config).data.source
    try:
        trajectories(changed, 3.0)
        again = assemble(config, fitted_state_for(config, checkpoint)).data.source
    finally:
        changed.write_bytes(kept)
    assert again.standardise.mean.equal(first.standardise.mean) and again.best_return == first.best_return
