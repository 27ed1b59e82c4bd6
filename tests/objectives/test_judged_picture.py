"""Pictures in codes that a judge rewards: against all pictures that there are, enumerated."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, label_spec, model, series, text, text_spec
from small_codec import small_codec, small_codes
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.codes.pixels import Pictures
from mmtx.data.specs import text_spec as spec_of
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.modalities.codes import Codes
from mmtx.objectives.judged_picture import JudgedPicture
from mmtx.objectives.log_probabilities import log_probabilities
from mmtx.objectives.policy_gradient import PolicyGradient
from mmtx.objectives.text_rollouts import ROLLOUTS

VOCABULARY = small_codes(small_codec(Pictures(shape=(1, 2, 4), scale=255.0)))  # two codes of nine
MARK = 9


class Sums:
    """A judge whose class of a picture follows from the sum of its bytes."""

    label = "label"

    def classes(self, pixels: Tensor) -> Tensor:
        assert pixels.shape[1:] == (1, 2, 4) and pixels.dtype == torch.uint8
        return pixels.long().flatten(1).sum(1) % 5


def learner(judge: Sums | None, **changes: Any) -> Learner:
    torch.manual_seed(0)
    specs = {"label": label_spec(), "codes": spec_of(VOCABULARY, VOCABULARY.num_tokens)}
    codes = Codes(spec=specs["codes"], dim=24, clock=None, causal=True)
    whole = model(
        {"label": series(specs["label"], clock=None), "codes": codes}, backbone(positions=POSITIONS["learned"])
    )
    for parameter in codes.parameters():  # so that some codes are much likelier than others
        torch.nn.init.normal_(parameter, std=0.3)
    objective = policy_gradient(whole, specs, **changes)
    if judge is not None:
        objective.judged["judge"].judge_by(judge)
    own = Learner(model=whole, objectives={"own": objective}, specs=specs).eval()
    own.freeze_reference()
    return own


def policy_gradient(whole: Any, specs: dict[str, Spec], **changes: Any) -> PolicyGradient:
    keys: dict[str, Any] = {
        "weight": 1.0,
        "text": "codes",
        "rewards": {"judge": JudgedPicture(judge="run", weight=1.0)},
    }
    keys |= {"method": "rloo", "group": 1000, "max_new_tokens": None, "beta": 0.0, "logit_scale": 1.0, "softcap": None}
    return PolicyGradient(specs=specs, model=whole, **{**keys, **changes})


def of_class(number: int, codes: Tensor, is_there: bool = True) -> Batch:
    """Samples of a class, with these codes behind the mark."""
    count = len(codes)
    ids = torch.cat([torch.full((count, 1), MARK), codes], 1)
    lengths = {"label": torch.full((count,), int(is_there)), "codes": torch.full((count,), 3)}
    return Batch({"label": {"class": torch.full((count,), number)}, "codes": {"ids": ids}}, lengths)


def drawn(own: Learner, batch: Batch) -> Batch:
    return own.prepare(batch, torch.Generator().manual_seed(0))["own"]


def test_the_mean_reward_is_that_of_all_pictures() -> None:
    own, every = learner(Sums()), torch.tensor(list(itertools.product(range(9), repeat=2)))
    objective: Any = own.objective("own")
    right = Sums().classes(VOCABULARY.decoded(every)) == 3
    chance = log_probabilities(own.model, objective.head, of_class(3, every))[0].sum(1).exp()
    exact, one = float((chance.detach() * right).sum()), drawn(own, of_class(3, every[:1]))
    assert chance.sum().item() == pytest.approx(1, abs=1e-5) and 0.1 < exact < 0.9
    metrics = objective.metrics(objective(own.model, one))
    assert metrics["reward"] == metrics["reward_judge"] == pytest.approx(exact, abs=4 * (exact / 1000) ** 0.5)
    ids, rewards = one[ROLLOUTS]["ids"][0], one[ROLLOUTS]["reward/judge"][0]
    assert (ids[:, 0] == MARK).all() and len(ids.unique(dim=0)) > 10, "whole pictures are drawn"
    assert rewards.equal((Sums().classes(VOCABULARY.decoded(ids[:, 1:])) == 3).float())


def test_what_cannot_be_judged() -> None:
    """A sample without the class has no reward; of a model that was only loaded none is known."""
    codes = torch.zeros(1, 2, dtype=torch.long)
    assert drawn(learner(Sums(), group=20), of_class(3, codes, is_there=False))[ROLLOUTS]["reward/judge"].eq(0).all()
    assert drawn(learner(None, group=2), of_class(3, codes))[ROLLOUTS]["reward/judge"].isnan().all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="max_new_tokens=1 must be at least 2"):
        learner(Sums(), max_new_tokens=1)
    with pytest.raises(UserError, match="judge=None is no place of a run"):
        JudgedPicture(judge=None, weight=1.0)
    specs = {"text": text_spec()}
    with pytest.raises(UserError, match="'text' is no picture"):
        policy_gradient(model({"text": text()}), specs, text="text")
