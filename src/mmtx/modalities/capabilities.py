"""What a tokenizer may offer besides its tokens: a method that is there, or is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
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
class Films(Protocol):
    """A tokenizer whose samples are films."""

    def film(self, fields: Mapping[str, Tensor], length: int) -> Float[Tensor, "T C height width"]:
        """The frames of a sample, in 0..1, on the host; arguments are those of `Draws.draw`."""


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
class Sounds(Protocol):
    """A tokenizer whose numbers are of a sound, which can be had again."""

    def sound(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "B S"]:
        """Waveforms of fields as `Numbers.fields_of` gives them, at the rate of the tokenizer's spec."""


@runtime_checkable
class Numbers(Protocol):
    """A tokenizer whose tokens are each made of so many numbers, from which a field can be had again.

    Attributes:
        numbers_per_token: of each token but prefix tokens; 0: these are made of something else.
        numbered: the field that they make, which a tokenizer of sound can read in the place of the data's waveform.
        is_scaled: numbers are scaled already, as pixels are by `mean` and `std`; else they are in the data's own units.
    """

    numbers_per_token: int
    numbered: str
    is_scaled: bool

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        """The numbers of each token but prefix tokens, without augmentation.

        Args:
            fields: of a batch.
            lengths: of its samples.
        """

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        """Undoes `numbers`: the field `numbered`, as floats, neither rounded nor cut to what the data may have."""


@runtime_checkable
class Fills(Numbers, Protocol):
    """A tokenizer that may fill a token with numbers that are there already.

    Attributes:
        fills: whether it does, as it is configured.
    """

    @property
    def fills(self) -> bool: ...

    def of_data(self, count: int, lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B count k"]:
        """Which numbers of so many tokens are there once, and which fill; nothing is there behind the last token.

        Args:
            count: of tokens.
            lengths: of the samples.
        """


@runtime_checkable
class Pairs(Protocol):
    """A tokenizer that knows something of every two of its tokens, `Tokens.pairs`.

    Attributes:
        has_pairs: whether it does, as it is configured.
    """

    @property
    def has_pairs(self) -> bool: ...

    def pairs(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n n"]:
        """A number of every two tokens; 0 where either is not real."""


@runtime_checkable
class Follows(Protocol):
    """A tokenizer, or a feed-forward half, that changes what no gradient does, after a step of training.

    Attributes:
        follows: which of its statistics `follow` is given, and how many numbers each is; empty: it changes nothing.
    """

    @property
    def follows(self) -> Mapping[str, int]: ...

    def follow(self, sums: Mapping[str, Tensor], left_out: Float[Tensor, ""]) -> None:
        """Args:
        sums: of these statistics, over all micro-batches and ranks of the step, in float64.
        left_out: 1 where the step does not count, so that nothing may change; else 0.
        """


@runtime_checkable
class LearnsCodes(Protocol):
    """A tokenizer that learns codes, from which its samples can be decoded.

    Attributes:
        num_codes: of its codebook.
    """

    num_codes: int

    def through_codes(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Coded:
        """Every sample, encoded into codes and decoded again; what it counts is of real codes."""


class Coded(NamedTuple):
    """Samples that went through their codes.

    Attributes:
        errors: of each sample, the mean squared error of what is decoded.
        commitment: a loss of each code beside the error.
        ids: the codes.
        real: which codes a sample has.
        statistics: what the tokenizer follows, see `Follows`.
    """

    errors: Float[Tensor, " B"]
    commitment: Float[Tensor, "B n"]
    ids: Int[Tensor, "B n"]
    real: Bool[Tensor, "B n"]
    statistics: dict[str, Tensor]


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
