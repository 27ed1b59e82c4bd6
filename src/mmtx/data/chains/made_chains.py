"""Made chains: a few thousand small folds, of which sequences tell some and contacts more."""

from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.chains.chain_sample import Chain, Mistakes, chain_sample, chain_specs
from mmtx.data.chains.walks import packed_chain, segments, spelt
from mmtx.errors import InvalidValue, check_at_least

TRIES = 100
"""Chains of which the tightest is taken."""


class MadeChains(ItemSource):
    """The name ``chain``: residues, places of Cα atoms in Å, and contacts with mistakes (`Chain` reads it).

    A chain is helices and strands, whose bends are exact, and turns at random, such that the whole is the tightest of
    some tries (`walks.packed_chain`). Residues are those that each kind of segment likes. So a sequence determines
    where a chain is straight, and contacts how it folds. Chains of training are turned at random each time.

    Args:
        num_train: chains.
        num_val: for validation.
        num_test: for the test.
        shortest: residues of a chain.
        longest: of the longest.
        missing: the share of contacts that is not there.
        spurious: the share of other pairs that seem to touch.
    """

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        shortest: int,
        longest: int,
        missing: float,
        spurious: float,
    ) -> None:
        for key, number in (("num_train", num_train), ("num_val", num_val), ("num_test", num_test)):
            check_at_least(key, number, 1)
        check_at_least("shortest", shortest, 4)
        if longest < shortest:
            raise InvalidValue("longest", longest, f"is less than shortest={shortest}")
        self.shortest, self.longest, self.mistakes = shortest, longest, Mistakes(missing, spurious)
        held, self._made = num_val + num_test, dict[int, Chain]()
        self.items = {"train": range(held, held + num_train), "val": range(num_val), "test": range(num_val, held)}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return chain_specs(self.longest)

    def sample(self, item: int, split: str) -> Sample:
        if item not in self._made:
            self._made[item] = self._chain(item)
        return chain_sample(self._made[item], self.longest, self.mistakes, item, turned=split == "train")

    def _chain(self, item: int) -> Chain:
        """A chain follows from its number."""
        generator = torch.Generator().manual_seed(item)
        length = int(torch.randint(self.shortest, self.longest + 1, (), generator=generator))
        kinds = segments(length, generator)
        return Chain(spelt(kinds, generator), packed_chain(kinds, TRIES, generator))
