"""What the layers of a stack keep of earlier tokens while a text or an episode goes on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Int
from torch import Tensor


class MixerCache(ABC):
    """What a mixer keeps of earlier tokens.

    Attributes:
        rewinds: it can go on behind any earlier token, given by ``LayerContext.past``; otherwise only behind the last.
        replays: so that kernels can be recorded once and started again, ``LayerContext.past`` may also be a tensor of
            the device, for one new token; it then works on the same memory in every call.
        streams: it goes on in bounded memory when tokens are dropped from it (`drop`).
    """

    rewinds: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    streams: ClassVar[bool] = False

    @abstractmethod
    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Keeps some rows, in any order, any number of times."""

    def drop(self, place: int | Int[Tensor, " B"]) -> None:  # noqa: B027
        """Drops the token at a place, the same in all rows or not; those behind it move up. What has only a state keeps
        that."""


@dataclass
class LayerCache:
    """What a layer keeps.

    Attributes:
        mixer: of earlier tokens.
        memory: keys and values of the memory; None until a first call has computed them.
    """

    mixer: MixerCache
    memory: tuple[Tensor, Tensor] | None = None

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Keeps some rows, in any order, any number of times."""
        self.mixer.select(index)
        if self.memory is not None:
            self.memory = (self.memory[0][index], self.memory[1][index])


class Cache:
    """What all layers of a stack keep.

    Attributes:
        layers: in their order.
        length: tokens of each row that have been computed, and not dropped; may be set to less where the cache
            `rewinds`.
        by_place: positions are places in the cache, which change as tokens are dropped: keys are kept unturned, and
            turned whenever they are attended to.
    """

    def __init__(self, mixers: Sequence[MixerCache], *, by_place: bool = False) -> None:
        self.layers, self.length, self.by_place = [LayerCache(mixer) for mixer in mixers], 0, by_place

    @property
    def rewinds(self) -> bool:
        return all(layer.mixer.rewinds for layer in self.layers)

    @property
    def replays(self) -> bool:
        return all(layer.mixer.replays for layer in self.layers)

    @property
    def streams(self) -> bool:
        return all(layer.mixer.streams for layer in self.layers)

    def drop(self, place: int | Int[Tensor, " B"]) -> None:
        """Drops the token at a place, the same in all rows or not; those behind it move up."""
        for layer in self.layers:
            layer.mixer.drop(place)
        self.length -= 1

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Keeps some rows, in any order, any number of times."""
        for layer in self.layers:
            layer.select(index)
