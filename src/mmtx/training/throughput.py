"""How many tokens of each name the data of a step have, how many go through in a second, and the wait for them."""

import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer


class Throughput:
    """Counts tokens of the data from one row of the log to the next; what an objective computes of them more than once,
    such as copies of a name, is not counted again.

    They are added up where the lengths are, and read when a row is written: no step waits for the device.

    Args:
        model: whose set is counted.
    """

    def __init__(self, model: MultimodalTransformer) -> None:
        self._model = model
        self.restart()

    def restart(self) -> None:
        """Counts from here on."""
        self._began = time.perf_counter()
        self._since: Int[Tensor, "names 2"] | int = 0
        self._waited_s = 0.0

    def count(self, batches: Sequence[Batch]) -> None:
        """Counts the micro-batches of a step."""
        self._step = torch.stack([self._model.count_tokens(batch) for batch in batches]).sum(0)
        self._since = self._since + self._step

    def waited(self, seconds: float) -> None:
        """Counts the time that a batch was waited for."""
        self._waited_s += seconds

    @property
    def tokens(self) -> list[int]:
        """Real tokens of each name in the last step, on this rank."""
        return self._step[:, 0].tolist()

    def metrics(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Of all ranks. All of them have to call this, after at least one step.

        Returns:
            ``train/tokens/<name>``: real tokens of the last step, and ``train/fill``: their share of what a padded set
            would hold; ``train/tokens_per_second``, of all names and of each, since the last time; ``train/data_wait``,
            the share of that time in which the host waited for batches, on average over ranks.
        """
        assert isinstance(self._since, Tensor)
        seconds = max(time.perf_counter() - self._began, 1e-9)
        step, since = sum_over_ranks(torch.stack([self._step, self._since]).double()).cpu()
        waited_s, num_ranks = sum_over_ranks(torch.tensor([self._waited_s, 1.0], dtype=torch.double)).tolist()
        self.restart()
        (real, places), all_real = step.sum(0).tolist(), since[:, 0].tolist()
        metrics = {"train/tokens_per_second": sum(all_real) / seconds, "train/fill": real / max(places, 1)}
        metrics["train/data_wait"] = waited_s / num_ranks / seconds
        for name, tokens, all_tokens in zip(self._model.names, step[:, 0].tolist(), all_real, strict=True):
            metrics[f"train/tokens/{name}"] = tokens
            metrics[f"train/tokens_per_second/{name}"] = all_tokens / seconds
        return metrics
