"""Classification of whole samples."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from builders import POSITIONS, backbone, image, image_batch, image_spec, label_spec, merge, model, text, text_spec
from contracts import check_objective
from sklearn.metrics import average_precision_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.data.specs import class_spec, labels_spec
from mmtx.errors import InvalidValue
from mmtx.evaluate import Evaluation, stage_directions
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example
from mmtx.objectives.classify import Classify
from mmtx.objectives.pooling import FirstPool, MeanPool, SummaryPool
from mmtx.training.loss_normalisation import count_predictions, normalised_loss

SPECS = {"image": image_spec(), "text": text_spec(), "label": label_spec(3, ("cat", "dog", "owl"))}


def made_model() -> MultimodalTransformer:
    torch.manual_seed(0)
    return model({"image": image(summary=True), "text": text()}, backbone(positions=POSITIONS["learned"]))


def made(whole: MultimodalTransformer, **changes: Any) -> Classify:
    keys: dict[str, Any] = {
        "specs": SPECS,
        "weight": 1.0,
        "label": "label",
        "pool": MeanPool(),
        "pooler": False,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "class_weights": None,
        "slices": [],
        "dropout": 0.0,
    }
    return Classify(model=whole, **{**keys, **changes}).eval()


def pictures(present: list[int], labelled: list[int], classes: list[int]) -> Batch:
    """Pictures alone, without a text."""
    count = len(present)
    texts = Batch({"text": {"ids": torch.zeros(count, 1, dtype=torch.long)}}, {"text": torch.zeros(count).long()})
    labels = Batch({"label": {"class": torch.tensor(classes)}}, {"label": torch.tensor(labelled)})
    return merge(image_batch(present), texts, labels)


@pytest.mark.parametrize(
    "pool", [MeanPool(), SummaryPool(name="image"), FirstPool(name="text")], ids=["mean", "summary", "first"]
)
@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.1}], ids=["plain", "smooth"])
def test_contract(pool: Any, changes: dict[str, Any]) -> None:
    whole = made_model()
    check_objective(made(whole, pool=pool, **changes), whole, SPECS)


@pytest.mark.parametrize("training", [True, False])
def test_equals_cross_entropy(training: bool) -> None:
    """Smoothed in training only; samples without a label do not count."""
    whole = made_model()
    objective = made(whole, label_smoothing=0.2).train(training)
    batch = pictures([1, 1, 1, 1], [1, 0, 1, 1], [2, 0, 1, 0])
    logits = objective.logits(whole, batch)[[0, 2, 3]]
    target = torch.tensor([2, 1, 0])
    score = objective(whole, batch)
    expected = F.cross_entropy(logits, target, reduction="sum", label_smoothing=0.2 if training else 0.0)
    torch.testing.assert_close(score.loss_sum, expected)
    metrics = objective.metrics(score)
    assert metrics["loss"] == pytest.approx(expected.item() / 3)
    assert metrics["accuracy"] == pytest.approx((logits.argmax(-1) == target).float().mean().item())
    assert score.count.item() == 3


def test_accuracy_counts_what_is_labelled() -> None:
    whole = made_model()
    objective = made(whole)
    batch = pictures([1] * 5, [1] * 5, [0] * 5)
    predicted = objective.logits(whole, batch).argmax(-1).tolist()
    wrong = [(p + 1) % 3 for p in predicted]
    truth = predicted[:3] + wrong[3:]
    for labelled, accuracy in (([1] * 5, 3 / 5), ([1, 0, 1, 1, 0], 2 / 3), ([0, 0, 0, 1, 1], 0.0)):
        score = objective(whole, pictures([1] * 5, labelled, truth))
        assert objective.metrics(score)["accuracy"] == pytest.approx(accuracy)


def test_dropout_is_for_training() -> None:
    whole = made_model()
    objective, plain = made(whole, dropout=0.5), made(whole)
    objective.head.load_state_dict(plain.head.state_dict())
    batch = pictures([1, 1], [1, 1], [0, 1])
    assert objective.logits(whole, batch).equal(plain.logits(whole, batch))
    objective.train()
    assert not torch.allclose(objective.logits(whole, batch), plain.logits(whole, batch))


def test_examples_name_the_classes() -> None:
    whole = made_model()
    objective = made(whole)
    batch = pictures([1] * 3, [1] * 3, [0] * 3)
    predicted = objective.logits(whole, batch).argmax(-1).tolist()
    batch = pictures([1] * 3, [1, 1, 0], [predicted[0], (predicted[1] + 1) % 3, 0])
    names = SPECS["label"].class_names
    assert names is not None
    shown = [names[p] for p in predicted]
    assert objective.examples(whole, batch) == [
        Example(shown[0], shown[0], True),
        Example(shown[1], names[(predicted[1] + 1) % 3], False),
        Example(shown[2], "", None),
    ]
    nameless = made(whole, specs={**SPECS, "label": label_spec(3)})
    assert {example.truth for example in nameless.examples(whole, batch)} <= {"0", "1", "2", ""}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"label": "class"}, ValueError, "label=class names no part of the data; there is image, text, label"),
        ({"label": "image"}, InvalidValue, "label=image has no field 'class' or 'labels' with num_classes"),
        ({"label_smoothing": 1.0}, InvalidValue, r"label_smoothing=1.0 must lie in \[0, 1\)"),
        ({"pool": SummaryPool(name="text")}, ValueError, r"the set \[image, text\] has no summary token of that name"),
        ({"pool": SummaryPool(name="sound")}, ValueError, r"pool.name=sound: .*set modality.sound.summary=true"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made(made_model(), **changes)


def test_a_label_needs_classes() -> None:
    specs = {**SPECS, "label": Spec({"class": Field((), torch.long)})}
    with pytest.raises(InvalidValue, match="has no field 'class' or 'labels' with num_classes"):
        made(made_model(), specs=specs)


@pytest.mark.parametrize(("mixup", "passes"), [(0.0, 1), (0.4, 2)])
def test_shares_the_pass_of_other_objectives_unless_it_mixes(mixup: float, passes: int) -> None:
    whole, calls = model({"image": image()}), []
    whole.backbone.register_forward_hook(lambda *args: calls.append(args))
    labels = Batch({"label": {"class": torch.tensor([0, 1])}}, {"label": torch.tensor([1, 1])})
    batch = merge(image_batch([1, 1]), labels)
    with whole.sharing():
        for share in (0.0, mixup):
            objective = made(whole, mixup=share).train()
            objective(whole, objective.prepare(whole, batch, torch.Generator().manual_seed(0)))
    assert len(calls) == passes


def test_mixup_is_mixing_the_pixels_and_the_targets():
    torch.manual_seed(0)
    whole = model({"image": image(summary=True)}, backbone(positions=POSITIONS["learned"]))
    objective = made(whole, mixup=0.4).train()
    batch = merge(
        image_batch([1, 1, 1, 1]),
        Batch({"label": {"class": torch.tensor([0, 1, 2, 2])}}, {"label": torch.tensor([1, 1, 1, 0])}),
    )
    prepared = objective.prepare(whole, batch, torch.Generator().manual_seed(5))
    score, share = objective(whole, prepared), prepared["label"]["share"]
    assert share[0] == share[3] == 1.0  # the last has no label to share
    assert 0 < share[1] < 1 and 0 < share[2] < 1
    pixels = batch["image"]["pixels"].float()
    own = share[:, None, None, None]
    mixed = batch.with_name(
        "image", {"pixels": own * pixels + (1 - own) * pixels.flip(0)}, batch.lengths["image"], True
    )
    logits, target = objective.eval().logits(whole, mixed), batch["label"]["class"]
    loss = share * F.cross_entropy(logits, target, reduction="none")
    loss = loss + (1 - share) * F.cross_entropy(logits, target.flip(0), reduction="none")
    torch.testing.assert_close(score.loss_sum, loss[:3].sum())
    soft = share[:, None] * F.one_hot(target, 3) + (1 - share[:, None]) * F.one_hot(target.flip(0), 3)
    torch.testing.assert_close(score.loss_sum, F.cross_entropy(logits[:3], soft[:3], reduction="sum"))
    assert objective.prepare(whole, batch, torch.Generator()) is batch  # not in evaluation


def test_shares_of_mixup_follow_from_the_generator():
    """They are those of Beta(mixup, mixup): their mean is 1/2, their variance 1 / (4 (2 mixup + 1))."""
    whole = model({"image": image()})
    objective, ones = made(whole, mixup=0.4).train(), [1] * 2000
    labels = Batch({"label": {"class": torch.zeros(2000).long()}}, {"label": torch.tensor(ones)})
    batch = merge(image_batch(ones), labels)

    def shares(seed: int) -> Tensor:
        return objective.prepare(whole, batch, torch.Generator().manual_seed(seed))["label"]["share"]

    assert shares(0).equal(shares(0)) and not shares(0).equal(shares(1))
    assert shares(0).mean().item() == pytest.approx(0.5, abs=0.04)
    assert shares(0).var().item() == pytest.approx(1 / (4 * 1.8), abs=0.02)


def test_mixup_leaves_alone_who_has_other_names_than_its_partner():
    """A picture is not mixed with none, nor its target with that of somebody who has none."""
    whole = model({"image": image(), "other": image()})
    objective = made(whole, mixup=0.4).train()
    labels = Batch({"label": {"class": torch.zeros(6, dtype=torch.long)}}, {"label": torch.ones(6, dtype=torch.long)})
    batch = merge(image_batch([1, 0, 0, 0, 1, 1]), image_batch([1, 1, 1, 1, 1, 0], name="other"), labels)
    share = objective.prepare(whole, batch, torch.Generator().manual_seed(0))["label"]["share"]
    assert (share == 1).tolist() == [True, True, False, False, True, True]


def test_mixup_refuses_what_it_would_not_mix():
    tokenizers = {"image": image(), "other": image()}
    whole = model(tokenizers, backbone(cross_attention=True), encoder=backbone(seed=1), encode=["other"])
    with pytest.raises(InvalidValue, match="mixup=0.4 would not mix other, which is encoded"):
        made(whole, mixup=0.4)


def test_mixup_refuses_what_has_unequal_lengths():
    with pytest.raises(InvalidValue, match="mixup=0.4 .* text has unequal lengths"):
        made(made_model(), mixup=0.4)


# --- weights of classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_classes_have_the_mean_of_torch_in_parts_as_well(smoothing: float) -> None:
    """Whatever the micro-batches, of which one holds light classes alone."""
    whole = made_model()
    objective = made(whole, class_weights={"dog": 0.125, "owl": 3}, label_smoothing=smoothing).train()
    batch = pictures([1] * 5, [1, 0, 1, 1, 1], [2, 0, 1, 1, 0])
    logits, labelled = objective.logits(whole, batch), torch.tensor([0, 2, 3, 4])
    weights, target = torch.tensor([1, 0.125, 3]), batch["label"]["class"]
    expected = F.cross_entropy(logits[labelled], target[labelled], weight=weights, label_smoothing=smoothing)
    score = objective(whole, batch)
    assert score.count.item() == objective.count(batch).item() == 3 + 2 * 0.125 + 1
    assert score.mean_loss() == pytest.approx(expected.item())
    prepared = [{"classify": batch.select(part)} for part in (slice(0, 2), slice(2, 4), slice(4, 5))]
    learner = Learner(model=whole, objectives={"classify": objective}, specs=SPECS)
    counts = count_predictions(learner, prepared, torch.device("cpu"))
    losses = [normalised_loss(learner, learner(each), counts, 1) for each in prepared]
    assert torch.stack(losses).sum().item() == pytest.approx(expected.item())
    light = count_predictions(learner, prepared[1:2], torch.device("cpu"))
    alone = F.cross_entropy(logits[2:4], target[2:4], weight=weights, label_smoothing=smoothing)
    assert normalised_loss(learner, learner(prepared[1]), light, 1).item() == pytest.approx(alone.item())


def test_balanced_classes_are_weighted_as_scikit_learn_does() -> None:
    whole = made_model()
    objective = made(whole, class_weights="balanced")
    assert objective.fitted_names == ("label",) and made(whole).fitted_names == ()
    batches = [pictures([1] * 4, [1, 1, 1, 0], [0, 0, 1, 1]), pictures([1] * 3, [1] * 3, [2, 0, 0])]
    objective.fit(batches)
    expected = compute_class_weight("balanced", classes=numpy.arange(3), y=[0, 0, 1, 2, 0, 0])
    assert objective.class_weights is not None
    assert objective.class_weights.tolist() == pytest.approx(expected.tolist())
    given = made(whole, class_weights={"cat": 2.0}), made(whole)
    assert ["class_weights" in each.state_dict() for each in (objective, *given)] == [True, False, False]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"cow": 1}, "class_weights.cow=1 is of no class; "),
        ({"cat": -1.0}, "class_weights.cat=-1.0 must be a number of at least 0"),
        ({"cat": "much"}, "class_weights.cat=much must be a number of at least 0"),
        ({"cat": 0, "dog": 0, "owl": 0}, "class_weights=.* are all 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(made_model(), class_weights=weights)


# --- several labels ---------------------------------------------------------------------------------------------------

SEVERAL = {**SPECS, "label": labels_spec(("cat", "dog", "owl"))}


def tagged(labelled: list[int], labels: list[list[int]]) -> Batch:
    """Pictures with labels, or none at all."""
    batch = pictures([1] * len(labels), labelled, [0] * len(labels))
    return batch.with_name("label", {"labels": torch.tensor(labels).bool()}, torch.tensor(labelled))


@pytest.mark.parametrize(
    "changes", [{}, {"label_smoothing": 0.1}, {"class_weights": {"dog": 3.0}}], ids=["plain", "smooth", "weighted"]
)
def test_contract_of_several_labels(changes: dict[str, Any]) -> None:
    whole = made_model()
    check_objective(made(whole, specs=SEVERAL, **changes), whole, SEVERAL)


@pytest.mark.parametrize("weights", [None, {"cat": 2.0, "owl": 0.5}])
def test_several_labels_have_the_binary_cross_entropy_of_torch(weights: dict[str, float] | None) -> None:
    """A sample without any label counts; one that is not labelled does not."""
    whole = made_model()
    objective = made(whole, specs=SEVERAL, class_weights=weights)
    batch = tagged([1, 0, 1, 1], [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]])
    logits, truth = objective.logits(whole, batch)[[0, 2, 3]], batch["label"]["labels"][[0, 2, 3]].float()
    own = torch.tensor([2.0, 1.0, 0.5]) if weights else torch.ones(3)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    assert objective(whole, batch).mean_loss() == pytest.approx(((own * each).sum() / (3 * own.sum())).item())


def test_labels_are_measured_over_the_whole_split_and_all_ranks() -> None:
    """As scikit-learn does, which no mean over batches is. One batch has nothing to slice by."""
    torch.manual_seed(1)
    whole = made_model()
    objective = made(whole, specs={**SEVERAL, "kind": class_spec(("one", "two"))}, slices=["kind"])
    batches = []
    for seed, size in enumerate((7, 1, 5)):
        labels = (torch.rand(size, 3, generator=torch.Generator().manual_seed(seed)) < 0.4).long().tolist()
        batch = merge(tagged([0, *[1] * (size - 1)] if size > 1 else [1], labels), image_batch([1] * size, seed=seed))
        kinds = {"class": torch.arange(size) % 2}
        batches.append(batch.with_name("kind", kinds, torch.ones(size).long()) if size > 1 else batch)
    learner, sent = Learner(model=whole, objectives={"classify": objective}, specs=SEVERAL), []
    second = Evaluation(learner, "val", lambda value: sent.append(value) or [value])  # type: ignore[func-returns-value]
    second.add("", batches[:1])
    second.metrics(0.0)
    first = Evaluation(learner, "val", lambda value: [value, *sent])
    first.add("", batches[1:])
    metrics = first.metrics(0.0)
    real = torch.cat([batch.present("label") for batch in batches])
    kind = torch.cat([batch["kind"]["class"] if "kind" in batch else torch.tensor([-1]) for batch in batches])
    scores = torch.cat([objective.logits(whole, batch) for batch in batches]).detach()
    truth = torch.cat([batch["label"]["labels"] for batch in batches])
    for ending, members in (("", real), ("/kind=one", real & (kind == 0)), ("/kind=two", real & (kind == 1))):
        own, its = scores[members].numpy(), truth[members].numpy()
        occurs = its.any(0)
        assert metrics[f"val/mAP{ending}"] == pytest.approx(average_precision_score(its[:, occurs], own[:, occurs]))
        for average in ("micro", "macro"):
            expected = f1_score(its, own > 0, average=average, zero_division=numpy.nan)
            assert metrics[f"val/f1_{average}{ending}"] == pytest.approx(expected)
    assert set(metrics) == set(stage_directions(learner, "val", ["classify"]))
    assert set(objective.train().metrics(objective(whole, batches[0]))) == {"loss"}


def test_examples_name_all_labels() -> None:
    whole = made_model()
    objective = made(whole, specs=SEVERAL)
    batch = tagged([1, 1, 0], [[1, 0, 1], [0, 0, 0], [0, 0, 0]])
    objective.head.bias.data.copy_(torch.tensor([9.0, -9.0, 9.0]))
    assert objective.examples(whole, batch) == [
        Example("cat, owl", "cat, owl", True),
        Example("cat, owl", "none", False),
        Example("cat, owl", "", None),
    ]


def test_accuracy_of_slices() -> None:
    whole = made_model()
    objective = made(whole, specs={**SPECS, "kind": class_spec(("one", "two"))}, slices=["kind"])
    batch = pictures([1] * 4, [1, 1, 1, 0], [0, 1, 2, 2])
    batch = batch.with_name("kind", {"class": torch.tensor([0, 0, 1, 1])}, torch.tensor([1, 1, 1, 1]))
    right = (objective.logits(whole, batch).argmax(-1) == batch["label"]["class"]).float()
    metrics = objective.metrics(objective(whole, batch))
    assert metrics["accuracy/kind=one"] == right[:2].mean().item()
    assert metrics["accuracy/kind=two"] == right[2].item()
