"""Which runs count as seeds of one setting."""

from pathlib import Path
from typing import Any

from mmtx.report.setting_values import values_of
from mmtx.run.run_record import RunRecord

ADAMW: dict[str, Any] = {"lr": 1e-3, "matrices": None, "rates": {}}
MATRICES = {"_target_": "torch.optim.Muon", "ns_steps": 5}
MUON: dict[str, Any] = {"lr": 1e-3, "matrices": MATRICES, "rates": {"matrix": 1.0}}


def values(*optimisers: dict[str, Any]) -> list[dict[str, str]]:
    """Of runs of no sweep, with seeds of their own."""
    configs = [{"seed": seed, "optim": optim} for seed, optim in enumerate(optimisers)]
    return values_of([RunRecord(Path(f"run{row}"), config=config) for row, config in enumerate(configs)])


def test_runs_that_differ_by_a_node_are_no_seeds_of_one_setting() -> None:
    adamw, muon = ({"optim.rates": "{}"}, {"optim.rates": "{'matrix': 1.0}", "optim.matrices": "torch.optim.Muon"})
    adamw["optim.matrices"] = "None"
    found = values(ADAMW, MUON, ADAMW)
    assert [{key: value for key, value in of_run.items() if key != "seed"} for of_run in found] == [adamw, muon, adamw]


def test_a_node_that_another_value_tells_apart_is_no_axis() -> None:
    found = values(ADAMW, {**MUON, "lr": 1e-2})
    assert [{*of_run} for of_run in found] == [{"seed", "optim.lr"}] * 2


def test_a_key_that_one_config_lacks_tells_runs_apart() -> None:
    found = values(ADAMW, {**ADAMW, "clip_norm": 1.0})
    assert [of_run["optim.clip_norm"] for of_run in found] == ["None", "1.0"]


def test_nodes_of_one_class_are_told_apart_too() -> None:
    """Behind a run that has none, which differs from both in the same way."""
    faster = {**MUON, "matrices": {**MATRICES, "ns_steps": 3}}
    found = values(ADAMW, MUON, faster, MUON)
    apart = [tuple(value for key, value in of_run.items() if key != "seed") for of_run in found]
    assert len(set(apart)) == 3 and apart[1] == apart[3]


def test_null_is_what_an_older_config_lacks() -> None:
    found = values(ADAMW, {**ADAMW, "clip_norm": None})
    assert [{*of_run} for of_run in found] == [{"seed"}] * 2
