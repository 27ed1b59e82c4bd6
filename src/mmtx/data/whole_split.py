"""The samples of all splits as one."""

from collections.abc import Collection

from mmtx.batch import Sample
from mmtx.data.base import NamedSplit, Source, Split, origin_of
from mmtx.data.places import SPLITS


class WholeSplit:
    """Every sample of a dataset once, in the order of the data.

    Args:
        source: the dataset.

    Raises:
        InvalidValue: its samples are not single ones.
    """

    def __init__(self, source: Source) -> None:
        self._places = source.places()
        made = {"train": source.train(), "val": source.val(), "test": source.test()}
        self.splits = {name: split for name, split in made.items() if split is not None and len(split)}

    def __len__(self) -> int:
        return len(self._places.indices)

    def __getitem__(self, index: int) -> Sample:
        split, own = self._locate(index)
        return split[own]

    def some(self, index: int, names: Collection[str]) -> Sample:
        split, own = self._locate(index)
        return split.some(own, names) if isinstance(split, NamedSplit) else split[own]

    def origin(self, index: int) -> str:
        return origin_of(*self._locate(index))

    def place(self, index: int) -> tuple[str, int]:
        """The split of a sample, and its row."""
        return SPLITS[self._places.splits[index]], int(self._places.rows[index])

    def _locate(self, index: int) -> tuple[Split, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.splits[SPLITS[self._places.splits[index]]], int(self._places.indices[index])
