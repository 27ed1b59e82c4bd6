"""Classes by their descriptions: what counts, and what cannot be. Equal numbers are in `interop/test_evaluating.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    backbone,
    batch_of,
    image,
    image_batch,
    image_spec,
    label_spec,
    merge,
    model,
    text,
    text_spec,
)

from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.contrastive import Contrastive
from mmtx.run.zero_shot import describe_classes

SPECS = {"image": image_spec(), "text": text_spec(11, 20, Letters())}
DATA = {"image": image_spec(), "label": label_spec(3, ("ab", "bad", "c"))}


def learner() -> Learner:
    torch.manual_seed(0)
    whole = model({"image": image(), "text": text(SPECS["text"])}, backbone(positions=POSITIONS["learned"]))
    keys: dict[str, Any] = {"weight": 1.0, "label": None, "size": 8, "temperature": 0.5}
    contrastive = Contrastive(specs=SPECS, model=whole, first="image", second="text", **keys)
    return Learner(model=whole, objectives={"contrastive": contrastive}, specs=SPECS).eval()


def test_samples_without_a_class_do_not_count() -> None:
    ours, labels = learner(), batch_of({"label": {"class": torch.tensor([0, 2, 1])}}, {"label": [1, 0, 1]})
    assert describe_classes(ours, DATA, ["a{}", "{}"]) == "text"
    batch = merge(image_batch([1, 1, 1]), labels)
    scores = ours(batch)
    assert scores.keys() == {"zero_shot"}
    objective, score = ours.objective("zero_shot"), scores["zero_shot"]
    logits = objective.logits(ours.model, batch)
    right = (logits.argmax(1) == torch.tensor([0, 2, 1]))[[0, 2]]
    assert objective.metrics(score)["accuracy"] == pytest.approx(right.double().mean().item())
    assert score.count == objective.count(batch) == 2
    assert [example.truth for example in objective.examples(ours.model, batch)] == ["ab", "", "bad"]
    torch.testing.assert_close(objective.class_vectors(ours.model).norm(dim=1), torch.ones(3))
    assert "zero_shot" not in " ".join(ours.state_dict()), "it has no weights of its own"


@pytest.mark.parametrize(
    ("data", "prompts", "message"),
    [
        (DATA, ["a cat"], r"has no {} for the name of a class in 'a cat'"),
        (DATA, [], "is empty"),
        ({"image": image_spec()}, ["a{}"], "needs data with one name that has classes; it has image"),
        (
            {**DATA, "other": label_spec(2, ("a", "b"))},
            ["a{}"],
            "one name that has classes; it has image, label, other",
        ),
    ],
)
def test_what_cannot_be_described(data: Any, prompts: list[str], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        describe_classes(learner(), data, prompts)


def test_a_run_that_compares_no_texts_has_nothing_to_describe_to() -> None:
    ours = learner()
    del ours.objectives["contrastive"]
    with pytest.raises(InvalidValue, match="this run has no objective=.contrastive. of a text and another name"):
        describe_classes(ours, DATA, ["a{}"])
