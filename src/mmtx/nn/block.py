"""One layer of the transformer."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.attention.kernels import Bias
from mmtx.attention.packing import Packing
from mmtx.conditions import Conditions
from mmtx.nn.adaptive_norm import AdaptiveNorm, Modulation, normalised
from mmtx.nn.attention import Attention
from mmtx.nn.cache import LayerCache
from mmtx.nn.feed_forward import FeedForward
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_statistics import Output, Statistics, with_statistics
from mmtx.nn.mixer import Mixer
from mmtx.nn.no_feed_forward import NoFeedForward

NormPlace = Literal["before", "after", "branch", "both"]
"""Where the norms of a half f stand: x + f(norm(x)), norm(x + f(x)), x + norm(f(x)), or x + norm(f(norm(x)))."""


class Block(nn.Module):
    """A mixer, cross-attention if there is a memory, then feed-forward, if any; each a half with a residual connection.
    That of the mixer may be missing.

    Parameters of a mixer that is attention are under ``attention``, of any other under ``mixer``; its norm under
    ``attention_norm``, and a second one, on the branch, under ``attention_branch_norm``.
    """

    cross_attention: Attention
    mlp: nn.Module

    def __init__(
        self,
        dim: int,
        *,
        mixer: Mixer,
        cross_attention: Attention | None,
        mlp: nn.Module,
        norm: Callable[[int], nn.Module],
        norm_place: NormPlace,
        dropout: float,
        drop_path: float,
        layer_scale: float | None,
        mixer_norm: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.norm_place, self._mixes = norm_place, "attention" if isinstance(mixer, Attention) else "mixer"
        self.residual = residual
        there = {self._mixes: mixer, "cross_attention": cross_attention, "mlp": mlp}
        self.halves = [name for name, half in there.items() if half is not None and not isinstance(half, NoFeedForward)]
        for name in self.halves:
            self.add_module(f"{name}_norm", norm(dim) if name != self._mixes or mixer_norm else nn.Identity())
            self.add_module(name, there[name])
            if norm_place == "both":
                self.add_module(f"{name}_branch_norm", norm(dim))
            is_adaptive = isinstance(getattr(self, f"{name}_norm"), AdaptiveNorm)
            self.add_module(f"{name}_add", Residual(dim, dropout, drop_path, layer_scale, is_adaptive))
        self.mlp = mlp  # also where it is none

    @property
    def mixes(self) -> Mixer:
        """The mixer, under whichever name."""
        mixer = getattr(self, self._mixes)
        assert isinstance(mixer, Mixer)
        return mixer

    def scale_scores(self, base_width: int) -> None:
        """Scales what attends for a model that was tuned at another width, see `Mixer.scale_scores`."""
        for mixer in (self.mixes, getattr(self, "cross_attention", None)):
            if mixer is not None:
                mixer.scale_scores(base_width)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        context: LayerContext,
        *,
        bias: Bias = None,
        memory: Float[Tensor, "B S D"] | None = None,
        cache: LayerCache | None = None,
        conditions: Float[Tensor, "C D"] | None = None,
    ) -> Output:
        """The tokens, and the statistics of mixer and feed-forward, where there are any.

        Args:
            x: tokens.
            context: what is known of them.
            bias: of positions.
            memory: tokens of another set, the keys of cross-attention.
            cache: what earlier calls left; extended by this one.
            conditions: of adaptive norms, of which each token has that of `LayerContext.condition_of`.

        Raises:
            ValueError: mixer and feed-forward have a statistic of the same name.
        """
        mixes, own = self._mixes, cache.mixer if cache is not None else None
        of_token = context.condition_of
        given = None if conditions is None or of_token is None else Conditions(conditions, of_token)
        added, mixed = with_statistics(self.mixes(self._before(mixes, x, given), context, bias=bias, cache=own))
        x = self._after(mixes, x if self.residual else torch.zeros_like(x), added, context.packing, given)
        if memory is not None:
            attend = self.cross_attention.cross_attend
            added = attend(self._before("cross_attention", x, given), context, memory=memory, cache=cache)
            x = self._after("cross_attention", x, added, context.packing, given)
        x, fed = self._fed_forward(x, context, given)
        if both := mixed.keys() & fed.keys():
            raise ValueError(f"mixer and feed-forward of a layer both have the statistic '{both.pop()}'")
        statistics = {**mixed, **fed}
        return (x, statistics) if statistics else x

    def _fed_forward(
        self, x: Float[Tensor, "B N D"], context: LayerContext, given: Conditions | None
    ) -> tuple[Float[Tensor, "B N D"], Statistics]:
        if "mlp" not in self.halves:
            return x, {}
        before = self._before("mlp", x, given)
        output = self.mlp(before, context) if isinstance(self.mlp, FeedForward) else self.mlp(before)
        added, fed = with_statistics(output)
        return self._after("mlp", x, added, context.packing, given), fed

    def _before(self, half: str, x: Float[Tensor, "B N D"], given: Conditions | None) -> Float[Tensor, "B N D"]:
        return normalised(getattr(self, f"{half}_norm"), x, given) if self.norm_place in ("before", "both") else x

    def _after(
        self,
        half: str,
        x: Float[Tensor, "B N D"],
        added: Float[Tensor, "B N D"],
        packing: Packing | None,
        given: Conditions | None,
    ) -> Float[Tensor, "B N D"]:
        if self.norm_place in ("branch", "both"):
            added = getattr(self, f"{half}_norm" if self.norm_place == "branch" else f"{half}_branch_norm")(added)
        x = getattr(self, f"{half}_add")(x, added, packing, given)
        return getattr(self, f"{half}_norm")(x) if self.norm_place == "after" else x


class Residual(nn.Module):
    """The residual connection around a half of a block: gate of an adaptive norm, dropout, learned scale, drop path."""

    roles = {"scale": "gain"}

    def __init__(
        self, dim: int, dropout: float, drop_path: float, layer_scale: float | None, is_adaptive: bool = False
    ) -> None:
        super().__init__()
        self.gate = Modulation(dim, 1) if is_adaptive else None
        self.dropout, self.drop_path = nn.Dropout(dropout), drop_path
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        added: Float[Tensor, "B N D"],
        packing: Packing | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B N D"]:
        if self.gate is not None:
            added = added * self.gate(conditions)[0].to(added)
        if self.scale is None and not self.training:
            return x + added
        added = self.dropout(added)
        if self.scale is not None:
            added = added * self.scale
        if self.drop_path and self.training:
            num_samples = len(added) if packing is None else len(packing.real)
            share = added.new_empty(num_samples, 1, 1).bernoulli_(1 - self.drop_path) / (1 - self.drop_path)
            added = added * (share if packing is None else packing.spread(share))
        return x + added
