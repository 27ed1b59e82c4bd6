"""What belongs together is found."""

import math

import pytest
import torch
import torch.nn.functional as F
from builders import (
    POSITIONS,
    audio,
    audio_batch,
    audio_spec,
    backbone,
    batch_of,
    encoder_decoder,
    image,
    image_batch,
    image_spec,
    label_spec,
    merge,
    model,
    text,
)
from contracts import check_needs, check_predictions

from mmtx.batch import fake_batch
from mmtx.data.collate import collate
from mmtx.errors import InvalidValue
from mmtx.objectives.base import Example
from mmtx.objectives.contrastive import Contrastive
from mmtx.objectives.pair_losses import SigmoidLoss
from mmtx.objectives.pooling import SummaryPool

SPECS = {"image": image_spec(), "audio": audio_spec(), "label": label_spec(3, ("cat", "dog", "owl"))}


def made_model(names=("image", "audio"), seed=0):
    torch.manual_seed(seed)
    tokenizers = {"image": image(), "audio": audio()}
    return model({name: tokenizers[name] for name in names}, backbone(positions=POSITIONS["learned"]))


def made(whole, **changes):
    torch.manual_seed(1)
    keys = {"weight": 1.0, "first": "image", "second": "audio", "label": None, "size": 8, "temperature": 0.07}
    return Contrastive(specs=SPECS, model=whole, **{**keys, **changes}).eval()


def pairs(present=(1, 1, 1, 1, 1), lengths=(100, 64, 128, 90, 80), classes=(0, 1, 2, 1, 0), labelled=(1, 1, 1, 1, 1)):
    labels = batch_of({"label": {"class": torch.tensor(classes)}}, {"label": list(labelled)})
    return merge(image_batch(list(present)), audio_batch(list(lengths)), labels)


def vectors(objective, whole, batch):
    return objective.vectors(whole, batch, "image"), objective.vectors(whole, batch, "audio")


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_the_symmetric_cross_entropy_of_clip(temperature):
    whole, batch = made_model(), pairs()
    objective = made(whole, temperature=temperature)
    one, other = vectors(objective, whole, batch)
    logits, target = one @ other.T / temperature, torch.arange(5)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    score = objective(whole, batch)
    assert score.count == objective.count(batch) == 5
    assert objective.metrics(score)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("label", [None, "label"])
def test_predictions(label):
    whole = made_model()
    objective = made(whole, label=label)
    for batch in (pairs(), pairs(present=(1, 0, 1, 1, 1), lengths=(100, 64, 0, 0, 80)), collate([], SPECS, size=2)):
        check_predictions(objective, whole, batch)


def test_neither_hears_the_other():
    """A vector is the same as in a model that has no other name."""
    whole, batch = made_model(), pairs()
    objective = made(whole)
    for name in ("image", "audio"):
        alone = made_model([name])
        alone.load_state_dict(whole.state_dict(), strict=False)
        hidden = objective.pools[name](alone(batch))
        expected = F.normalize(objective.projections[name](hidden), dim=1)
        torch.testing.assert_close(objective.vectors(whole, batch, name), expected)


def test_who_lacks_one_takes_no_part():
    whole = made_model()
    objective = made(whole)
    partly = pairs(present=(1, 0, 1, 1, 1), lengths=(100, 64, 128, 0, 80))
    score, subset = objective(whole, partly), objective(whole, partly.select(torch.tensor([0, 2, 4])))
    assert score.count == 3
    torch.testing.assert_close(score.vector(), subset.vector())
    assert objective.examples(whole, partly)[1] == Example("", "")


@pytest.mark.parametrize("label", ["label", None])
def test_needs_both_names_and_its_label(label):
    whole = made_model()
    check_needs(made(whole, label=label), whole, fake_batch(SPECS, 5))


def test_where_nobody_has_both_the_loss_is_zero_and_all_parameters_stay():
    whole = made_model()
    objective = made(whole).train()
    for batch in (collate([], SPECS, size=3), pairs(present=(0,) * 5), pairs(lengths=(0,) * 5)):
        score = objective(whole, batch)
        assert score.count == score.loss_sum == 0
        score.loss_sum.backward()
    for parameter in (*whole.parameters(), *objective.parameters()):
        assert parameter.grad is not None and parameter.grad.isfinite().all() and not parameter.grad.any()


