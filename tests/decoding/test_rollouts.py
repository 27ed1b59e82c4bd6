"""Roll-outs in a toy environment: the history that a model sees, and cached acting."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from builders import KINDS, label_spec, series_spec
from torch import Tensor
from toy_environment import (
    ALL,
    CONTEXT,
    MAX_STEPS,
    SCALE,
    SEEDS,
    SPECS,
    TARGETS,
    VECTORS,
    Counter,
    Toy,
    actions_of,
    made,
    rolled,
    steps_of,
    with_length,
)

from mmtx.acting.policy_eval import play_metrics
from mmtx.batch import Sample, Spec
from mmtx.data.collate import collate
from mmtx.decoding.history import History
from mmtx.decoding.rollouts import roll_out
from mmtx.decoding.step_decoder import StepDecoder
from mmtx.environment import Outcome
from mmtx.errors import UserError
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.mamba2 import Mamba2
from mmtx.nn.min_gru import MinGRU
from mmtx.tokens import HiddenStates, TokenSet


def check_close(actual: list[Any], expected: list[Any]) -> None:
    """Classes equal; numbers up to what another size of batch changes."""
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), atol=1e-3, rtol=1e-3)


def test_an_episode_is_what_came_of_its_actions() -> None:
    """Earned, length and success, replayed by hand."""
    episodes, environment, _ = rolled()
    assert len({tuple(actions_of(environment, i)) for i in range(len(SEEDS))}) > 3, "actions differ"
    for index, (seed, episode) in enumerate(zip(SEEDS, episodes, strict=True)):
        number, earned, right = seed % 3, 0, False
        for taken in actions_of(environment, index):
            right = taken % 2 == number % 2
            earned, number = earned + right, number + 1 + taken
        assert (episode.length, episode.earned, episode.success) == (steps_of(seed), earned, right)
        assert episode.target_return == TARGETS[index]
    assert {episode.success for episode in episodes} == {True, False}, "the weights of this test give both"
    assert len(environment.taken) == max(steps_of(seed) for seed in SEEDS), "it ends with the last episode"


@pytest.mark.parametrize("temperature", [0.0, 20.0])
@pytest.mark.parametrize("specs", [SPECS, VECTORS], ids=["classes", "vectors"])
def test_an_episode_does_not_depend_on_those_beside_it(specs: dict[str, Spec], temperature: float) -> None:
    """Nor on when they end: together, alone, and among others in another order."""
    together, environment, _ = rolled(specs=specs, temperature=temperature)
    order = [4, 2, 0]
    some, other, _ = rolled(
        [SEEDS[i] for i in order], [TARGETS[i] for i in order], specs=specs, temperature=temperature
    )
    for index, (seed, target) in enumerate(zip(SEEDS, TARGETS, strict=True)):
        (alone,), own, _ = rolled([seed], [target], specs=specs, temperature=temperature)
        assert alone == together[index]
        check_close(actions_of(own, 0), actions_of(environment, index))
        if index in order:
            assert some[order.index(index)] == together[index]
            check_close(actions_of(other, order.index(index)), actions_of(environment, index))


def test_what_is_drawn_follows_from_the_seed_of_the_episode() -> None:
    """The same again, whatever the global generator has been through; other than the best; and other seeds differ."""
    first, environment, _ = rolled(temperature=20.0)
    torch.rand(7)
    again, other, _ = rolled(temperature=20.0)
    assert again == first
    assert [actions_of(other, i) for i in range(6)] == [actions_of(environment, i) for i in range(6)]
    greedy = rolled()[1]
    assert [actions_of(greedy, i) for i in range(6)] != [actions_of(environment, i) for i in range(6)]
    # 60 apart: the same environment, other draws
    episodes, twice, _ = rolled([5, 65], [1.0, 1.0], temperature=20.0)
    assert steps_of(5) == steps_of(65) and actions_of(twice, 0) != actions_of(twice, 1)


def test_the_first_action_follows_from_the_first_observation_alone() -> None:
    """Two episodes of one environment with different target returns differ."""
    other = rolled([5, 5], [0.0, 40.0])[1]
    same = rolled([5, 5], [4.0, 4.0])[1]
    assert actions_of(same, 0) == actions_of(same, 1)
    assert actions_of(other, 0) != actions_of(other, 1)


def test_the_batch_is_the_window_up_to_now() -> None:
    """The return to go; the reward of the step before; the states; actions before this step."""
    episodes, environment, seen = rolled()
    replay = Counter()
    observation, _ = replay.reset(SEEDS)
    states, to_go, rewards = [torch.stack([o["state"]["values"] for o in observation])], [torch.tensor(TARGETS)], []
    rewards.append(torch.zeros(len(SEEDS)))
    for taken in environment.taken:
        outcome = replay.step(taken)
        states.append(torch.stack([o["state"]["values"] for o in outcome.observation]))
        to_go.append(to_go[-1] - outcome.reward)
        rewards.append(outcome.reward)
    assert len(seen) == 7
    for step, batch in enumerate(seen):
        acting = [i for i, seed in enumerate(SEEDS) if steps_of(seed) > step]
        first = max(0, step + 1 - CONTEXT)
        count = step + 1 - first
        times = [list(range(first, step + 1))] * len(acting)
        assert len(batch) == len(acting), "episodes that are over are left out"
        for name, values in (("return", to_go), ("reward", rewards), ("state", states)):
            expected = torch.stack(values[first : step + 1], 1)[acting]
            expected = expected / SCALE if name != "state" else expected
            torch.testing.assert_close(batch[name]["values"], expected.view(len(acting), count, -1))
            assert batch[name]["times"].tolist() == times
            assert batch.lengths[name].tolist() == [count] * len(acting) and batch.full[name]
        assert batch.lengths["action"].tolist() == [count - 1] * len(acting), "the current step has no action yet"
        if step:
            assert batch["action"]["class"].equal(torch.stack(environment.taken[first:step], 1)[acting])
            assert batch["action"]["times"].tolist() == [own[:-1] for own in times], "with the times of their states"
            assert batch.full["action"]
        else:
            assert batch["action"]["class"].shape == batch["action"]["times"].shape == (6, 1), "one place of padding"
            assert not batch.full["action"]


@pytest.mark.parametrize("names", [ALL, ("return", "state", "action"), ("state", "action"), ("state",)])
@pytest.mark.parametrize("specs", [SPECS, VECTORS], ids=["classes", "vectors"])
def test_equals_a_loop_that_collates_every_window_anew(names: tuple[str, ...], specs: dict[str, Spec]) -> None:
    """One episode at a time, in plain steps, through the way that training data goes."""
    whole, objective = made(names, specs)
    targets = TARGETS if "return" in names else None
    episodes, together, _ = rolled(targets=targets, names=names, specs=specs)
    taken_specs = {name: specs[name] for name in names}
    for index, seed in enumerate(SEEDS):
        environment, earned, rewards = Counter(continuous=specs is VECTORS), 0.0, [0.0]
        (seen,), (constants,) = environment.reset([seed])
        states, to_go, taken = [], [], []
        for step in range(steps_of(seed)):
            states.append(seen["state"]["values"])
            to_go.append((TARGETS[index] - earned) / SCALE)
            first = max(0, step + 1 - CONTEXT)
            times = torch.arange(first, step + 1)
            sample = {
                **constants,
                "return": {"values": torch.tensor(to_go[first:])[:, None], "times": times},
                "reward": {"values": torch.tensor(rewards[first:])[:, None] / SCALE, "times": times},
                "state": {"values": torch.stack(states[first:]), "times": times},
            }
            if taken[first:]:
                sample["action"] = {objective.field: torch.stack(taken[first:]), "times": times[:-1]}
            with torch.no_grad():
                batch = collate([sample], taken_specs)
                out = objective.head(whole(batch).tokens("state")[0, -1])
            taken.append(out.argmax() if objective.is_discrete else out)
            outcome = environment.step(taken[-1][None])
            (seen,), reward = outcome.observation, float(outcome.reward)
            earned += reward
            rewards.append(reward)
        expected = [each.tolist() for each in taken]
        check_close(actions_of(together, index), expected)
        assert episodes[index].earned == earned
        assert episodes[index].target_return == (TARGETS[index] if targets else None)


def test_what_holds_for_the_whole_episode_is_padded_as_collating_does() -> None:
    """To the longest of all episodes, also when that one is over."""
    _, _, seen = rolled()
    missions = [{"mission": {"ids": torch.arange(1 + seed % 4)}} for seed in SEEDS]
    expected = collate(missions, {"mission": SPECS["mission"]})
    for step, batch in enumerate(seen):
        acting = [i for i, seed in enumerate(SEEDS) if steps_of(seed) > step]
        assert batch["mission"]["ids"].equal(expected["mission"]["ids"][acting])
        assert batch.lengths["mission"].equal(expected.lengths["mission"][acting])
        assert batch.full["mission"] == (set(batch.lengths["mission"].tolist()) == {4})


def test_a_part_of_fixed_size_and_one_that_is_empty() -> None:
    specs = {"label": label_spec(5), "mission": SPECS["mission"]}
    empty, full = torch.zeros(0, dtype=torch.long), torch.arange(2)
    constants: list[Sample] = [{"label": {"class": torch.tensor(k)}, "mission": {"ids": empty}} for k in range(3)]
    batch = History(specs, ["label", "mission"], "action", constants).batch(torch.tensor([2, 0]))
    expected = collate([constants[2], constants[0]], specs)
    for name in specs:
        for key, values in expected[name].items():
            assert batch[name][key].equal(values), name
        assert batch.lengths[name].equal(expected.lengths[name]) and batch.full[name] == expected.full[name]
    constants[1]["mission"] = {"ids": full}
    history = History(specs, ["label", "mission"], "action", constants)
    assert history.batch(torch.tensor([0, 1]))["mission"]["ids"].tolist() == [[0, 0], [0, 1]]


LONG = {name: replace(spec, fields=with_length(spec, MAX_STEPS)) for name, spec in SPECS.items() if name != "mission"}
LONG["mission"] = SPECS["mission"]


def sets_and_schemes() -> list[Any]:
    """Every pair of two of the three; the rest is slow."""
    sets = [ALL, ("return", "state", "action"), ("state", "action"), ("state", "mission", "action"), ("state",)]
    cases: list[Any] = []
    for (i, names), (j, scheme) in itertools.product(enumerate(sets), enumerate(("learned", "rotary", "alibi"))):
        for k, (size, specs) in enumerate({"cropped": SPECS, "whole": LONG}.items()):
            marks = [pytest.mark.slow] * ((i + j + k) % 2)
            cases.append(pytest.param(names, specs, scheme, id=f"{scheme}-{size}-{'-'.join(names)}", marks=marks))
    return cases


@pytest.mark.parametrize(("names", "specs", "scheme"), sets_and_schemes())
def test_the_cache_changes_nothing(names: tuple[str, ...], specs: dict[str, Spec], scheme: str) -> None:
    targets = TARGETS if "return" in names else None
    cached, environment, _ = rolled(targets=targets, names=names, specs=specs, scheme=scheme)
    plain, other, _ = rolled(targets=targets, names=names, specs=specs, scheme=scheme, cache=False)
    assert cached == plain
    assert all(a.equal(b) for a, b in zip(environment.taken, other.taken, strict=True))


@pytest.mark.parametrize(
    "mixer",
    [partial(Mamba2, expansion=2.0, state_dim=4, chunk_size=4), partial(MinGRU, expansion=1.0)],
    ids=["mamba2", "min_gru"],
)
@pytest.mark.parametrize("specs", [SPECS, LONG], ids=["cropped", "whole"])
def test_the_cache_changes_nothing_in_a_hybrid(mixer: Any, specs: dict[str, Spec]) -> None:
    """Whose recurrent layer keeps a state, and begins anew where a step has left the window."""
    stack = {"layers": "SG", "kinds": {**KINDS, "S": LayerKind(mixer=mixer)}}
    names = ("return", "state", "action")
    cached, environment, _ = rolled(names=names, specs=specs, stack=stack)
    plain, other, _ = rolled(names=names, specs=specs, stack=stack, cache=False)
    assert cached == plain
    assert all(a.equal(b) for a, b in zip(environment.taken, other.taken, strict=True))


def test_the_cache_spares_what_was_computed() -> None:
    """Every token is computed once while none has left the window, unless an earlier token attends to a later one."""

    def widths_of(names: Sequence[str], specs: Mapping[str, Spec]) -> list[int]:
        whole, objective = made(names, specs)
        widths: list[int] = []
        whole.backbone.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
        targets = TARGETS if "return" in names else None
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=targets, return_scale=SCALE)
        return widths

    assert widths_of(("mission", "return", "state", "action"), LONG) == [4 + 2] + [3] * 6
    assert widths_of(("return", "state", "action"), SPECS) == [2, 3, 3, 8, 8, 8, 8]
    assert widths_of(("state", "action", "mission"), LONG)[1] == 4 + 3, "the mission comes after every step"
    assert widths_of(("state", "action", "reward"), LONG)[1] == 5, "a cached reward attends to a later action"


def test_the_drawn_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step: tokens whose keys are cached, new tokens, and the one that the action is chosen from."""
    table = [re.split(r"\s{2,}", line.strip()) for line in (inspect.getdoc(StepDecoder) or "").splitlines()]
    drawn = [cells[1:] for cells in table if cells[0].isdigit()]
    steps: list[list[str]] = []
    arrivals, last_step = StepDecoder._by_arrival, StepDecoder._last_step

    def by_arrival(self: StepDecoder, token_set: TokenSet, num_steps: int) -> Tensor:
        columns = arrivals(self, token_set, num_steps)
        cached = columns[: self._cache.length if self._cache is not None else 0]
        steps.append([_drawn(cached, token_set)])
        return columns

    def last(self: StepDecoder, hidden: Tensor, new: Tensor, token_set: TokenSet, valid: Tensor) -> HiddenStates:
        span = token_set.spans["state"]
        steps[-1] += [_drawn(new, token_set), _drawn(new[(new >= span.start) & (new < span.stop)], token_set)]
        return last_step(self, hidden, new, token_set, valid)

    monkeypatch.setattr(StepDecoder, "_by_arrival", by_arrival)
    monkeypatch.setattr(StepDecoder, "_last_step", last)
    rolled(names=("return", "state", "action"), specs=LONG)
    assert len(drawn) == 3 and steps[:3] == drawn


