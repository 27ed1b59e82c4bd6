"""Operations that a stack needs for one pass, from its weights, its real tokens and the pairs of them that attend."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mmtx.attention.pairs import num_memory_pairs, num_pairs, num_real
from mmtx.attention.rule import Connectivity
from mmtx.nn.attention import Attention
from mmtx.nn.backbone import Backbone
from mmtx.nn.block import Block


class Products:
    """Which products of a weight a step needs: with its input; for a gradient of its own, if it learns; and for that of
    its input, if something before it learns.

    Args:
        learns: gradients are computed.
        before: something before the first weight learns.
    """

    def __init__(self, learns: bool, before: bool = False) -> None:
        self._learns, self._before = learns, before

    @property
    def of_inputs(self) -> int:
        """Of two features, such as a query and a key: with each other, and for a gradient of each."""
        return 3 if self._learns and self._before else 1

    def flops(self, parameters: Iterable[Tensor], counted: Mapping[int, float]) -> int:
        """Per token, of the parameters in the order of their use; only those whose ids are counted multiply, with a
        share of their numbers."""
        total = 0
        for parameter in parameters:
            own, before = parameter.requires_grad and self._learns, self._before and self._learns
            if id(parameter) in counted:
                total += round(2 * parameter.numel() * counted[id(parameter)]) * (1 + own + before)
            self._before = self._before or parameter.requires_grad
        return total


@dataclass(frozen=True)
class StackPass:
    """One pass through a stack.

    Attributes:
        rows: of the batch.
        tokens: all are queries.
        memory: of cross-attention.
        products: what gradients it needs.
    """

    stack: Backbone
    rows: int
    tokens: Connectivity
    memory: Connectivity | None
    products: Products

    def flops(self, counted: Mapping[int, float]) -> int:
        """Two for a product and its sum. Waits for the device.

        Args:
            counted: by their ids, the parameters that multiply, and which share of their numbers multiplies a token.
        """
        num_tokens = num_real(self.tokens, self.rows)
        windows = self.stack.windows
        pairs = {window: num_pairs(self.tokens, self.rows, window) for window in dict.fromkeys(windows)}
        total = 0
        for block, window in zip(self.stack.blocks, windows, strict=True):
            assert isinstance(block, Block)
            for name, child in block.named_children():
                if name == "cross_attention":
                    total += self._cross_attention(block.cross_attention, num_tokens, counted)
                    continue
                total += num_tokens * self.products.flops(child.parameters(), counted)
                if isinstance(child, Attention):
                    total += self._scores(child, pairs[window])
        return total

    def _cross_attention(self, attention: Attention, num_tokens: int, counted: Mapping[int, float]) -> int:
        """Its queries are tokens of the set, its keys and values those of the memory."""
        assert self.memory is not None
        in_memory, of_query = num_real(self.memory, self.rows), attention.widths[0] / sum(attention.widths)
        mean_tokens = of_query * num_tokens + (1 - of_query) * in_memory
        total = round(mean_tokens * self.products.flops(attention.qkv.parameters(), counted))
        total += num_tokens * self.products.flops(attention.out.parameters(), counted)
        return total + self._scores(attention, num_memory_pairs(self.tokens, self.memory, self.rows))

    def _scores(self, attention: Attention, pairs: int) -> int:
        """Of queries with keys, and of weights with values."""
        return 2 * 2 * pairs * attention.widths[0] * self.products.of_inputs
