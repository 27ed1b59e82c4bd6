"""Classification of whole samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import POSITIONS, backbone, image, image_batch, image_spec, label_spec, merge, model, text, text_spec
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example
from mmtx.objectives.classify import Classify
from mmtx.objectives.pooling import FirstPool, MeanPool, SummaryPool

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
        ({"label": "image"}, InvalidValue, "label=image has no field 'class' with num_classes"),
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
    with pytest.raises(InvalidValue, match="has no field 'class' with num_classes"):
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
