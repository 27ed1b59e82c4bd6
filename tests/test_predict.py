"""What is predicted of each sample, scored by other libraries: it has to give what an evaluation gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jiwer
import pytest
import sacrebleu
import torch
from builders import (
    POSITIONS,
    Letters,
    action,
    audio,
    audio_spec,
    backbone,
    ctc,
    image,
    image_spec,
    label_spec,
    model,
    seq2seq,
    series,
    series_spec,
    text,
    text_spec,
)
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.neighbors import NearestNeighbors
from torch import nn

from mmtx.batch import Field, Sample, Spec, fake_batch
from mmtx.data.base import Samples, Source, Split
from mmtx.data.loaders import DataModule
from mmtx.data.mixture import Mixture
from mmtx.data.specs import labels_spec
from mmtx.errors import UserError
from mmtx.evaluate import evaluate_learner
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Objective
from mmtx.objectives.classify import Classify
from mmtx.objectives.contrastive import Contrastive
from mmtx.objectives.masked_token import MaskedToken
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import MeanPool
from mmtx.objectives.regression import Regression
from mmtx.objectives.text_metrics import BLEU, CharacterErrorRate, ExactMatch, WordErrorRate
from mmtx.predict import Predictor, Row

MARKED, ENDLESS = Letters("abc ef hi"), Letters("abcdefghi", marks=False)
SPECS: dict[str, Spec] = {
    "text": text_spec(11, 8, MARKED),
    "stream": text_spec(9, 8, ENDLESS),
    "image": image_spec(),
    "audio": audio_spec(),
    "state": series_spec(),
    "move": series_spec(num_classes=4),
    "force": series_spec(2),
    "label": label_spec(3, ("cat", "dog", "owl")),
    "tags": labels_spec(("cat", "dog", "owl")),
    "size": Spec({"values": Field((), torch.float32)}),
}


class Made(Source):
    """Samples that fit some specs; some samples lack the name of their number."""

    def __init__(self, names: Sequence[str], size: int = 23, broken: Sequence[int] = ()) -> None:
        self.names, self.size, self.broken = list(names), size, broken

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {name: SPECS[name] for name in self.names}

    def train(self) -> Split:
        return Samples(self.size, self.sample, lambda index: f"{index}.bin")

    def val(self) -> Split:
        return Samples(9, self.sample)

    def test(self) -> None:
        return None

    def sample(self, index: int) -> Sample:
        if index in self.broken:
            raise UserError("cannot be read")
        batch = fake_batch(SPECS, 1, seed=index)
        lengths = {name: int(length) for name, length in batch.lengths.items()}
        steps = min(lengths[name] for name in ("state", "move", "force"))
        made: Sample = {}
        for name in self.names:
            length = steps if name in ("state", "move", "force") else lengths[name]
            ragged = SPECS[name].fields
            made[name] = {k: v[0, :length] if ragged[k].ragged else v[0] for k, v in batch[name].items()}
        if "text" in made:
            ids = made["text"]["ids"] % 9
            made["text"] = {"ids": torch.cat([torch.tensor([9]), ids[:6], torch.tensor([10])])}
        if index % 7 < len(self.names):
            del made[self.names[index % 7]]
        return made


def data_of(source: Source, batch_size: int = 5, **changes: Any) -> DataModule:
    keys: dict[str, Any] = {"eval_batch_size": None, "num_workers": 0, "packing": False, "on_bad_sample": "raise"}
    keys |= {"max_bad_share": 1.0, "names": list(source.specs), "seed": 0, **changes}
    return DataModule(source=source, batch_size=batch_size, **keys)


def whole(*names: str, causal: bool = True) -> MultimodalTransformer:
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        "text": text(SPECS["text"], causal=causal),
        "stream": text(SPECS["stream"]),
        "image": image(),
        "audio": audio(),
        "state": series(SPECS["state"]),
    }
    return model({name: made[name] for name in names}, backbone(positions=POSITIONS["learned"]))


def classify(learned: MultimodalTransformer, label: str = "label") -> Objective:
    keys = {"pool": MeanPool(), "pooler": False, "label_smoothing": 0.1, "mixup": 0.0, "dropout": 0.0}
    keys |= {"class_weights": None, "slices": [], "label": label}
    return Classify(specs=SPECS, model=learned, weight=1.0, **keys)


def regression(learned: MultimodalTransformer, target: str, read: str | None = None) -> Objective:
    keys: dict[str, Any] = {"pool": MeanPool(), "loss": "squared", "dropout": 0.0, "slices": []}
    return Regression(specs=SPECS, model=learned, weight=1.0, target=target, read=read, **keys)


def next_token(learned: MultimodalTransformer, name: str = "text") -> Objective:
    keys = {"text": name, "tied": True, "logit_scale": 1.0, "label_smoothing": 0.1}
    return NextToken(specs=SPECS, model=learned, weight=1.0, **keys)


def masked(learned: MultimodalTransformer) -> Objective:
    keys = {"text": "text", "mask": 0, "share": 0.3, "activation": nn.GELU(), "norm_eps": 1e-12}
    return MaskedToken(specs=SPECS, model=learned, weight=1.0, **keys)


def contrastive(learned: MultimodalTransformer) -> Objective:
    keys = {"first": "image", "second": "audio", "label": None, "size": 8, "temperature": 0.07}
    return Contrastive(specs=SPECS, model=learned, weight=1.0, **keys)


def learner_of(names: Sequence[str], *objectives: Callable[..., Objective], causal: bool = True) -> Learner:
    learned = whole(*names, causal=causal)
    made = {str(place): objective(learned) for place, objective in enumerate(objectives)}
    return Learner(model=learned, objectives=made, specs=SPECS).eval()


def rows_of(learner: Learner, data: DataModule, split: str = "train") -> list[Row]:
    predictor = Predictor(learner, data, split)
    rows = [row for batch in predictor.batches() for row in batch]
    assert all(set(row) <= set(predictor.columns) for row in rows)
    return rows


def both(
    names: Sequence[str], objective: Callable[..., Objective], *, label: str = "", causal: bool = True, size: int = 5
) -> tuple[list[Row], dict[str, float]]:
    """The rows that have a truth, and the metrics of an evaluation."""
    learner, data = learner_of(names, objective, causal=causal), data_of(Made([*names, *filter(None, [label])]), size)
    metrics = evaluate_learner(learner, data, "train")
    assert metrics is not None
    rows = rows_of(learner, data)
    assert len(rows) == 23
    return [row for row in rows if row.get("truth", True) is not None], metrics


def column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_classes() -> None:
    rows, metrics = both(["image", "text"], classify, label="label")
    names = SPECS["label"].class_names or ()
    truth, odds = column(rows, "truth"), [[row[f"probability/{name}"] for name in names] for row in rows]
    assert accuracy_score(truth, column(rows, "predicted")) == pytest.approx(metrics["train/accuracy"])
    assert log_loss(truth, odds, labels=names) == pytest.approx(metrics["train/loss"], rel=1e-5)


def test_labels() -> None:
    rows, metrics = both(["image"], lambda learned: classify(learned, "tags"), label="tags")
    names = SPECS["tags"].class_names or ()
    truth, predicted = ([[name in row[key] for name in names] for row in rows] for key in ("truth", "predicted"))
    odds = [[row[f"probability/{name}"] for name in names] for row in rows]
    assert average_precision_score(truth, odds) == pytest.approx(metrics["train/mAP"])
    for average in ("micro", "macro"):
        expected = f1_score(truth, predicted, average=average, zero_division=math.nan)
        assert expected == pytest.approx(metrics[f"train/f1_{average}"])


@pytest.mark.parametrize(("names", "target", "read"), [(["image"], "size", None), (["state"], "force", "state")])
def test_numbers(names: list[str], target: str, read: str | None) -> None:
    """Of whole samples, and vectors of each step."""
    rows, metrics = both(names, lambda learned: regression(learned, target, read), label=target)
    truth, predicted = column(rows, "truth"), column(rows, "predicted")
    if read is not None:
        truth, predicted = sum(truth, []), sum(predicted, [])
    assert mean_absolute_error(truth, predicted) == pytest.approx(metrics["train/mae"], rel=1e-5)
    assert r2_score(truth, predicted) == pytest.approx(metrics["train/r2"], rel=1e-5)


@pytest.mark.parametrize("name", ["text", "stream"])
def test_texts_that_go_on(name: str) -> None:
    rows, metrics = both(["image", name], lambda learned: next_token(learned, name))
    nats, ids, right = (sum(column(rows, key)) for key in ("nats", "ids", "right_ids"))
    assert nats / ids == pytest.approx(metrics["train/loss"], rel=1e-5)
    assert right / ids == metrics["train/accuracy"]
    assert nats / math.log(2) / sum(column(rows, "bytes")) == pytest.approx(metrics["train/bits_per_byte"], rel=1e-5)
    if name == "text":  # it ends
        exact = accuracy_score(column(rows, "truth"), column(rows, "predicted"))
        assert exact == pytest.approx(metrics["train/exact_match"])


def test_texts_with_masks() -> None:
    rows, metrics = both(["text"], masked, causal=False)
    nats, ids, right = (sum(column(rows, key)) for key in ("nats", "ids", "right_ids"))
    assert nats / ids == pytest.approx(metrics["train/loss"], rel=1e-5)
    assert right / ids == metrics["train/accuracy"]
    apart = [sum(a != b for a, b in zip(row["predicted"], row["truth"], strict=True)) for row in rows]
    assert apart == [row["ids"] - row["right_ids"] for row in rows]


METRICS = {"wer": WordErrorRate(), "cer": CharacterErrorRate(), "bleu": BLEU(), "exact_match": ExactMatch()}


@pytest.mark.parametrize("decode", [seq2seq, ctc], ids=["seq2seq", "ctc"])
def test_transcripts(decode: Callable[..., Objective]) -> None:
    names, label = (["audio", "text"], "") if decode is seq2seq else (["audio"], "text")
    rows, metrics = both(names, lambda learned: decode(learned, SPECS, metrics=METRICS), label=label)
    truth, written = column(rows, "truth"), column(rows, "predicted")
    assert jiwer.wer(truth, written) == pytest.approx(metrics["train/wer"])
    assert jiwer.cer(truth, written) == pytest.approx(metrics["train/cer"])
    assert sacrebleu.corpus_bleu(written, [truth], force=True).score == pytest.approx(metrics["train/bleu"])
    assert accuracy_score(truth, written) == metrics["train/exact_match"]


def test_actions_of_classes() -> None:
    rows, metrics = both(["state"], lambda learned: action(learned, SPECS, action="move"), label="move")
    truth, predicted, odds = (sum(column(rows, key), []) for key in ("truth", "predicted", "probabilities"))
    assert accuracy_score(truth, predicted) == pytest.approx(metrics["train/accuracy"])
    assert log_loss(truth, odds, labels=["0", "1", "2", "3"]) == pytest.approx(metrics["train/loss"], rel=1e-5)


def test_actions_of_numbers() -> None:
    rows, metrics = both(["state"], lambda learned: action(learned, SPECS, action="force"), label="force")
    truth, predicted = (sum(column(rows, key), []) for key in ("truth", "predicted"))
    assert mean_squared_error(truth, predicted) == pytest.approx(metrics["train/loss"], rel=1e-5)


def test_vectors() -> None:
    rows, metrics = both(["image", "audio"], contrastive, size=23)
    pairs = [(row["vector/image"], row["vector/audio"]) for row in rows]
    first, second = zip(*(pair for pair in pairs if None not in pair), strict=True)
    for rank in (1, 5):
        nearest = NearestNeighbors(n_neighbors=rank).fit(second).kneighbors(first, return_distance=False)
        recall = sum(place in found for place, found in enumerate(nearest)) / len(first)
        assert recall == pytest.approx(metrics[f"train/image_to_audio/recall@{rank}"])


def test_first_columns_say_which_sample_it_is() -> None:
    learner = learner_of(["image"], classify)
    data = data_of(Made(["image", "label"], broken=[3, 22]), on_bad_sample="skip")
    rows = rows_of(learner, data)
    assert [(row["sample"], row["path"]) for row in rows] == [(index, f"{index}.bin") for index in range(23)]
    assert rows[3] == {"sample": 3, "path": "3.bin"}
    assert [row["path"] for row in rows_of(learner, data, "val")] == [None] * 9


def test_what_is_predicted_need_not_be_there() -> None:
    """Also where it is in the set: the same as of samples that have it."""
    for names, objective, label in (
        (["image"], classify, "label"),
        (["audio"], lambda learned: ctc(learned, SPECS), "text"),
        (["audio", "text"], lambda learned: seq2seq(learned, SPECS), ""),
    ):
        learner = learner_of(names, objective)
        given = [name for name in names if name != "text"]
        alone, with_truth = (
            rows_of(learner, data_of(Made(n))) for n in (given, dict.fromkeys([*names, label or "text"]))
        )
        assert [row["truth"] for row in alone] == [None] * 23
        for index in (1, 5, 6, 10, 11):  # which lack no name in either
            assert alone[index]["predicted"] == with_truth[index]["predicted"]


def test_several_objectives_have_columns_of_their_own() -> None:
    learner = learner_of(["image", "text"], classify, next_token)
    predictor = Predictor(learner, data_of(Made(["image", "text", "label"])), "val")
    columns = list(predictor.columns)
    assert columns[:4] == ["sample", "path", "0/predicted", "0/truth"] and "1/nats" in columns
    assert all(set(row) == set(columns) for rows in predictor.batches() for row in rows)


def test_a_mixture_part_by_part_from_the_middle() -> None:
    """From any whole batch on, the rows are those of all."""
    learner = learner_of(["image", "text"], classify, next_token)
    parts = {"a": Made(["image", "label"]), "b": Made(["text"], size=12)}
    source = Mixture(parts=parts, weights={}, temperature=None, schedule_samples=None, names={})
    predictor = Predictor(learner, data_of(source), "train")
    rows = [row for batch in predictor.batches() for row in batch]
    assert [(row["part"], row["sample"]) for row in rows] == [
        *(("a", index) for index in range(23)),
        *(("b", index) for index in range(12)),
    ]
    assert "0/truth" in rows[0] and "1/nats" not in rows[0] and "1/nats" in rows[23]
    whole = [predictor.whole_batches(count) for count in (4, 5, 9, 22, 23, 27, 28, 34, 35)]
    assert whole == [0, 5, 5, 20, 23, 23, 28, 33, 35]
    for first in (0, 5, 20, 23, 28, 35):
        assert [row for batch in predictor.batches(first) for row in batch] == rows[first:]
