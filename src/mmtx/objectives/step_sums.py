"""Sums over a step of training that are known before its gradients are computed."""

from collections.abc import Mapping

from torch import Tensor

from mmtx.nn.layer_statistics import add_statistics


class StepSums:
    """Sums over the micro-batches and ranks of a step, added up in a first pass and read in a second.

    Attributes:
        collected: of this rank, in the first pass.
        whole: of all ranks; None in the first pass.
    """

    def __init__(self) -> None:
        self.collected: dict[str, Tensor] = {}
        self.whole: dict[str, Tensor] | None = None

    def of(self, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The sums of the step; in the first pass, those of a micro-batch, which are added."""
        if self.whole is not None:
            return self.whole
        add_statistics(self.collected, own)
        return own
