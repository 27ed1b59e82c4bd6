"""Samples of named fields, the specs that declare them, and the `Batch` they are collated into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Sample = dict[str, dict[str, Tensor]]
"""One item of a dataset: ``{name: {field: tensor}}``. A sample may lack any name."""


@runtime_checkable
class Vocabulary(Protocol):
    """The mapping between a text and its ids."""

    @property
    def size(self) -> int: ...
    @property
    def begin(self) -> int | None: ...
    @property
    def end(self) -> int | None: ...
    @property
    def ends(self) -> Sequence[int]: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def byte_lengths(self) -> list[int]: ...
    def state(self) -> dict[str, Any]: ...


@runtime_checkable
class Spells(Protocol):
    """A vocabulary whose ids each stand for the same bytes wherever they stand, so that a grammar can be followed."""

    def spellings(self) -> list[bytes]:
        """The UTF-8 of each id, of which a character may need several ids; empty for marks."""


@dataclass(frozen=True)
class Field:
    """Shape and type of one field of one sample.

    Args:
        shape: per sample; ``None`` as the first axis means ragged, up to `max_length`.
        dtype: torch dtype.
        num_classes: for integer fields, values lie in ``[0, num_classes)``; of bools ``(num_classes,)``, whether each
            class is there.
        max_length: of the ragged axis.
        rising: values rise along the ragged axis, as the times of an episode do.
        largest: absolute value in the data, where it is known; not stored with a model.
    """

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    num_classes: int | None = None
    max_length: int | None = None
    rising: bool = False
    largest: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if None in self.shape[1:]:
            raise ValueError(f"Field.shape={self.shape}: only the first axis may be ragged (None)")
        if self.ragged and not self.max_length:
            raise ValueError(f"Field.shape={self.shape} is ragged and needs max_length")

    @property
    def ragged(self) -> bool:
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Spec:
    """The fields of one name, and how to read their values.

    Attributes:
        fields: shape and type of each.
        class_names: in the order of the classes.
        vocabulary: of ids.
        sample_rate_hz: of a waveform.
        trim_db: ends of a waveform were cut off that are this much quieter than its loudest moment; None: none were.
    """

    fields: Mapping[str, Field]
    class_names: tuple[str, ...] | None = None
    vocabulary: Vocabulary | None = None
    sample_rate_hz: int | None = None
    trim_db: float | None = None

    @property
    def max_length(self) -> int:
        """The longest ragged axis of a sample; 1 for a name of fixed size."""
        return max((f.max_length or 1 for f in self.fields.values()), default=1)


@dataclass(frozen=True)
class Batch:
    """The samples of a batch, name by name, with lengths.

    Attributes:
        fields: ``{name: {field: (B, ...)}}``, ragged fields padded with zeros at the end.
        lengths: ``{name: (B,)}`` of the ragged axis; for names of fixed size, 1 if present and 0 if absent.
        full: ``{name: bool}`` known on the host: no sample of this name is absent or padded.
        ids: ``(B,)`` index of each sample in its dataset; -1 for an empty filler sample; -2 for one that could not be
            read, which is empty, too.
        host_lengths: `lengths` on the host, wherever the batch is; given where tokens are to be packed.
        part: of a mixture, to which all samples belong; empty where the data is no mixture.
        split: that is evaluated, ``train``, ``val`` or ``test``; empty where none is, as in training.
    """

    fields: dict[str, dict[str, Tensor]]
    lengths: dict[str, Int[Tensor, " B"]]
    full: dict[str, bool] = field(default_factory=dict)
    ids: Int[Tensor, " B"] | None = None
    host_lengths: Mapping[str, Int[Tensor, " B"]] | None = None
    part: str = ""
    split: str = ""

    def __len__(self) -> int:
        return next(iter(self.lengths.values())).shape[0]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        return self.fields[name]

    @property
    def is_packed(self) -> bool:
        """Whether a model packs the tokens of all samples into one row."""
        return self.host_lengths is not None

    def packed(self) -> Batch:
        """The same batch, to be packed; made on the host, whose lengths it keeps."""
        return replace(self, host_lengths=dict(self.lengths))

    def with_name(
        self,
        name: str,
        fields: dict[str, Tensor],
        lengths: Int[Tensor, " B"],
        full: bool = False,
        host_lengths: Int[Tensor, " B"] | None = None,
    ) -> Batch:
        """The same batch with other fields under one name; no longer packed where `host_lengths` are not given."""
        packed = self.host_lengths is not None and host_lengths is not None
        return replace(
            self,
            fields={**self.fields, name: fields},
            lengths={**self.lengths, name: lengths},
            full={**self.full, name: full},
            host_lengths={**self.host_lengths, name: host_lengths} if packed else None,  # type: ignore[dict-item]
        )

    def with_values(self, name: str, **values: Tensor) -> Batch:
        """The same batch with other values in some fields of one name, of the same lengths."""
        return replace(self, fields={**self.fields, name: {**self.fields[name], **values}})

    def without(self, absent: Mapping[str, Bool[Tensor, " B"]]) -> Batch:
        """The same batch, in which some samples lack some names.

        Args:
            absent: ``{name: (B,)}``, True where a sample is to lack that name; on the host where the batch is packed.
        """
        lengths = {name: self.lengths[name].masked_fill(lacks, 0) for name, lacks in absent.items()}
        host = self.host_lengths
        if host is not None:
            host = {**host, **{name: host[name].masked_fill(lacks, 0) for name, lacks in absent.items()}}
        full = {**self.full, **dict.fromkeys(absent, False)}
        return replace(self, lengths={**self.lengths, **lengths}, full=full, host_lengths=host)

    def present(self, name: str) -> Bool[Tensor, " B"]:
        """Which samples have this name."""
        return self.lengths[name] > 0

    def select(self, index: slice | Int[Tensor, " rows"]) -> Batch:
        """Some samples of the batch, in any order, any number of times; no longer packed."""
        return replace(self, host_lengths=None).map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def share_memory(self) -> Batch:
        """The same batch in memory that processes share."""
        return self.map(Tensor.share_memory_)

    def pin_memory(self) -> Batch:
        return self.map(lambda tensor: tensor.pin_memory())

    def in_use_on(self, stream: torch.cuda.Stream) -> Batch:
        """The same batch, whose memory is used again no sooner than a stream is done with it: not the one that it was
        made on."""

        def use(tensor: Tensor) -> Tensor:
            tensor.record_stream(stream)
            return tensor

        return self.map(use)

    @property
    def tensors(self) -> list[Tensor]:
        """All but `host_lengths`."""
        of_fields = [value for fields in self.fields.values() for value in fields.values()]
        return [*of_fields, *self.lengths.values(), *([] if self.ids is None else [self.ids])]

    def map(self, move: Callable[[Any], Any]) -> Batch:
        """The same batch with each tensor as `move` makes it, but `host_lengths`."""
        return Batch(
            {name: {key: move(value) for key, value in fields.items()} for name, fields in self.fields.items()},
            {name: move(lengths) for name, lengths in self.lengths.items()},
            self.full,
            None if self.ids is None else move(self.ids),
            self.host_lengths,
            self.part,
            self.split,
        )


def fake_batch(specs: Mapping[str, Spec], size: int, seed: int = 0, ragged: bool = True) -> Batch:
    """A random batch that fits the specs, for checks and tests. Ragged lengths are random unless ``ragged=False``."""
    generator = torch.Generator().manual_seed(seed)
    fields: dict[str, dict[str, Tensor]] = {}
    lengths: dict[str, Tensor] = {}
    full: dict[str, bool] = {}
    for name, spec in specs.items():
        is_ragged = any(f.ragged for f in spec.fields.values())
        longest = spec.max_length
        count = torch.ones(size, dtype=torch.long)
        if is_ragged:
            count = torch.full((size,), longest)
            if ragged and longest > 2:
                count = torch.randint(2, longest + 1, (size,), generator=generator)
        lengths[name], full[name] = count, bool((count == longest).all())
        fields[name] = {key: _fake_field(f, size, count, generator) for key, f in spec.fields.items()}
    return Batch(fields, lengths, full, torch.arange(size))


def _fake_field(spec: Field, size: int, lengths: Tensor, generator: torch.Generator) -> Tensor:
    per_sample = (int(lengths.max()), *spec.shape[1:]) if spec.ragged else spec.shape
    shape = (size, *(axis or 0 for axis in per_sample))
    if spec.dtype.is_floating_point:
        values = torch.randn(shape, generator=generator, dtype=spec.dtype)
    else:
        high = 2 if spec.dtype == torch.bool else spec.num_classes or (256 if spec.dtype == torch.uint8 else 2)
        values = torch.randint(0, high, shape, generator=generator, dtype=spec.dtype)
    if spec.rising:
        room = max(0, high - shape[1]) if not spec.dtype.is_floating_point else 0
        start = torch.randint(0, room + 1, (size, 1), generator=generator)
        values = start + torch.arange(shape[1])
    if spec.ragged:
        padding = torch.arange(shape[1])[None] >= lengths[:, None]
        values[padding] = 0
    return values