def _drawn(columns: Tensor, token_set: TokenSet) -> str:
    """R0 is the return of the first step."""
    letters = [f"{name[0].upper()}{i}" for name, span in token_set.spans.items() for i in range(span.stop - span.start)]
    return " ".join(letters[column] for column in columns.tolist()) or "-"


def test_a_window_of_one_step_never_holds_an_action() -> None:
    specs = {
        name: spec if name == "mission" else replace(spec, fields=with_length(spec, 1)) for name, spec in SPECS.items()
    }
    _, environment, seen = rolled(specs=specs)
    assert len(seen) == 7
    for step, batch in enumerate(seen):
        assert batch["state"]["times"].tolist() == [[step]] * len(batch)
        assert not batch.lengths["action"].any() and batch.lengths["state"].unique().tolist() == [1]


def test_frames_are_kept_of_those_that_are_filmed_while_they_last() -> None:
    assert all(not episode.frames for episode in rolled()[0])
    episodes = rolled(num_filmed=2)[0]
    for index, episode in enumerate(episodes):
        shown = [SEEDS[index] + step / 100 for step in range(steps_of(SEEDS[index]) + 1)] if index < 2 else []
        assert [float(frame[0, 0, 0]) for frame in episode.frames] == pytest.approx(shown)
    assert sum(bool(episode.frames) for episode in rolled(num_filmed=100)[0]) == len(SEEDS)


