"""Stages: what is not trained at a step stays bit for bit, and is trained afterwards."""

from __future__ import annotations

import pytest
import torch
from builders import Letters, backbone, image, image_batch, merge, model, seq2seq, text, text_batch, text_spec

from mmtx.encoded import Encoded
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.nn.linear_projector import LinearProjector
from mmtx.parts import patterns_of
from mmtx.training.stages import Stages, check_stages


def composed() -> Learner:
    own, spec = image(dim=16), text_spec(vocabulary=Letters())
    projector = LinearProjector(from_dim=16, dim=24, extent=own.extent)
    stack = backbone(seed=3, dim=16)
    tokenizer = Encoded(name="image", tokenizer=own, encoder=stack, projector=projector, type_embedding=True)
    whole = model({"image": tokenizer, "text": text(spec)})
    specs = {"text": spec, "image": own.spec}
    return Learner(model=whole, objectives={"seq2seq": seq2seq(whole, specs)}, specs=specs).train()


def test_a_stage_trains_what_it_names_and_nothing_else() -> None:
    learner, batch = composed(), merge(image_batch([1, 1]), text_batch([5, 4]))
    stages = Stages(
        [{"steps": 1, "train": ["image.projector"]}, {"steps": 1, "train": ["image", "role:gain"]}], learner
    )
    optimizer = torch.optim.AdamW(learner.parameters(), lr=0.1, weight_decay=0.5)
    moved = []
    for step in range(3):
        before = {name: p.detach().clone() for name, p in learner.named_parameters()}
        optimizer.zero_grad()
        learner(batch)["seq2seq"].loss_sum.backward()
        stages.rest(step)
        optimizer.step()
        moved.append({name for name, p in learner.named_parameters() if not torch.equal(p, before[name])})
    projector = {f"model.tokenizers.image.projector.out.{key}" for key in ("weight", "bias")}
    assert moved[0] == projector
    own = {n for n in before if "image" in n} | {n for n in before if n.endswith(("norm.weight", "bias.gain"))}
    assert projector < moved[1] <= own
    assert moved[2] >= {n for n in before if n.startswith("model.backbone.blocks") and n.endswith("weight")}


def test_words_stand_for_parts_and_roles() -> None:
    learner = composed()
    names = [name for name, _ in learner.named_parameters()]
    assert patterns_of(learner, "image.projector") == ["model.tokenizers.image.projector.*"]
    inner = {name for name in names if name.startswith("model.tokenizers.image.") and ".projector.out" not in name}
    assert {*patterns_of(learner, "image.encoder")} == inner
    assert patterns_of(learner, "text") == ["model.tokenizers.text.*", "model.type_embeddings.text"]
    assert patterns_of(learner, "model.backbone.*") == ["model.backbone.*"]
    assert all("norm" in name for name in patterns_of(learner, "role:gain"))


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        ({"steps": 0, "train": ["image"]}, "must be a number of steps above 0"),
        ({"steps": 2}, "has to name steps and what it trains"),
        ({"steps": 2, "train": []}, "has to name steps and what it trains"),
    ],
)
def test_a_stage_is_steps_of_something(stage: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem):
        check_stages([stage])


def test_a_word_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"stages\[0\].train=role:filter is of no parameter that learns"):
        Stages([{"steps": 1, "train": ["role:filter"]}], composed())
