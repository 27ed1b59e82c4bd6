"""Folding, in space and by a flow: the contract of objectives, what turning changes, and that both learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import POSITIONS, attention, backbone, chain, chain_spec, model, series, series_spec
from contracts import check_objective

from mmtx.batch import Batch, fake_batch
from mmtx.data.chains.walks import walked
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.fold import Fold
from mmtx.objectives.fold_by_flow import FoldByFlow
from mmtx.structure.distances import lddt
from mmtx.structure.frames import random_rotations
from mmtx.structure.superposition import rmsd

SPECS = {"chain": chain_spec(), "state": series_spec()}
KEYS: dict[type, dict[str, Any]] = {
    Fold: {"pair_dim": 6, "pair_layers": 1, "structure_layers": 2, "num_heads": 2, "distogram": 0.3},
    FoldByFlow: {"times": "uniform", "num_steps": 2},
}


def folding(
    kind: type, contacts: bool = True, fresh: bool = False, **changes: Any
) -> tuple[MultimodalTransformer, Any]:
    body = backbone(attention=attention(pair_bias=contacts), positions=POSITIONS["rotary"])
    whole = model({"chain": chain(contacts=contacts)}, body)
    torch.manual_seed(1)
    keys = {"weight": 1.0, "name": "chain", **KEYS[kind], **changes}
    objective = kind(specs=SPECS, model=whole, **keys).eval()
    with torch.no_grad():  # so that nothing is zero, as it is at first
        for parameter in () if fresh else objective.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return whole, objective


def chains() -> Batch:
    """In the size of chains."""
    batch = fake_batch({"chain": SPECS["chain"]}, 4)
    return batch.with_values("chain", values=5 * batch["chain"]["values"])


@pytest.mark.parametrize("kind", [Fold, FoldByFlow])
@pytest.mark.parametrize("contacts", [True, False])
def test_contract(kind: type, contacts: bool) -> None:
    whole, objective = folding(kind, contacts)
    check_objective(objective, whole, {"chain": SPECS["chain"]})


def test_turning_the_truth_changes_nothing_and_a_mirror_image_does() -> None:
    whole, objective = folding(Fold)
    batch, turn = chains(), random_rotations(1, torch.Generator().manual_seed(0))
    values = batch["chain"]["values"]

    def score(values: torch.Tensor) -> dict[str, float]:
        return objective.metrics(objective(whole, batch.with_values("chain", values=values)))

    before = score(values)
    assert score(values @ turn[0].T + 2) == pytest.approx(before, abs=1e-5), "places are hidden, the loss has no axes"
    assert abs(score(-values)["loss"] - before["loss"]) > 1e-4


@pytest.mark.parametrize("kind", [Fold, FoldByFlow])
def test_metrics_and_predictions_are_of_the_same_chains(kind: type) -> None:
    whole, objective = folding(kind)
    batch = objective.prepare(whole, chains(), torch.Generator().manual_seed(0)) if kind is FoldByFlow else chains()
    with torch.no_grad():
        metrics, rows = objective.metrics(objective(whole, batch)), objective.predictions(whole, batch)
    found = []
    for trace, true, length in zip(rows["trace"], batch["chain"]["values"], batch.lengths["chain"], strict=True):
        one, other = torch.tensor(trace)[None], true[None, :length]
        everyone = torch.ones(1, int(length), dtype=torch.bool)
        found.append((rmsd(one, other, everyone).item(), lddt(one, other, everyone).item()))
    off, kept = zip(*found, strict=True)
    assert rows["rmsd"] == pytest.approx(off, abs=1e-4) and rows["lddt"] == pytest.approx(kept, abs=1e-5)
    assert metrics["rmsd"] == pytest.approx(sum(off) / 4, abs=1e-4)
    assert metrics["lddt"] == pytest.approx(sum(kept) / 4, abs=1e-5)


def test_what_is_made_does_not_depend_on_the_places_that_the_data_has() -> None:
    for kind in (Fold, FoldByFlow):
        whole, objective = folding(kind)
        with torch.no_grad():
            traces = [objective.traces(whole, batch) for batch in (chains(), fake_batch({"chain": SPECS["chain"]}, 4))]
        torch.testing.assert_close(*traces)


def test_a_helix_and_a_strand_are_learnt() -> None:
    whole, objective = folding(Fold, fresh=True, structure_layers=3)
    batch = chains().select(slice(0, 2))
    bends = torch.tensor([[[91.0, 50.0]] * 7, [[124.0, -170.0]] * 7]).deg2rad()
    batch = batch.with_values("chain", values=walked(bends)[:, : batch["chain"]["values"].shape[1]])
    optimizer = torch.optim.Adam([*whole.parameters(), *objective.parameters()], lr=3e-3)
    off = []
    for _ in range(40):
        score = objective(whole, batch)
        off.append(objective.metrics(score)["rmsd"])
        optimizer.zero_grad()
        score.loss_sum.backward()
        optimizer.step()
    assert off[-1] < off[0] / 4


@pytest.mark.parametrize("kind", [Fold, FoldByFlow])
def test_pictures(kind: type, tmp_path: Path) -> None:
    whole, objective = folding(kind)
    with torch.no_grad():
        objective.plot(whole, chains(), tmp_path / "folded.png")
    assert (tmp_path / "folded.png").stat().st_size > 5000


def test_a_sample_is_given_to_what_makes_its_chain() -> None:
    whole, objective = folding(FoldByFlow)
    written = objective.generate(whole, chains().select(slice(0, 1)), torch.Generator().manual_seed(0), count=2)
    first, second = written.split("\n")
    assert first != second and len(first.split("; ")) == int(chains().lengths["chain"][0])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pair_dim": 0}, "pair_dim"),
        ({"structure_layers": 0}, "structure_layers"),
        ({"distogram": -1.0}, "distogram"),
        ({"name": "other"}, "names no modality"),
    ],
)
def test_refusals(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises((ValueError, InvalidValue), match=problem):
        folding(Fold, **changes)


def test_only_chains_are_folded() -> None:
    whole = model({"state": series()}, backbone())
    with pytest.raises(InvalidValue, match="is no chain of residues"):
        Fold(specs=SPECS, model=whole, weight=1.0, name="state", **KEYS[Fold])
