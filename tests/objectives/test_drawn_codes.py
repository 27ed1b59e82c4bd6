"""Pictures in codes, drawn in order and in any order, follow the model's own probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import POSITIONS, Letters, backbone, label_spec, model, series, text, text_spec
from small_codec import small_codec, small_codes

from mmtx.batch import Batch, fake_batch
from mmtx.data.specs import text_spec as spec_of
from mmtx.decoding.sampling import Sampling
from mmtx.decoding.unmask import Unmasking
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.modalities.codes import Codes
from mmtx.objectives.base import Objective
from mmtx.objectives.masked_diffusion import MaskedDiffusion
from mmtx.objectives.next_token import NextToken

WAYS = ["next_token", "masked_diffusion"]
BEGIN = 9


def learner(way: str) -> Learner:
    torch.manual_seed(0)
    vocabulary = small_codes(small_codec(patch=(4, 4)))  # four codes
    specs = {"label": label_spec(), "codes": spec_of(vocabulary, vocabulary.num_tokens)}
    codes = Codes(spec=specs["codes"], dim=24, clock=None, causal=way == "next_token")
    whole = model(
        {"label": series(specs["label"], clock=None), "codes": codes}, backbone(positions=POSITIONS["learned"])
    )
    for parameter in codes.parameters():  # so that some codes are much likelier than others
        torch.nn.init.normal_(parameter, std=0.5)
    return Learner(model=whole, objectives={way: objective(way, whole, specs, "codes")}, specs=specs).eval()


def objective(way: str, whole: Any, specs: Any, name: str) -> Objective:
    if way == "next_token":
        keys: dict[str, Any] = {"tied": True, "logit_scale": 1.0, "label_smoothing": 0.0}
        return NextToken(specs=specs, model=whole, weight=1.0, text=name, **keys)
    keys = {"names": [name], "block_size": None, "mask": None, "tied": True}
    return MaskedDiffusion(specs=specs, model=whole, weight=1.0, **keys)


def of_class(number: int, count: int) -> Batch:
    present = torch.ones(count, dtype=torch.long)
    return Batch({"label": {"class": torch.full((count,), number)}}, {"label": present}, {"label": True})


def drawn(own: Learner, way: str, number: int, count: int, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return own.objective(way).draw_codes(own.model, of_class(number, count), generator, count, **options)


def test_the_first_code_has_the_probability_that_the_model_gives_it() -> None:
    own, count = learner("next_token"), 4000
    ids = drawn(own, "next_token", 3, count)
    first = of_class(3, 1).with_name("codes", {"ids": torch.tensor([[BEGIN]])}, torch.tensor([1]), full=True)
    expected = own.objective("next_token").outputs(own.model, first)["logits"][0, -1].softmax(-1)
    found = ids[:, 0].bincount(minlength=10) / count
    assert ids.shape == (count, 4) and float((found - expected).abs().max()) < 4 * 0.5 / count**0.5


def test_the_best_codes_are_those_of_a_plain_loop() -> None:
    own = learner("next_token")
    found = drawn(own, "next_token", 2, 2, sampling=Sampling(temperature=0.0))
    ids = [BEGIN]
    for _ in range(4):
        given = of_class(2, 1).with_name("codes", {"ids": torch.tensor([ids])}, torch.tensor([len(ids)]), full=True)
        ids.append(int(own.objective("next_token").outputs(own.model, given)["logits"][0, -1].argmax()))
    assert found.tolist() == [ids[1:]] * 2


def test_in_any_order_with_all_at_once_it_is_the_models_own_distribution() -> None:
    own, count = learner("masked_diffusion"), 4000
    ids = drawn(own, "masked_diffusion", 3, count, unmasking=Unmasking(num_steps=1))
    whole = torch.tensor([[BEGIN, 0, 0, 0, 0]])
    given = of_class(3, 1).with_name(
        "codes", {"ids": whole, "masked": torch.tensor([[False] + [True] * 4])}, torch.tensor([5]), full=True
    )
    (expected,) = own.objective("masked_diffusion").logits(own.model, given)["codes"].softmax(-1)
    for place in range(4):
        found = ids[:, place].bincount(minlength=10) / count
        assert float((found - expected[1 + place]).abs().max()) < 4 * 0.5 / count**0.5


@pytest.mark.parametrize("way", WAYS)
def test_the_mark_is_never_drawn_and_what_was_there_is_not_read(way: str) -> None:
    own = learner(way)
    batch = fake_batch(own.specs, 20, ragged=False)
    other = batch.with_values("codes", ids=torch.zeros_like(batch["codes"]["ids"]))
    one, same = (
        own.objective(way).draw_codes(own.model, each, torch.Generator().manual_seed(0), 20) for each in (batch, other)
    )
    assert one.equal(same) and int(one.max()) < BEGIN
    score = own(batch)[way]
    assert "bytes" not in score.stats and "bits_per_byte" not in own.objective(way).metrics(score.totals())


@pytest.mark.parametrize("way", WAYS)
def test_codes_may_be_alone_in_the_set(way: str) -> None:
    vocabulary = small_codes(small_codec(patch=(4, 4)))
    specs = {"codes": spec_of(vocabulary, vocabulary.num_tokens)}
    codes = Codes(spec=specs["codes"], dim=24, clock=None, causal=way == "next_token")
    whole = model({"codes": codes}, backbone(positions=POSITIONS["learned"])).eval()
    ids = objective(way, whole, specs, "codes").draw_codes(whole, Batch({}, {}), torch.Generator().manual_seed(0), 3)
    assert ids.shape == (3, 4) and int(ids.max()) < BEGIN


@pytest.mark.parametrize("way", WAYS)
def test_a_text_is_no_picture(way: str) -> None:
    specs = {"text": text_spec(vocabulary=Letters())}
    whole = model({"text": text(specs["text"], causal=way == "next_token")}, backbone(positions=POSITIONS["learned"]))
    made = objective(way, whole, specs, "text")
    with pytest.raises(UserError, match="'text' is a text"):
        made.draw_codes(whole, fake_batch(specs, 2), torch.Generator(), 2)
