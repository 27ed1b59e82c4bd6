"""Cα traces from files of the Protein Data Bank's own format, whose columns are fixed (PDB format 3.3, 2012)."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import torch

from mmtx.data.chains.chain_sample import RESIDUES, Chain
from mmtx.errors import UserError

NAMES = (
    *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
    *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
)
"""In the order of `RESIDUES`."""

OTHER_NAMES = {"MSE": "MET", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS"}
"""Of the same residues: selenomethionine, and histidine as force fields write it."""

CODES = {name: code for code, name in enumerate(NAMES)} | {
    other: NAMES.index(name) for other, name in OTHER_NAMES.items()
}

LONGEST_STEP = 4.3
"""Å from a Cα atom to the next of an unbroken chain, whose steps are 3.8."""

SUFFIXES = (".pdb", ".ent", ".pdb.gz", ".ent.gz")


def read_pieces(file: Path) -> list[Chain]:
    """The unbroken pieces of all chains of a file, of its first model: each atom in the first place that is given for
    it. Amino acids that are none of the twenty have the code behind theirs; what is listed with ligands (HETATM) is no
    residue, but for another spelling of one of the twenty.

    Raises:
        UserError: a line cannot be read, or the file has no Cα atom.
    """
    pieces: list[tuple[list[int], list[list[float]]]] = []
    chain = None
    for letter, code, place in _atoms(file):
        follows = letter == chain and bool(pieces) and _near(pieces[-1][1][-1], place)
        if not follows:
            pieces.append(([], []))
        pieces[-1][0].append(code)
        pieces[-1][1].append(place)
        chain = letter
    if not pieces:
        raise UserError(f"{file} has no Cα atom: no line that begins with ATOM has CA in columns 13 to 16")
    return [Chain(torch.tensor(kinds), torch.tensor(places)) for kinds, places in pieces]


def _near(one: list[float], other: list[float]) -> bool:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) <= LONGEST_STEP**2


def _atoms(file: Path) -> Iterator[tuple[str, int, list[float]]]:
    """The chain, the code and the place of each residue's Cα atom."""
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(_lines(file), 1):
        if line.startswith("ENDMDL"):
            return
        is_alpha = line.startswith(("ATOM  ", "HETATM")) and line[12:16] == " CA "  # "CA  " is calcium
        known = line[17:20] in CODES
        if not is_alpha or (line.startswith("HETATM") and not known):
            continue
        residue = line[21], line[22:27]
        if residue in seen:
            continue
        seen.add(residue)
        yield line[21], CODES.get(line[17:20], len(RESIDUES)), _place(file, number, line)


def _place(file: Path, number: int, line: str) -> list[float]:
    try:
        place = [float(line[start : start + 8]) for start in (30, 38, 46)]
    except ValueError:
        raise UserError(f"{file}, line {number}: columns 31 to 54 are no three numbers: {line[30:54]!r}") from None
    if not all(abs(each) < 1e5 for each in place):
        raise UserError(f"{file}, line {number}: a place is no number of Å: {line[30:54]!r}")
    return place


def _lines(file: Path) -> Iterator[str]:
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as stream:
            yield from stream
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
