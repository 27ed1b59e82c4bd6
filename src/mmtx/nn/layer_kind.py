"""Kinds of layers, and the pattern in which a stack repeats them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.attention import Attention
from mmtx.nn.mixer import Mixer
from mmtx.nn.rotary import Rotary


@dataclass(frozen=True)
class LayerKind:
    """The parts of a kind of layer.

    Args:
        mixer: ``mixer(dim, num_heads)`` makes a layer's mixer; None: the stack's ``attention`` does.
        mlp: ``mlp(dim)`` makes its feed-forward half; None: the stack's ``mlp`` does.
        window: reach of attention, in positions; true: the stack's ``window``; false: everything.
        rotary: its rotary positions (Gemma 3 has another base where layers have a window); None: the stack's.
        residual: what the mixer gives is added to what it reads; false: it takes its place, as in networks before
            residual connections.
    """

    mixer: Callable[[int, int], Mixer] | None = None
    mlp: Callable[[int], nn.Module] | None = None
    window: int | bool = False
    rotary: Rotary | None = None
    residual: bool = True


def letters_of(layers: str, num_layers: int, kinds: Mapping[str, LayerKind]) -> list[str]:
    """The kind of each layer: the pattern, repeated over the depth."""
    for letter in kinds:
        if len(letter) != 1:
            raise InvalidValue("kinds", letter, "is not one letter, as the name of a kind of layer is")
    unknown = [letter for letter in layers if letter not in kinds]
    if unknown or not layers:
        problem = f"names {unknown[0]}, which is not in kinds" if unknown else "names no kind of layer"
        raise InvalidValue("layers", layers, problem, f"letters of {', '.join(kinds)}, such as LLLG")
    return [layers[layer % len(layers)] for layer in range(num_layers)]


def windows_of(letters: list[str], window: int | None, kinds: Mapping[str, LayerKind]) -> list[int | None]:
    """The window of each layer; None where it reaches everything."""
    check_at_least("window", window, 1)
    for letter in dict.fromkeys(letters):
        own = kinds[letter].window
        if own is True and window is None:
            raise InvalidValue("window", window, f"must be given for the layers of kind {letter}, which have it")
        if not isinstance(own, bool):
            check_at_least(f"kinds.{letter}.window", own, 1)
    reach = {letter: window if kind.window is True else kind.window or None for letter, kind in kinds.items()}
    return [reach[letter] for letter in letters]


def check_drop_path(drop_path: float, letters: list[str], kinds: Mapping[str, LayerKind]) -> None:
    """Raises InvalidValue where it is no chance, or a layer has no residual connection to skip its mixer by."""
    check_fraction("drop_path", drop_path)
    without = [letter for letter in letters if not kinds[letter].residual]
    if drop_path and without:
        raise InvalidValue(
            "drop_path", drop_path, f"skips a mixer to its residual, which kinds.{without[0]} lacks", "0"
        )


def made_mixer(make: Callable[[int, int], Mixer], dim: int, num_heads: int, key: str) -> Mixer:
    """The mixer of a layer, whose class stands under a key."""
    try:
        mixer = make(dim, num_heads)
    except InvalidValue as error:
        own = error.key.removeprefix("attention.")
        raise error if own == error.key else InvalidValue(f"{key}.{own}", error.value, error.problem) from None
    if not isinstance(mixer, Mixer):
        raise InvalidValue(key, type(mixer).__name__, "is no mixer", "a class that inherits mmtx.nn.Mixer")
    return mixer


def check_mixer(mixer: Mixer, window: int | None, key: str) -> None:
    """Raises InvalidValue where a mixer, which stands under a key, lacks the window that it needs, or has one that it
    cannot have."""
    if mixer.needs_window and window is None:
        problem = "has a memory of what its window leaves behind, and no window"
        raise InvalidValue(key, type(mixer).__name__, problem, "window=64, and window: true in its kind of layer")
    if mixer.needs_pairs and window is not None:
        raise InvalidValue("window", window, f"is not for {key}, whose pairs are of all tokens", "null, or layers=G")


def made_feed_forward(make: Callable[[int], nn.Module], dim: int, key: str) -> nn.Module:
    """The feed-forward half of a layer, whose class stands under a key."""
    try:
        return make(dim)
    except InvalidValue as error:
        raise error.under(key) from None


def made_cross_attention(make: Callable[[int, int], Mixer], dim: int, num_heads: int) -> Attention:
    """What attends to the memory of a layer."""
    attention = make(dim, num_heads)
    if not isinstance(attention, Attention):
        problem = "cannot attend to a memory, which encode requires; make it the mixer of a kind of layer"
        raise InvalidValue("attention", type(attention).__name__, problem, "mmtx.nn.Attention")
    if attention.softcap is not None:
        problem = "is not for scores of a memory, which encode makes"
        raise InvalidValue("attention.softcap", attention.softcap, problem, "null")
    if attention.needs_pairs:
        problem = "is of the tokens of one set, and not of a memory, which encode makes"
        raise InvalidValue("attention.pair_bias", True, problem, "false")
    if attention.neighbours is not None:
        problem = "is of earlier tokens, and what encode makes has none; make it the mixer of a kind of layer"
        raise InvalidValue("attention.neighbours", type(attention.neighbours).__name__, problem, "null")
    return attention
