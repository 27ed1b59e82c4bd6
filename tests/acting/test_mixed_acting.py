"""A model that has learnt from several datasets acts in the environment of one."""

from __future__ import annotations

import torch
from builders import POSITIONS, action, backbone, model, series, text, text_spec
from toy_environment import ALL, SPECS, Toy, made_learner

from mmtx.acting.policy_eval import acting_objective, play
from mmtx.data.renamed_source import rename_source
from mmtx.learner import Learner
from mmtx.nn.positions import Learned
from mmtx.tokens import Clock

NEW = {"action": "move", "state": "seen"}


def learner_of(names: list[str], specs: dict, **changes: object) -> Learner:
    """As `made_learner` of tests/toy_environment.py, under other names or with more of them."""
    torch.manual_seed(0)
    tokenizers = {n: series(specs[n]) if "times" in specs[n].fields else text(specs[n]) for n in names}
    body = backbone(positions=POSITIONS["learned"], init_std=0.6)
    whole = model(tokenizers, body, clocks={"step": Clock(embedding=Learned)})
    objective = action(whole, specs, val_episodes=5, test_episodes=7, **changes)
    return Learner(model=whole, objectives={"act": objective}, specs=specs).eval()


def test_names_of_a_environment_may_be_others() -> None:
    source = rename_source(Toy(), NEW)
    names = [NEW.get(name, name) for name in ALL]
    there = learner_of(names, dict(source.specs), action="move", read="seen", target_returns=[4.0])
    assert play(there, source, "test") == play(made_learner(target_returns=[4.0]), Toy(), "test")


def test_names_of_other_data_are_not_in_the_set() -> None:
    specs = {"prose": text_spec(max_length=6), **SPECS}
    learner = learner_of(["prose", *ALL], specs, target_returns=[4.0])
    used: set[str] = set()
    tokenize = learner.model.tokenize
    learner.model.tokenize = lambda batch: (used.update(batch.fields), tokenize(batch))[1]  # type: ignore
    played = play(learner, Toy(), "test")
    assert len(played[0]) == 7 and used == set(ALL)


def test_each_environment_has_its_own_objective() -> None:
    source = rename_source(Toy(), NEW)
    specs = {**SPECS, **source.specs}
    whole = learner_of([*ALL, "seen", "move"], specs)
    moves = action(whole.model, specs, action="move", read="seen")
    both = Learner(model=whole.model, objectives={"act": whole.objective("act"), "moves": moves}, specs=specs)
    assert acting_objective(both, source) is moves
    assert acting_objective(both, Toy()) is both.objective("act")
