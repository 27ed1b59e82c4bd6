"""The interface of datasets: a `Source` of `Split`s."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.fitted import FittedState
from mmtx.data.places import Places
from mmtx.data.sampler import Order, Stream
from mmtx.errors import InvalidValue


@runtime_checkable
class Split(Protocol):
    """Samples by index. Random augmentation may draw from the global generators of torch, numpy and Python: they are
    seeded for every sample, so a sample is a pure function of (seed, epoch, index)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class NamedSplit(Split, Protocol):
    """A split that makes no other names than are needed."""

    def some(self, index: int, names: Collection[str]) -> Sample:
        """Of these names, those that the sample has."""
        ...


@runtime_checkable
class BatchSplit(Split, Protocol):
    """A split that makes whole batches faster than sample by sample, to the same result. Nothing in it is random."""

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        """The names of `specs` of these samples, as `collate` would give them."""
        ...


@runtime_checkable
class Located(Split, Protocol):
    """A split that knows what its samples were read from."""

    def origin(self, index: int) -> str:
        """The file of a sample, with its row where it has one; empty for a sample that was made."""
        ...


def origin_of(split: Split, index: int) -> str:
    """What a sample was read from, as `Located.origin`; empty where the split does not know."""
    return split.origin(index) if isinstance(split, Located) else ""


class Source(ABC):
    """A dataset: its sizes, and its splits.

    Subclasses are constructed from the keys of their yaml, and raise a `UserError` where there is nothing to read.

    Attributes:
        license: of the data, by its name on the hub (``cc-by-4.0``); None: not known here.
        hub_id: of the same data on the hub; None: not known here.
        reads_columns: for tokenizers and objectives; it then takes the kinds of columns that these read, by name.
        fitted: by which a dataset fits everything that depends on its data (vocabularies, classes, statistics), so that
            it belongs to the run. Set before ``__init__`` runs.
    """

    license: ClassVar[str | None] = None
    hub_id: ClassVar[str | None] = None
    reads_columns: ClassVar[bool] = False
    fitted: FittedState

    def __new__(cls, *args: Any, **keys: Any) -> Source:
        source = super().__new__(cls)
        source.fitted = FittedState.current()
        return source

    @property
    @abstractmethod
    def specs(self) -> Mapping[str, Spec]:
        """What a sample may hold, by name."""

    @abstractmethod
    def train(self) -> Split: ...

    @abstractmethod
    def val(self) -> Split | None:
        """The validation split; None if there is none."""

    @abstractmethod
    def test(self) -> Split | None:
        """The test split, never used in training; None if there is none."""

    @property
    def parts(self) -> Mapping[str, Source]:
        """The datasets that are evaluated, and acted in, each by itself, by name: this one, without a name."""
        return {"": self}

    def order(self, num_samples: int, seed: int) -> Stream:
        """The order of the training samples."""
        return Order(num_samples, seed)

    def places(self) -> Places:
        """Where each sample stands, for what reads all splits as one.

        Raises:
            InvalidValue: samples are no single things, but windows of a stream or of episodes. The default.
        """
        problem = f"needs data whose samples have a place each, and those of {type(self).__name__} have none"
        raise InvalidValue("split", "all", f"{problem}: choose train, val or test")


class ItemSource(Source):
    """A dataset whose samples are made one by one from items.

    Attributes:
        items: those of ``train``, ``val`` and ``test``; a split that has none, or is missing, is None.
    """

    items: Mapping[str, Sequence[Any]]

    @abstractmethod
    def sample(self, item: Any, split: str) -> Sample:
        """The sample of an item of a split."""

    def origin(self, item: Any, split: str) -> str:
        """What an item is read from, as `Located.origin`; empty by default."""
        return ""

    def train(self) -> Split:
        return self._split("train")

    def val(self) -> Split | None:
        return self._split("val") if len(self.items.get("val", ())) else None

    def test(self) -> Split | None:
        return self._split("test") if len(self.items.get("test", ())) else None

    def places(self) -> Places:
        return Places.one_after_another(self.items)

    def _split(self, name: str) -> Split:
        return Samples(len(self.items[name]), partial(self._sample, name), partial(self._origin, name))

    def _sample(self, split: str, i: int) -> Sample:
        return self.sample(self.items[split][i], split)

    def _origin(self, split: str, i: int) -> str:
        return self.origin(self.items[split][i], split)


def _unknown(index: int) -> str:
    return ""


class Samples:
    """A split whose samples, and what they were read from, are functions of the index."""

    def __init__(self, length: int, make: Callable[[int], Sample], origin: Callable[[int], str] = _unknown) -> None:
        self._length, self._make, self.origin = length, make, origin

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._make(index)
