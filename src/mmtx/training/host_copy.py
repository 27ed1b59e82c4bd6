"""Numbers on their way from a device to the host."""

import torch
from torch import Tensor


class HostCopy:
    """A vector of a device, copied to the host. Nothing waits for it but `numbers`.

    Args:
        values: on any device.

    Attributes:
        values: the same, for what goes on there.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._on_host = values.to("cpu", non_blocking=values.is_cuda)  # into pinned memory
        self._arrived = torch.cuda.Event() if values.is_cuda else None
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(values.device))

    def numbers(self) -> list[float]:
        """Waits until they are here, and for nothing that the device was given since."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._on_host.tolist()
