"""What a tokenizer may offer besides its tokens: a method that is there, or is not."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.modalities.base import Tokenizer
from mmtx.tokens import Tokens


class Panel(NamedTuple):
    """Room for the picture of one sample.

    Attributes:
        width: in inches.
        height: in inches, with what stands above it.
        most: samples that are drawn; None: all.
    """

    width: float = 2.2
    height: float = 2.6
    most: int | None = None


@runtime_checkable
class Draws(Protocol):
    """A tokenizer that draws samples for people.

    Attributes:
        panel: the room that one takes.
    """

    panel: Panel

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """Args:
        axes: of matplotlib.
        fields: of one sample, as in the batch, padding included.
        length: of the sample; 0: absent.
        """


@runtime_checkable
class Augments(Protocol):
    """A tokenizer that changes the samples of training at random, before any objective has them."""

    def augmented(self, fields: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The fields of a batch, changed.

        Args:
            fields: as the data have them.
            generator: on their device; a function of seed, step and block of the step.
        """


@runtime_checkable
class Inverts(Protocol):
    """A tokenizer that turns tokens back into what they were made from, as well as it can."""

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The fields of a batch, of which these are the tokens."""


@runtime_checkable
class Patched(Protocol):
    """A tokenizer each of whose content tokens is made from numbers of its own, so that they can be predicted.

    Attributes:
        patch_numbers: of a token; 0: this one is made from something else.
    """

    patch_numbers: int

    def to_patches(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n numbers"]:
        """The numbers of each content token, as it reads them, without augmentation.

        Args:
            fields: of a batch.
            lengths: of its samples.
        """

    def from_patches(self, patches: Float[Tensor, "B n numbers"]) -> dict[str, Tensor]:
        """The field that has these numbers, to be drawn."""


@runtime_checkable
class Shares(Protocol):
    """A tokenizer that may use parameters of another one of its set."""

    def share_within(self, name: str, tokenizers: Mapping[str, Tokenizer]) -> None:
        """Called once, by the model.

        Args:
            name: of this tokenizer.
            tokenizers: of the whole set.
        """


@runtime_checkable
class Ids(Protocol):
    """A tokenizer of the ragged field ``ids``, a token for each: of a text, or of sound in codes. Objectives predict
    these ids, and where it is causal, they are written id by id.

    Attributes:
        vocab_size: ids are those below it.
        context: the longest text in tokens.
        causal: whether every token attends to its past only.
    """

    vocab_size: int
    context: int
    causal: bool

    @property
    def id_vectors(self) -> Float[Tensor, "V D"]:
        """A vector of each id, from the tokenizer's own parameters: hidden states are scored by their products with
        these (a tied head; Press and Wolf 2017, arXiv 1608.05859)."""

    def embed(self, ids: Int[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        """The content of ids, whatever their positions."""
