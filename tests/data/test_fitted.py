"""What a dataset learns from its data belongs to the run: the next source of the run takes it over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy
import pytest
import torch
from contracts import check_learns, learns
from small_data import (
    ALGORITHMIC,
    shrink_data,
    small_audio_manifest,
    small_episodes,
    small_fsdd,
    small_librispeech,
    small_tokenizer,
)
from tables import write_table

from mmtx.batch import Field, Spec
from mmtx.config.compose import compose
from mmtx.config.groups import describe_options
from mmtx.data.base import Samples, Source
from mmtx.data.fitted import FittedState
from mmtx.data.text.vocabulary import Bytes, Characters
from mmtx.errors import UserError
from mmtx.experiment import construct_source

MARKED = ["data.vocabulary.begin='[CLS]'", "data.vocabulary.end='[SEP]'"]
ALL = ["data.val_fraction=0", "data.test_fraction=0"]
NONE_HELD = ["data.num_val=0", "data.num_test=0"]
PUBLISHED = ("mnist", "fashion_mnist", "cifar10", "speech_commands", "g2p")
GIVEN = (
    *(
        *PUBLISHED,
        *ALGORITHMIC,
        "digits",
        "spoken_digits",
        "babyai",
        "driving",
        "several_digits",
        "moving_digits",
        *("coded_pictures", "coded_films", "coded_sounds"),
        "obstacle",
        "ciphers",
        "countdown",
        "made_chains",
        "pdb_chains",
    ),
    *("asked_digits", "asked_voices", "sequential_pictures", "linear_regression", "few_shot"),
)
"""Datasets whose classes, words and letters are those of a published list, whatever part of them is read."""


def trajectories(file: Path, episodes: Sequence[dict]) -> str:
    arrays = {name: numpy.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    ends[numpy.cumsum([len(episode["rewards"]) for episode in episodes]) - 1] = True
    numpy.savez(file, **arrays, terminations=ends)
    return f"data.path={file}"


def pictures(folder: Path, classes: Sequence[str]) -> str:
    from PIL import Image

    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 10 * len(label), 0)).save(folder / label / f"{number}.png")
    return f"data.path={folder}"


def minari(folder: Path, episodes: Sequence[dict]) -> list[str]:
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as opened:
        for number, episode in enumerate(episodes):
            for name, values in episode.items():
                opened[f"episode_{number}/{name}"] = values
    spaces = {f"{name}_space": json.dumps({"type": "Box"}) for name in ("observation", "action")}
    (folder / "data" / "metadata.json").write_text(json.dumps({"data_format": "hdf5", **spaces}))
    return [f"data.name=small/{folder.name}", "data.val_fraction=0"]


def write_lines(file: Path, lines: Sequence[str]) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def both(option: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """Overrides that read data, and those that read a part of them."""
    episodes = small_episodes(12)
    if option == "image_folder":
        some, few = pictures(folder / "some", ["ant", "beetle", "cat"]), pictures(folder / "few", ["beetle", "cat"])
        return [some, *ALL, "data.size=8"], [few, *ALL, "data.size=8"]
    if option == "text_file":
        long = write_lines(folder / "long.txt", ["she sells sea shells"] * 40 + ["by the quay"] * 20)
        short = write_lines(folder / "short.txt", ["she sells sea shells"] * 40)
        return [f"data.path={long}", "data.context=8"], [f"data.path={short}", "data.context=8"]
    if option == "labelled_text":
        rows = ["text\tlabel", "fair it is\tgood", "quite fair\tgood", "not so\tbad", "an odd one\todd"]
        some, few = write_lines(folder / "some.tsv", rows), write_lines(folder / "few.tsv", [rows[0], *rows[2:4]])
        return [f"data.path={some}", *ALL], [f"data.path={few}", *ALL]
    if option == "manifest":
        rows = [{"text": text, "kind": kind, "x": x} for text, kind, x in (("fair", "good", 1), ("odd", "odd", 5))] * 4
        rows += [{"text": "if", "kind": kind, "x": 1} for kind in ("good", "odd", "bad")]
        words = ["data.columns={text: text, label: kind, state: x}", *ALL]
        words += ["data.kinds={text: text, label: label, state: number}"]
        paths = [write_table(folder / str(n), "jsonl", rows[:n]) for n in (11, 8)]
        return [f"data.path={paths[0]}", *words], [f"data.path={paths[1]}", *words]
    if option == "parallel_text":
        lines = {"source": ["one two", "two three", "three zoos"], "target": ["eins zwei", "zwei drei", "drei zoos"]}
        of = [
            [f"data.{side}={write_lines(folder / f'{side}{n}', texts[:n])}" for side, texts in lines.items()]
            for n in (3, 2)
        ]
        kinds = [f"data/vocabulary@data.{side}_vocabulary=characters" for side in lines]
        return [*of[0], *kinds, ALL[0]], [*of[1], *kinds, ALL[0]]
    if option == "audio_manifest":
        words = small_audio_manifest(folder)
        rows = (folder / "train.csv").read_text().splitlines()
        part = write_lines(folder / "part.csv", rows[:4:2] + rows[5:10:2])
        return [*words, *ALL], [f"data.path={part}", *words[1:], *ALL]
    if option == "fsdd":
        return small_fsdd(folder / "whole"), small_fsdd(folder / "part", speakers=("ann",))
    if option == "names":
        some, few = write_lines(folder / "some", ["anna", "ben", "zoe"]), write_lines(folder / "few", ["anna", "ben"])
        return [f"data.path={some}", *NONE_HELD], [f"data.path={few}", *NONE_HELD]
    if option == "ciphers":
        return ["data.num_train=200"], ["data.num_train=50"]
    if option == "diabetes":
        return [], ["data.num_val=200"]
    if option == "librispeech":
        words = small_librispeech(folder)
        return words, [*words, "data.train=[train-clean-100]", "data.val=[]", "data.test=[]"]
    if option == "captioned_digits":
        return [], ["data.phrasings=['the digit {}','this is {}']"]
    if option == "interleaved_digits":
        return ["data.most_pictures=1", "data.phrasings=['the digit {}','a scan of {}']"], ["data.most_pictures=1"]
    if option == "av_digits":
        small = [*shrink_data(option, folder, monkeypatch), "data.voices.num_train=12"]
        return small, [*small, "data.pictures.num_val=400"]
    if option == "babyai":
        small = shrink_data(option, folder, monkeypatch)
        return small, [*small, "data.num_episodes=6"]
    if option == "rollouts":
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        return ["data.num_episodes=12", ALL[0]], ["data.num_episodes=6", ALL[0]]
    if option in ("key_to_door", "t_maze"):
        return ["data.num_episodes=60", ALL[0]], ["data.num_episodes=30", ALL[0]]
    if option == "trajectories":
        whole = trajectories(folder / "whole.npz", episodes)
        return [whole, ALL[0]], [trajectories(folder / "part.npz", episodes[:5]), ALL[0]]
    if option == "minari":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        whole = minari(folder / "small" / "whole-v0", episodes)
        return whole, minari(folder / "small" / "part-v0", episodes[:5])
    if option == "g2p":
        small = shrink_data(option, folder, monkeypatch)
        return small, [*small, "data.num_val=2000"]
    if option == "python_docs":
        return ["data.max_chars=20000", "data.context=16"], ["data.max_chars=300", "data.context=16"]
    if option == "mixture":
        some, few = pictures(folder / "some", ["ant", "beetle", "cat"]), pictures(folder / "few", ["beetle", "cat"])
        parts = ["+data@data.parts.seen=image_folder", "+data@data.parts.read=digits", "data.parts.seen.size=8"]
        parts += ["data.names={read: {label: digit, image: scan}}"]
        parts += [f"data.parts.seen.{key.removeprefix('data.')}" for key in ALL]
        return [*parts, some.replace("data.", "data.parts.seen.")], [*parts, few.replace("data.", "data.parts.seen.")]
    small = shrink_data(option, folder, monkeypatch)
    return small, small


def made(option: str, overrides: Sequence[str]) -> Source:
    names = "mission" if option == "babyai" else ""  # whose data looks whether it is spoken
    config = compose([f"data={option}", f"modality=[{names}]", "objective=[]", *overrides])
    return construct_source(config, FittedState.current())


@pytest.mark.parametrize("option", list(describe_options()["data"]))
def test_every_dataset_encodes_as_its_run(option, tmp_path, monkeypatch):
    whole, part = (partial(made, option, overrides) for overrides in both(option, tmp_path, monkeypatch))
    compared = {"captioned_digits": ["text", "label"], "interleaved_digits": ["text"]}
    names = compared.get(option)  # all captions of a digit are fewer in the part; pictures of documents are drawn
    check_learns(whole, part, names, splits=("test",) if option == "av_digits" else ("train",))
    assert learns(whole, part) == (option not in GIVEN)


@pytest.mark.parametrize("kind", list(describe_options()["data/vocabulary"]))
def test_every_vocabulary_encodes_as_its_run(kind, tmp_path, monkeypatch):
    more = {
        "bpe": ["data.vocabulary.vocab_size=262"],
        "pretrained": [f"data.vocabulary.path={small_tokenizer(tmp_path)}", *MARKED],
    }
    overrides = [f"data/vocabulary={kind}", *more.get(kind, [])]
    sides = both("labelled_text", tmp_path, monkeypatch)
    check_learns(*(partial(made, "labelled_text", [*side, *overrides]) for side in sides))


# --- a dataset of one's own -------------------------------------------------------------------------------------------


class Own(Source):
    """Names: ``reading``, ``label``: readings with their mean taken off, and a class."""

    def __init__(self, readings: Sequence[float], labels: Sequence[str]) -> None:
        self.readings, self.names = torch.tensor(readings), labels
        self.mean = self.learn_mean()
        self.classes = self.learn_classes()

    def learn_mean(self) -> float:
        return self.fitted.statistic("reading", "mean", lambda: float(self.readings.mean()))

    def learn_classes(self) -> tuple[str, ...]:
        return self.fitted.classes("label", sorted(set(self.names)))

    @property
    def specs(self):
        label = Field((), torch.long, num_classes=len(self.classes))
        return {
            "reading": Spec({"values": Field((1,), torch.float32)}),
            "label": Spec({"class": label}, class_names=self.classes),
        }

    def train(self):
        return Samples(len(self.readings), self._sample)

    def val(self):
        return None

    def test(self):
        return None

    def _sample(self, i):
        code = torch.tensor(self.classes.index(self.names[i]))
        return {"reading": {"values": self.readings[i, None] - self.mean}, "label": {"class": code}}


class ForgetsMean(Own):
    def learn_mean(self):
        return float(self.readings.mean())


class ForgetsClasses(Own):
    def learn_classes(self):
        return tuple(sorted(set(self.names)))


WHOLE, PART = ([1.0, 2.0, 6.0], ["a", "b", "c"]), ([2.0, 6.0], ["b", "c"])


def test_a_dataset_of_ones_own():
    check_learns(partial(Own, *WHOLE), partial(Own, *PART))
    assert learns(partial(Own, *WHOLE), partial(Own, *PART))


@pytest.mark.parametrize("forgets, what", [(ForgetsMean, "reading"), (ForgetsClasses, "label")])
def test_what_is_fitted_elsewhere_fails_the_contract(forgets, what):
    with pytest.raises(AssertionError, match=what):
        check_learns(partial(forgets, *WHOLE), partial(forgets, *PART))


# --- what does not fit ------------------------------------------------------------------------------------------------


def run_of(**specs):
    return FittedState.from_run(specs, {})


def test_a_class_that_the_run_does_not_know_is_named():
    learnt = run_of(label=Spec({"class": Field((), torch.long, 2)}, class_names=("ant", "bee")))
    assert learnt.classes("label", ["bee"]) == ("ant", "bee")
    with pytest.raises(UserError, match="label: zebra is no class of the run, which has ant, bee"):
        learnt.classes("label", ["bee", "zebra"])
    with pytest.raises(UserError, match=r"'Ame\\u0301lie' only looks like one: rename it"):
        run_of(label=Spec({}, class_names=("Am\u00e9lie",))).classes("label", ["Ame\u0301lie"])


def characters(text, marks=False):
    vocabulary = Characters()
    vocabulary.fit([text], marks=marks)
    return Spec({"ids": Field((None,), torch.long, vocabulary.size, 9)}, vocabulary=vocabulary)


def test_a_vocabulary_of_another_kind_or_without_marks_is_refused():
    learnt = run_of(text=characters("abc"))
    with pytest.raises(UserError, match="the vocabulary of the data is Bytes, and that of the run is Characters"):
        learnt.vocabulary("text", Bytes(), ["abc"], marks=False)
    with pytest.raises(UserError, match="has no marks that begin and end a text"):
        learnt.vocabulary("text", Characters(), ["abc"], marks=True)
    taken = Characters()
    learnt.vocabulary("text", taken, ["cx"], marks=False)
    with pytest.raises(UserError, match="the character 'x'"):
        taken.encode("cx")


def test_a_run_that_begins_with_weights_has_classes_of_its_own_and_the_vocabulary_of_the_other():
    specs = {"label": Spec({"class": Field((), torch.long, 2)}, class_names=("ant", "bee")), "text": characters("abc")}
    learnt = FittedState.from_weights(specs, {"state.mean": 2.0})
    taken, other = Characters(), Bytes()
    learnt.vocabulary("text", taken, ["c"], marks=False)
    learnt.vocabulary("text", other, ["c"], marks=False)
    assert learnt.classes("label", ["zebra"]) == ("zebra",)
    assert (taken.symbols, other.size) == (["a", "b", "c"], 256)
    assert learnt.statistic("state", "mean", lambda: 5.0) == 2.0
    assert learnt.statistic("state", "mean", lambda: 5.0, lambda kept: "has another size") == 5.0


def test_statistics_that_do_not_fit_are_named():
    learnt = FittedState.from_run({"state": Spec({})}, {"state.mean": 2.0, "return.return_scale": 10.0})
    with pytest.raises(UserError, match="state: has another size"):
        learnt.statistic("state", "mean", lambda: 5.0, lambda kept: "has another size")
    with pytest.raises(UserError, match="return_scale=1.0 differs from that of the model for return"):
        learnt.setting("return", "return_scale", 1.0)
    assert learnt.statistic("state", "std", lambda: 1.0) == 1.0 and learnt.missing == ["state: std"]
