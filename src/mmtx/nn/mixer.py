"""The interface of mixers: attention, recurrences, state spaces. Axes as in `layer_context`."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mmtx.attention.kernels import Bias
from mmtx.nn.cache import MixerCache
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_statistics import Output


class Mixer(nn.Module, ABC):
    """The half of a layer in which the tokens of a sample exchange what they hold. Made by ``mixer(dim, num_heads)``.

    Attributes:
        head_dim: width of the heads that rotary positions rotate; None: it rotates nothing.
        needs_time_order: it reads tokens one after the other, so that each depends on those before it. Its stack gets
            them in the order of time, see `TimeOrder`; a set in which some share an order is refused, but for
            `reads_ahead`.
        reads_ahead: it reads them from the last to the first as well, so that each depends on those behind it too; a
            set in which some differ in order is refused.
        needs_window: its layer has to have a window.
        needs_pairs: it reads `LayerContext.pairs`, which a name of the set has to have.
        packs: it keeps the samples of a packed row apart, by the rendering, `LayerContext.samples` or
            `LayerContext.starts`.
        exports: a program of any number of tokens can be recorded of it (`mmtx export --format onnx`).
    """

    head_dim: int | None = None
    needs_time_order: bool = False
    reads_ahead: bool = False
    needs_window: bool = False
    needs_pairs: bool = False
    packs: bool = False
    exports: bool = True

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "B N D"], context: LayerContext, *, bias: Bias = None, cache: MixerCache | None = None
    ) -> Output:
        """What is added to each token; or that, and statistics, as a `FeedForward` gives them.

        Args:
            x: tokens.
            context: which of them are real, and what they may depend on.
            bias: of positions, added to the scores of attention.
            cache: as `new_cache` made it, with what earlier calls left of the tokens before; this call adds its own.
        """

    def new_cache(self, capacity: int) -> MixerCache | None:
        """An empty cache for at most `capacity` tokens; None: it cannot go on token by token."""
        return None

    def scale_scores(self, base_width: int) -> None:  # noqa: B027
        """Scales scores so that they stay as large as at another width, where there are any (`mmtx.nn.width`).

        Raises:
            InvalidValue: there is no such mixer of that width.
        """