def test_a_environment_that_shows_less_than_the_set_holds() -> None:
    specs = {**SPECS, "sonar": SPECS["state"]}
    whole, objective = made(("state", "sonar", "action"), specs)
    with pytest.raises(
        UserError, match="the environment shows no 'sonar', which is in the set; it shows state, mission"
    ):
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=None, return_scale=SCALE)


def test_episodes_longer_than_the_times_that_the_data_declares() -> None:
    specs = {**SPECS, "state": series_spec(3, max_length=CONTEXT, num_times=MAX_STEPS - 1)}
    whole, objective = made(("state",), specs)
    with pytest.raises(UserError, match="last 7 steps; of 'state', the data declares times below 6"):
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=None, return_scale=SCALE)


class Silent(Counter):
    """It reports no success and draws no frames."""

    def step(self, actions: Tensor) -> Outcome:
        return replace(super().step(actions), success=None)

    def frame(self, index: int) -> None:
        return None


def test_a_environment_may_report_no_success_and_draw_nothing() -> None:
    whole, objective = made()
    episodes = roll_out(
        whole, objective, SPECS, Silent(), SEEDS, target_returns=TARGETS, return_scale=SCALE, num_filmed=3
    )
    assert all(episode.success is None and not episode.frames for episode in episodes)
    assert "success_rate" not in play_metrics(Toy(), [episodes])


