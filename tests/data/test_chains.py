"""Chains, made and read: geometry, contacts, and what a file of the Protein Data Bank may hold."""

import gzip
import math

import pytest
import torch
from contracts import check_source

from mmtx.data.chains.chain_sample import RESIDUES, Mistakes, contacts
from mmtx.data.chains.made_chains import MadeChains
from mmtx.data.chains.pdb_chains import PdbChains
from mmtx.data.chains.pdb_file import read_pieces
from mmtx.data.chains.walks import HELIX, STEP, STRAND, TURN, clashes, packed_chain, segments, walked
from mmtx.errors import InvalidValue, UserError
from mmtx.structure.superposition import rmsd

MADE = {"num_train": 12, "num_val": 3, "num_test": 3, "shortest": 8, "longest": 14, "missing": 0.1, "spurious": 0.05}
READ = {"num_val": 1, "num_test": 1, "split_seed": 0, "shortest": 4, "longest": 8, "missing": 0.0, "spurious": 0.0}


def test_made_chains():
    source = MadeChains(**MADE)
    check_source(source)
    first, again = (source.val()[0]["chain"]["values"] for _ in range(2))
    assert first.equal(again)
    turned = source.train()[0]["chain"]["values"], source.train()[0]["chain"]["values"]
    everyone = torch.ones(1, len(turned[0]), dtype=torch.bool)
    assert not turned[0].equal(turned[1]) and rmsd(turned[0][None], turned[1][None], everyone).item() < 1e-4


def test_a_helix_has_its_angles_and_its_hand():
    """Bends and torsions that were asked for, from the definition of both."""
    angles = torch.tensor([[[91.0, 50.0]] * 8, [[124.0, -170.0]] * 8]).deg2rad()
    for walk, (bend, torsion) in zip(walked(angles), ((91, 50), (124, -170)), strict=True):
        steps = walk.diff(dim=0)
        torch.testing.assert_close(steps.norm(dim=1), torch.full((7,), 3.8))
        for one, two, three in zip(steps, steps[1:], steps[2:], strict=False):
            assert math.degrees(math.pi - math.acos(one @ two / 3.8**2)) == pytest.approx(bend, abs=0.01)
            above, below = torch.linalg.cross(one, two), torch.linalg.cross(two, three)
            found = math.atan2(torch.linalg.cross(above, below) @ two / 3.8, above @ below)
            assert math.degrees(found) == pytest.approx(torsion, abs=0.01)


@pytest.mark.parametrize("length", [32, 300])
def test_every_step_is_as_long_however_long_the_chain(length):
    generator = torch.Generator().manual_seed(length)
    chain = packed_chain(segments(length, generator), 20, generator)
    steps = (chain[1:] - chain[:-1]).norm(dim=-1)
    torch.testing.assert_close(steps, torch.full_like(steps, STEP), atol=1e-3, rtol=0)


def test_of_all_tries_the_tightest_without_a_clash_is_taken():
    """Tries that are made one by one are the same: random numbers are drawn in their order."""
    kinds, compared = segments(20, torch.Generator().manual_seed(0)), 0
    assert {HELIX, STRAND} & set(kinds.tolist()) and TURN in kinds
    for seed in range(5):
        one, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
        tries = [packed_chain(kinds, 1, other) for _ in range(12)]
        free = [walk for walk in tries if not clashes(walk[None]).item()]
        tightest = min(free, key=lambda walk: (walk - walk.mean(0)).square().sum().item(), default=None)
        taken = packed_chain(kinds, 12, one)
        if tightest is not None:
            torch.testing.assert_close(taken, tightest)
            compared += len(free) > 1
    assert compared > 1


def test_contacts_by_brute_force_and_their_mistakes():
    generator = torch.Generator().manual_seed(0)
    walk = packed_chain(segments(80, generator), 50, generator)
    exact = contacts(walk, Mistakes(0.0, 0.0), torch.Generator())
    for i in range(80):
        for j in range(80):
            touches = math.dist(walk[i], walk[j]) < 8 and abs(i - j) >= 3
            assert bool(exact[i, j]) == touches
    wrong = contacts(walk, Mistakes(0.3, 0.1), torch.Generator().manual_seed(0))
    assert wrong.equal(wrong.T)
    apart = torch.ones(80, 80).triu(3).bool()
    assert 0.5 < wrong[(exact > 0) & apart].mean() < 0.9 and 0.05 < wrong[(exact == 0) & apart].mean() < 0.15


