"""Data, set and objectives that are right for themselves and not together: one message each, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from four_names import FourNames
from test_subsets import config_of

from mmtx.batch import Field, Spec
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble


class Uneven(FourNames):
    """As if episodes were declared with other lengths.

    Args:
        num_samples: in training.
        steps: of the name ``action``, at most.
        times: that its steps may have.
    """

    def __init__(self, *, num_samples: int, steps: int, times: int) -> None:
        super().__init__(num_samples=num_samples)
        self.steps, self.times = steps, times

    @property
    def specs(self) -> Mapping[str, Spec]:
        known = super().specs
        fields = {key: replace(field, max_length=self.steps) for key, field in known["action"].fields.items()}
        fields["times"] = Field((None,), fields["times"].dtype, self.times, self.steps, rising=True)
        return {**known, "action": Spec(fields)}


def of(data: dict[str, Any], names: list[str], *words: str, objectives: tuple[str, ...] = ("classify",)) -> None:
    """Checks a run of the four names on other data."""
    config = config_of(names, list(objectives), *words)
    loader = {key: value for key, value in config["data"].items() if key not in ("_target_", "num_samples")}
    assemble({**config, "data": {**loader, **data}, "plugins": ["four_names", "test_compatibility"]})


def uneven(steps: int, times: int, num_samples: int = 9) -> dict[str, Any]:
    return {"_target_": "test_compatibility.Uneven", "num_samples": num_samples, "steps": steps, "times": times}


@pytest.mark.parametrize(
    ("data", "finding"),
    [(uneven(7, 20), "state 5 (of 20), action 7 (of 20)"), (uneven(5, 30), "state 5 (of 20), action 5 (of 30)")],
    ids=["steps", "times"],
)
def test_names_of_one_clock_have_to_last_equally_long(data: dict[str, Any], finding: str) -> None:
    with pytest.raises(ConfigErrors) as raised:
        of(data, ["state", "action"])
    (message,) = raised.value.findings
    assert message.startswith("modality: on the clock 'step', names differ in how many moments they have: " + finding)
    of(data, ["state", "action"], "modality.action.clock=own")
    of(uneven(5, 20), ["state", "action"])


def test_what_counts_its_moments_is_compared_too_and_a_picture_goes_with_any() -> None:
    with pytest.raises(ConfigErrors, match=r"on the clock 'step', .*text 9 \(of 9\), state 5 \(of 20\)"):
        of(uneven(5, 20), ["text", "state"], "modality.text.clock=step")
    of(uneven(5, 20), ["image", "state"], "modality.image.clock=step")


def test_actions_need_a_step_to_be_read_from() -> None:
    with pytest.raises(
        ConfigErrors, match=r"objective\.action\.read=state has up to 5 steps in the data, and action 7"
    ):
        of(uneven(7, 20), ["state"], objectives=("action",))


def test_a_text_has_to_fit_into_its_context() -> None:
    """Nine ids at most, of which the last is only predicted."""
    whole, data = ["image", "text"], uneven(5, 20)
    with pytest.raises(ConfigErrors) as raised:
        of(data, whole, "modality.text.context=7", objectives=("next_token",))
    finding = "modality.text.context=7 is too short for texts of the data, which have up to 9 tokens; at least 8, or"
    assert raised.value.findings == [f"{finding} modality.text.context=null"]
    of(data, whole, "modality.text.context=8", objectives=("next_token",))
    with pytest.raises(ConfigErrors, match="up to 9 tokens; at least 9, or modality"):
        of(data, whole, "modality.text.context=8")
    with pytest.raises(ConfigErrors, match="up to 9 tokens; at least 9, or modality"):
        of(data, whole, "modality.text.context=8", objectives=("next_token", "classify"))
    of(data, whole, "modality.text.context=9", objectives=("next_token", "classify"))


def test_a_backbone_that_nothing_reads_is_said() -> None:
    words, data = ["encode=[audio]", "objective.ctc.source=audio"], uneven(5, 20)
    with pytest.raises(ConfigErrors) as raised:
        of(data, ["audio", "text"], *words, objectives=("ctc",))
    (message,) = raised.value.findings
    assert message.startswith("encode=[audio]: nothing reads the backbone's output for text, as objective=[ctc] reads")
    of(data, ["audio", "text"], *words, objectives=("ctc", "next_token"))
    of(data, ["audio", "text"], *words, "freeze=[model.backbone.*]", objectives=("ctc",))
    of(data, ["audio"], objectives=("ctc",))


def mixture(**parts: dict[str, Any]) -> dict[str, Any]:
    keys = {"weights": {}, "temperature": None, "schedule_samples": None, "names": {}}
    return {"_target_": "mmtx.data.Mixture", "parts": parts, **keys}


def test_parts_of_a_mixture_may_last_as_long_as_they_like() -> None:
    other = {"action": "move", "state": "seen"}
    data = mixture(one=uneven(5, 20), other=uneven(5, 30)) | {"names": {"other": other}}
    of(data, ["image", "state", "action"])
    with pytest.raises(ConfigErrors, match=r"state 5 \(of 20\), action 5 \(of 30\)"):
        of(mixture(one=uneven(5, 30)), ["image", "state", "action"])


def test_a_part_that_is_empty_is_said() -> None:
    with pytest.raises(ConfigErrors) as raised:
        of(mixture(none=uneven(5, 20, num_samples=0), some=uneven(5, 20)), ["image"])
    assert raised.value.findings == ["data.parts.none={...} is empty: it has no training samples"]