class Once(Counter):
    """A success is reported in the step in which it happens, and not after it."""

    def step(self, actions: Tensor) -> Outcome:
        outcome = super().step(actions)
        return replace(outcome, success=torch.full_like(outcome.over, self.time == 2))


def test_a_success_is_not_forgotten() -> None:
    whole, objective = made()
    episodes = roll_out(whole, objective, SPECS, Once(), SEEDS, target_returns=TARGETS, return_scale=SCALE)
    assert [episode.success for episode in episodes] == [True] * len(SEEDS)


def visible_steps(taken: Sequence[int], most: int, begin: int, end: int) -> list[list[int]]:
    """Of each step, those in a window of `CONTEXT`, step by step in lists."""
    visible: list[int] = []
    notes: list[int] = []
    is_open, seen = False, []
    for step, action in enumerate(taken):
        if len(visible) == CONTEXT:
            own = [each for each in visible if each in notes]
            others = [each for each in visible if each not in notes]
            visible.remove((own if len(own) > most else others)[0])
        visible.append(step)
        seen.append([*visible])
        if is_open or action == begin:
            notes.append(step)
        is_open = action == begin or (is_open and action != end)
    return seen


def in_double(spec: Spec) -> Spec:
    fields = {
        key: replace(field, dtype=torch.float64) if key == "values" else field for key, field in spec.fields.items()
    }
    return replace(spec, fields=fields)