def line(number, name, residue, chain, sequence, place, kind="ATOM  ", other=" "):
    x, y, z = place
    return (
        f"{kind}{number:5d} {name:4s}{other}{residue:3s} {chain}{sequence:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 10.00\n"
    )


def pdb(count=12, residues=("ALA", "GLY", "TRP"), chain="A", gap=None, shift=0.0):
    lines = []
    for i in range(count):
        residue = residues[i % len(residues)]
        far = 9.0 if gap is not None and i >= gap else 0.0
        lines.append(line(2 * i, " N  ", residue, chain, i, (3.8 * i, 1.0, 0.0)))
        lines.append(line(2 * i + 1, " CA ", residue, chain, i, (3.8 * i + far, shift, float(i % 2))))
    return "".join(lines)


def test_what_is_read_of_a_file(tmp_path):
    file = tmp_path / "x.pdb"
    extra = line(90, " CA ", "ALA", "A", 0, (50.0, 0, 0), other="B")  # another place of an atom
    extra += line(91, "CA  ", " CA", "A", 99, (1.0, 1, 1), kind="HETATM")  # calcium
    extra += line(92, " CA ", "MSE", "B", 1, (0.0, 5, 0), kind="HETATM")
    extra += line(93, " CA ", "SEC", "B", 2, (3.8, 5, 0))
    model = "ENDMDL\n" + line(94, " CA ", "ALA", "C", 1, (0.0, 0, 0))
    file.write_text("HEADER\n" + pdb(5, gap=3) + extra + model)
    first, second, third = read_pieces(file)
    assert [[(*RESIDUES, "X")[code] for code in piece.kinds] for piece in (first, second, third)] == [
        ["A", "G", "W"],
        ["A", "G"],
        ["M", "X"],
    ]
    torch.testing.assert_close(first.trace[1], torch.tensor([3.8, 0, 1]))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("HEADER\n", "has no Cα atom"),
        (pdb(3).replace("   3.800", "     x.x"), "line 4: columns 31 to 54 are no three n"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, problem):
    file = tmp_path / "x.pdb"
    file.write_text(content)
    with pytest.raises(UserError, match=problem):
        read_pieces(file)


def test_a_folder_of_chains(tmp_path, capsys):
    for number, residues in enumerate((["ALA"], ["GLY"], ["TRP", "ALA"], ["SER", "ALA", "ALA"])):
        (tmp_path / f"{number}.pdb").write_text(pdb(13, residues, gap=11))
    (tmp_path / "9.ent.gz").write_bytes(gzip.compress(pdb(13, ["ALA"], shift=3.0).encode()))
    (tmp_path / "8.pdb").write_text(pdb(2))
    source = PdbChains(path=str(tmp_path), **READ)
    check_source(source)
    said = capsys.readouterr().err
    assert "9.ent.gz has the residues of" in said and "train: 4 residues in pieces of fewer than 4" in said
    assert "8.pdb has 2 residues at most in a piece, and is left out" in said
    assert len(source.train()) == 4 and len(source.val()) == len(source.test()) == 2
    assert source.val().origin(0).endswith(".pdb, residues 0 to 7 of a piece")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_val": 4}, "must leave some of 4"),
        ({"longest": 3}, "longest=3"),
        ({"shortest": 99, "longest": 99}, "shortest=99"),
    ],
)
def test_refusals(tmp_path, changes, problem):
    for number, residue in enumerate(("ALA", "GLY", "TRP", "SER")):
        (tmp_path / f"{number}.pdb").write_text(pdb(8, [residue]))
    with pytest.raises(InvalidValue, match=problem):
        PdbChains(path=str(tmp_path), **{**READ, **changes})


def test_a_missing_package_or_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps MDAnalysisTests"):
        PdbChains(path=None, **READ)
    with pytest.raises(UserError, match="has no file that ends in"):
        PdbChains(path=str(tmp_path), **READ)
    with pytest.raises(UserError, match="is no folder"):
        PdbChains(path=str(tmp_path / "none"), **READ)
