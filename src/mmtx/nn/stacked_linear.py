"""A linear map whose weight is several matrices, one below the other."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ALL = slice(None)


class StackedLinear(nn.Linear):
    """A linear map of which some rows alone may be applied, and whose bias may be made elsewhere."""

    def forward(
        self, x: Float[Tensor, "*B in"], bias: Float[Tensor, " rows"] | None = None, rows: slice = ALL
    ) -> Float[Tensor, "*B rows"]:
        """Applies some rows, or all.

        Args:
            x: what they are applied to.
            bias: of these rows; None: the map's own, if it has one.
            rows: of the weight.
        """
        if rows == ALL:
            return F.linear(x, self.weight, self.bias if bias is None else bias)
        own = None if self.bias is None else self.bias[rows]
        return F.linear(x, self.weight[rows], own if bias is None else bias)
