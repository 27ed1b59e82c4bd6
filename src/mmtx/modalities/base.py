"""The interface of tokenizers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.nn.roles import Role
from mmtx.tokens import Tokens


class Tokenizer(nn.Module, ABC):
    """From the fields of one name to tokens.

    Subclasses are constructed as ``Class(spec=..., dim=..., **keys of the yaml)``.

    Args:
        spec: what the data declares of this name.
        dim: width of a token.
        clock: modalities on one clock share its time; None: a clock of its own.
    """

    coded: tuple[str, ...] = ()
    """Parameters with a row for each code of the data: each class, or each id of a vocabulary. A model that starts from
    another's weights takes these rows by the names of the codes."""

    num_summaries: int = 0
    """Leading tokens of a sample that summarise it, see `Tokens`."""

    num_registers: int = 0
    """Scratch tokens after those."""

    column_kind: str | None = None
    """Of a column of a table that it reads, see `mmtx.data.manifest.column_kinds`; None: as the values are."""

    centred = False
    """Coordinates count from the middle, so that some are below 0."""

    roles: Mapping[str, Role] = {"projection.weight": "input"}
    """Of parameters, see `mmtx.nn.roles`."""

    def __init__(self, *, spec: Spec, dim: int, clock: str | None) -> None:
        super().__init__()
        self.spec, self.dim, self.clock = spec, dim, clock

    @property
    @abstractmethod
    def extent(self) -> tuple[int, ...]:
        """The size of each coordinate axis: ``(context,)`` for text, ``(rows, columns)`` for a picture."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Tokens of the longest sample, prefix tokens included."""

    @property
    def num_times(self) -> int:
        """The size of the clock's time axis: of samples with times of their own, else of the longest sample's items."""
        times = self.spec.fields.get("times")
        return self.max_tokens if times is None or times.num_classes is None else times.num_classes

    @abstractmethod
    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Tokens of samples of these lengths; 0 where the length is 0."""

    @abstractmethod
    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        """Args:
        fields: the batch's fields under this name.
        lengths: positions present in each sample; 0: absent.
        full: known on the host: every sample is present at full length.
        """

    def extra_repr(self) -> str:
        return f"clock={self.clock}"


def given_times(fields: dict[str, Tensor], num_items: int, device: torch.device) -> Int[Tensor, "#B n"]:
    """The field ``times`` where samples have it, else the index of each item."""
    return fields["times"] if "times" in fields else torch.arange(num_items, device=device)[None]


def required_field(spec: Spec, field: str, tokenizer: str) -> None:
    """Raises ValueError if the data does not offer a field that the tokenizer reads."""
    if field not in spec.fields:
        offered = ", ".join(spec.fields) or "nothing"
        raise ValueError(f"a tokenizer '{tokenizer}' reads the field '{field}'; the data offers {offered}")