@pytest.mark.parametrize("most", [1, 2])
def test_notes_stay_in_the_window(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every action from the scores of what is visible, computed again on its own."""
    names, seeds = ("return", "state", "action"), [5, 11, 17, 4, 10]
    specs = {name: in_double(SPECS[name]) for name in names}
    whole, objective = made(names, specs, temperature=20.0, notes=most, note_marks=[1, 2])
    whole.double(), objective.double()
    scores: list[Tensor] = []
    chosen = objective.chosen

    def recorded(predicted: Tensor, *others: Any) -> Tensor:
        scores.append(predicted)
        return chosen(predicted, *others)

    monkeypatch.setattr(objective, "chosen", recorded)
    environment = Counter()
    roll_out(whole, objective, specs, environment, seeds, target_returns=[4.0] * len(seeds), return_scale=SCALE)
    kept_apart = 0
    for index, seed in enumerate(seeds):
        taken = [int(actions[index]) for actions in environment.taken[: steps_of(seed)]]
        alone, earned, states, to_go = Counter(), 0.0, [], []
        (seen,), _ = alone.reset([seed])
        for action in taken:
            states.append(seen["state"]["values"])
            to_go.append((4.0 - earned) / SCALE)
            outcome = alone.step(torch.tensor([action]))
            (seen,), earned = outcome.observation, earned + float(outcome.reward)
        for step, visible in enumerate(visible_steps(taken, most, 1, 2)):
            kept_apart += visible[-1] - visible[0] >= CONTEXT
            times = torch.arange(step + 1 - len(visible), step + 1)
            sample = {
                "return": {"values": torch.tensor([to_go[i] for i in visible])[:, None].double(), "times": times},
                "state": {"values": torch.stack([states[i] for i in visible]).double(), "times": times},
            }
            if step:
                before = torch.tensor([taken[i] for i in visible[:-1]])
                sample["action"] = {"class": before, "times": times[:-1]}
            with torch.no_grad():
                expected = objective.predict(whole(collate([sample], specs)))[0, len(visible) - 1]
            row = [i for i, other in enumerate(seeds) if steps_of(other) > step].index(index)
            torch.testing.assert_close(scores[step][row], expected, atol=1e-10, rtol=0)
    assert kept_apart > 3, "notes that a window without them would have lost"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"notes": CONTEXT, "note_marks": [1, 2]}, "notes=3 must lie in 0..2; nearest: 2"),
        ({"notes": -1}, "notes=-1 must lie in 0..2; nearest: 0"),
        ({"notes": 1}, r"note_marks=\[\] must be two classes of the 4 that actions have, a beginning and an end"),
        ({"notes": 1, "note_marks": [1, 1]}, r"note_marks=\[1, 1\] must be two classes"),
        ({"notes": 1, "note_marks": [1, 4]}, r"note_marks=\[1, 4\] must be two classes"),
        ({"note_marks": [1, 2]}, r"note_marks=\[1, 2\] are of notes; give how many steps they have; nearest: notes=2"),
    ],
)
def test_notes_that_cannot_be(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        made(**changes)


def test_notes_lie_between_classes() -> None:
    with pytest.raises(UserError, match="notes=1 lie between two actions, and those of the data are no classes"):
        made(specs=VECTORS, notes=1, note_marks=[1, 2])
