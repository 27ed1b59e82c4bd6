"""What layers and tokenizers change of themselves after a step, from what they counted in it: biases that balance
experts, codebooks."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.modalities.capabilities import Follows
from mmtx.model import MultimodalTransformer


class FollowedLayers:
    """Adds up statistics of a step for the layers and tokenizers that follow it (`Follows`).

    Args:
        model: whose layers.
    """

    def __init__(self, model: MultimodalTransformer) -> None:
        modules = {**model.feed_forwards, **dict(model.tokenizers.items())}
        self._layers = {name: each for name, each in modules.items() if isinstance(each, Follows) and each.follows}
        self._sums: dict[str, Tensor] = {}

    def add(self, statistics: Mapping[str, Tensor]) -> None:
        """Those of a micro-batch; some may lack a layer, whose tokens none of its samples has."""
        for name, layer in self._layers.items():
            for key in (key for key in layer.follows if f"{key}/{name}" in statistics):
                value, before = statistics[f"{key}/{name}"].double(), self._sums.get(f"{key}/{name}")
                self._sums[f"{key}/{name}"] = value if before is None else before + value

    def follow(self, sum_over_ranks: Callable[[Tensor], Tensor], left_out: Float[Tensor, ""]) -> None:
        """Ends the step, by one exchange between ranks. All of them have to call this.

        Args:
            sum_over_ranks: of a vector.
            left_out: 1 where the step does not count.
        """
        if not self._layers:
            return
        sizes = {f"{key}/{name}": n for name, layer in self._layers.items() for key, n in layer.follows.items()}
        own = [self._sums.get(key, torch.zeros(n, dtype=torch.double)).to(left_out.device) for key, n in sizes.items()]
        sums = dict(zip(sizes, sum_over_ranks(torch.cat(own)).split([*sizes.values()]), strict=True))
        for name, layer in self._layers.items():
            layer.follow({key: sums[f"{key}/{name}"] for key in layer.follows}, left_out)
        self._sums.clear()