def test_samples_of_one_class_are_no_negatives():
    whole, batch = made_model(), pairs(labelled=(1, 1, 1, 1, 0))
    objective = made(whole, label="label")
    one, other = vectors(objective, whole, batch)
    alike = {(1, 3), (3, 1)}  # the last looks like the first, without a label
    logits, expected = (one @ other.T / 0.07).tolist(), 0.0
    for i in range(5):
        for row in (logits[i], [logits[j][i] for j in range(5)]):
            candidates = [math.exp(value) for j, value in enumerate(row) if (i, j) not in alike]
            expected += -math.log(math.exp(row[i]) / sum(candidates)) / 2
    assert float(objective(whole, batch).loss_sum.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("label", [None, "label"])
def test_recall_counts_who_is_found(label):
    whole = made_model()
    batch = pairs((1,) * 9, (90,) * 8 + (0,), [0, 1, 2, 0, 1, 2, 0, 1, 2], (1,) * 9)
    objective = made(whole, label=label)
    rows, classes = objective.similarities(whole, batch).tolist(), batch["label"]["class"].tolist()
    metrics = objective.metrics(objective(whole, batch))
    for name, table in (("image_to_audio", rows), ("audio_to_image", [list(row) for row in zip(*rows, strict=True)])):
        for rank in (1, 5):
            found = 0
            for i in range(8):
                nearest = sorted(range(8), key=lambda j: -table[i][j])[:rank]  # noqa: B023
                found += any(j == i or (label and classes[j] == classes[i]) for j in nearest)
            assert metrics[f"{name}/recall@{rank}"] == pytest.approx(found / 8)
    mean = (metrics["image_to_audio/recall@1"] + metrics["audio_to_image/recall@1"]) / 2
    assert metrics["recall@1"] == pytest.approx(mean)


def test_it_learns_to_find(unchecked):
    whole, batch = made_model(), pairs()
    objective = made(whole).train()
    optimizer = torch.optim.Adam([*whole.parameters(), *objective.parameters()], lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        (objective(whole.train(), batch).loss_sum / 5).backward()
        assert all(p.grad is not None for p in (*whole.parameters(), *objective.parameters()))
        optimizer.step()
    metrics = objective.eval().metrics(objective(whole.eval(), batch))
    assert metrics["recall@1"] == 1 and metrics["loss"] < 0.2
    assert all(example.right for example in objective.examples(whole, batch))


def test_the_temperature_has_an_end():
    whole, batch = made_model(), pairs()
    objective = made(whole, temperature=0.01)
    sharpest = objective(whole, batch).loss_sum
    with torch.no_grad():
        objective.log_scale += 1
    torch.testing.assert_close(objective(whole, batch).loss_sum, sharpest)


def test_no_parameter_is_a_scalar_which_fsdp_cannot_shard_and_older_states_load():
    objective = made(made_model(), temperature=0.5)
    assert all(parameter.dim() for parameter in objective.parameters())
    state = {key: value.clone() for key, value in objective.state_dict().items()}
    other = made(made_model(), temperature=0.07)
    other.load_state_dict({**state, "log_scale": state["log_scale"][0]})
    assert other.log_scale.equal(objective.log_scale)


def test_examples_name_classes():
    whole, batch = made_model(), pairs()
    for label, names in ((None, [f"sample {i}" for i in range(5)]), ("label", ["cat", "dog", "owl", "dog", "cat"])):
        objective = made(whole, label=label)
        nearest = objective.similarities(whole, batch).argmax(1).tolist()
        expected = [Example(names[j], names[i], names[i] == names[j]) for i, j in enumerate(nearest)]
        assert objective.examples(whole, batch) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "view"}, "first=view names no modality of the set; there is image, audio"),
        ({"second": "image"}, "second=image is the first, too"),
        ({"label": "class"}, "label=class names no part of the data"),
        ({"label": "image"}, "label=image has no field 'class'"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0 must lie in"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(made_model(), **changes)


def test_nobody_else_may_be_in_the_set():
    with pytest.raises(InvalidValue, match="are run alone, without text; take it out of the set"):
        made(model({"image": image(), "audio": audio(), "text": text()}, backbone()))


def test_both_are_heard_alike():
    with pytest.raises(InvalidValue, match="second=audio is sent through the encoder"):
        made(encoder_decoder({"image": image(), "audio": audio()}, ["audio"]))


def test_two_towers_of_two_widths():
    """Each name is pooled in its own way, from its own stack."""
    tokenizers = {"image": image(dim=24, summary=True), "audio": audio(dim=16)}
    stacks = {"encoder": backbone(dim=24), "encode": ["image"], "towers": True}
    whole, batch = model(tokenizers, backbone(dim=16), **stacks), pairs()
    objective = made(whole, first_pool=SummaryPool(name="image"))
    states = whole(batch)
    one = F.normalize(objective.projections["image"](states.summaries("image")[:, 0]), dim=1)
    torch.testing.assert_close(objective.vectors(whole, batch, "image"), one)
    assert objective.vectors(whole, batch, "audio").shape == (5, 8)


def test_the_sigmoid_loss_asks_of_each_pair_whether_it_matches():
    """By loops; who lacks a name is in no pair, and samples of one class match."""
    whole, batch = made_model(), pairs(present=(1, 1, 0, 1, 1))
    objective = made(whole, loss=SigmoidLoss(bias=-1.0), temperature=0.5, label="label")
    one, other = vectors(objective, whole, batch)
    classes, total = (0, 1, 2, 1, 0), 0.0
    for i in (0, 1, 3, 4):
        for j in (0, 1, 3, 4):
            logit = 2 * float(one[i] @ other[j]) - 1
            total += math.log1p(math.exp(-logit if classes[i] == classes[j] else logit))
    assert objective.metrics(objective(whole, batch))["loss"] == pytest.approx(total / 4, rel=1e-5)


def test_a_vector_without_a_linear_map():
    whole, batch = made_model(), pairs()
    objective = made(whole, size=24, projected=["audio"], projection_bias=True)
    pooled = objective.first_pool(whole.run(whole.tokenize(batch, ["image"])))
    torch.testing.assert_close(objective.vectors(whole, batch, "image"), F.normalize(pooled, dim=1))
    assert sorted(objective.projections.state_dict()) == ["audio.bias", "audio.weight"]
    with pytest.raises(InvalidValue, match=r"projected=\['audio'\] leaves image 24 wide, not 8"):
        made(whole, projected=["audio"])
    with pytest.raises(InvalidValue, match="names text"):
        made(whole, projected=["text"])
