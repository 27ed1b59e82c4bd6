"""Random sets of modalities with their connectivity in plain Python, to compare the tensors with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st

from mmtx.token_order import join
from mmtx.tokens import Clock, Tokens, TokenSet

WIDTH = 4


@dataclass(frozen=True)
class Group:
    """One modality of a random set, in plain Python.

    Attributes:
        kind: "item" (all tokens one item), "causal" (an item per token), "blocks" (an item per two tokens) or "timed"
            (times that come with the sample).
        times: ``times[b][t]``, on the modality's clock.
        lengths: real tokens of each sample.
        promised: the host knows whether all samples are full.
        private: only tokens of the same order attend to its tokens.
    """

    kind: str
    clock: str
    times: list[list[int]]
    lengths: list[int]
    summaries: int
    registers: int
    columns: int
    promised: bool
    private: bool = False

    @property
    def size(self) -> int:
        return len(self.times[0])

    @property
    def full(self) -> bool:
        return self.promised and all(length == self.size for length in self.lengths)

    @property
    def coordinates(self) -> list[list[int]]:
        if not self.columns:
            return [[] for _ in range(self.size)]
        if self.columns == 1:
            return [[t] for t in range(self.size)]
        return [[t // 2, t % 2] for t in range(self.size)]

    def tokens(self, seed: int) -> Tokens:
        generator = torch.Generator().manual_seed(seed)
        shared = self.kind != "timed"
        num_items = {"item": 1, "causal": self.size, "blocks": math.ceil(self.size / 2), "timed": 1000}[self.kind]
        return Tokens(
            content=torch.randn(len(self.lengths), self.size, WIDTH, generator=generator),
            coordinates=torch.tensor(self.coordinates, dtype=torch.long).view(self.size, self.columns),
            time=torch.tensor(self.times[:1] if shared else self.times),
            lengths=torch.tensor(self.lengths),
            num_items=num_items,
            full=self.full,
            num_summaries=self.summaries,
            num_registers=self.registers,
            private=self.private,
        )


@dataclass(frozen=True)
class RandomSet:
    groups: dict[str, Group]
    mutual: dict[str, bool]

    @property
    def num_samples(self) -> int:
        return len(next(iter(self.groups.values())).lengths)

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each sample."""
        return [sum(group.lengths[b] for group in self.groups.values()) for b in range(self.num_samples)]

    def join(self, by_time: bool = False, indexed: bool = False) -> TokenSet:
        groups = {name: group.tokens(seed) for seed, (name, group) in enumerate(self.groups.items())}
        place = {name: torch.zeros(1, group.size, WIDTH) for name, group in self.groups.items()}
        clock_of = {name: group.clock for name, group in self.groups.items()}
        clocks = {name: Clock(mutual=mutual) for name, mutual in self.mutual.items()}
        return join(groups, place, clock_of, clocks, by_time=by_time, indexed=indexed)

    def index(self) -> list[list[int]]:
        """The index of every token of each sample: of real ones on a clock, behind those of the clocks before it."""
        indices = []
        for b in range(self.num_samples):
            index: list[int] = []
            for group in self.groups.values():
                clocks = list(dict.fromkeys(group.clock for group in self.groups.values()))
                before = clocks[: clocks.index(group.clock)]
                longest = [max(g.lengths[b] for g in self.groups.values() if g.clock == clock) for clock in before]
                index += [sum(longest) + t for t in range(group.size)]
            indices.append(index)
        return indices

    def rule(self) -> tuple[list[list[list[bool]]], list[list[list[int]]], list[list[bool]]]:
        """The design's rule, positions, and real tokens of each sample, without a tensor."""
        allowed, positions, valid = [], [], []
        for b in range(self.num_samples):
            began: dict[str, int] = {}
            elapsed = 0
            for clock in dict.fromkeys(group.clock for group in self.groups.values()):
                began[clock] = elapsed
                here = [group for group in self.groups.values() if group.clock == clock]
                elapsed += max((t + 1 for group in here for t in group.times[b][: group.lengths[b]]), default=0)
            when, where, real, private = [], [], [], []
            for place, group in enumerate(self.groups.values()):
                tie = 0 if self.mutual.get(group.clock) else place
                for t in range(group.size):
                    time = began[group.clock] + group.times[b][t]
                    when.append((time, tie))
                    where.append([time, *group.coordinates[t], 0, 0][:3])
                    real.append(t < group.lengths[b])
                    private.append(group.private)
            count = range(len(when))
            in_order = [[when[j] == i or (when[j] < i and not private[j]) for j in count] for i in when]
            allowed.append([[(real[j] and in_order[i][j]) or i == j for j in count] for i in count])
            positions.append(where)
            valid.append(real)
        return allowed, positions, valid


@st.composite
def random_sets(draw: st.DrawFn, private: bool = True) -> RandomSet:
    """Some with private tokens, where those are allowed."""
    num_samples = draw(st.integers(1, 3))
    kinds = draw(st.sampled_from([["item", "causal", "blocks", "timed"], ["causal"], ["item"]]))
    groups = {}
    for index in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))
        size = draw(st.integers(1, 4))
        times = {"item": [0] * size, "causal": list(range(size)), "blocks": [t // 2 for t in range(size)]}
        if kind == "timed":
            given_times = st.lists(st.integers(0, 5), min_size=size, max_size=size).map(sorted)
            rows = [draw(given_times) for _ in range(num_samples)]
        else:
            rows = [times[kind]] * num_samples
        all_full = draw(st.booleans())
        lengths = [size if all_full else draw(st.integers(0, size)) for _ in range(num_samples)]
        groups[f"name{index}"] = Group(
            kind=kind,
            clock=draw(st.sampled_from([f"name{index}", "one", "one", "other"])),
            times=rows,
            lengths=lengths,
            summaries=draw(st.integers(0, 1)),
            registers=0,
            columns=draw(st.integers(0, 2)),
            promised=kind != "timed" and draw(st.booleans()),
            private=private and draw(st.sampled_from([False, False, True])),
        )
    return RandomSet(groups, {"one": draw(st.booleans()), "other": draw(st.booleans())})


windows = st.sampled_from([None, None, 1, 2, 3])


def group(kind: str, clock: str, size: int, lengths: list[int], columns: int = 0) -> Group:
    times = {"item": [0] * size, "causal": list(range(size)), "blocks": [t // 2 for t in range(size)]}[kind]
    return Group(kind, clock, [times] * len(lengths), lengths, 0, 0, columns, promised=True)


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, database=None)
