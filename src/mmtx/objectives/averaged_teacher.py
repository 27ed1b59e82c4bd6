"""A teacher whose weights are an average of the model's over the steps of training."""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.tokens import HiddenStates


class AveragedTeacher(nn.Module):
    """A frozen copy of the model, in eval mode, whose weights move a little towards the model's after each step (Grill
    et al. 2020, arXiv 2006.07733).

    Its weights are in the state of this module, so that checkpoints hold them, and are none of its parameters: nothing
    trains, decays or averages them, and they stay in float32.

    Args:
        model: whose copy it begins as.
    """

    def __init__(self, model: MultimodalTransformer) -> None:
        super().__init__()
        self._model = (copy.deepcopy(model).requires_grad_(False).eval(),)  # in a tuple: no part of this module

    @property
    def model(self) -> MultimodalTransformer:
        return self._model[0]

    @torch.no_grad()
    def forward(self, batch: Batch) -> HiddenStates:
        return self.model(batch)

    @torch.no_grad()
    def begin(self, model: MultimodalTransformer) -> None:
        """Becomes the model."""
        for own, value in zip(self.model.parameters(), model.parameters(), strict=True):
            own.copy_(value)
        self._copy_buffers(model)

    @torch.no_grad()
    def follow(self, model: MultimodalTransformer, decay: float, left_out: Float[Tensor, ""]) -> None:
        """Keeps ``decay · own + (1 - decay) · model``; what the model keeps as buffers is copied.

        Args:
            model: after a step.
            decay: in 0..1.
            left_out: 1 where the step does not count, so that no average changes; else 0.
        """
        averages: list[Tensor] = [*self.model.parameters()]
        weights = [value.detach().to(own.dtype) for value, own in zip(model.parameters(), averages, strict=True)]
        differences = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(differences, (1 - decay) * (1 - left_out).to(averages[0]))
        torch._foreach_add_(averages, differences)
        self._copy_buffers(model)

    def _copy_buffers(self, model: MultimodalTransformer) -> None:
        for own, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(buffer)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        state = self.model.state_dict(keep_vars=keep_vars)
        destination |= {f"{prefix}{name}": value for name, value in state.items()}

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        missing, unexpected = self.model.load_state_dict(own, strict=False)
        missing_keys += [f"{prefix}{name}" for name in missing]
        unexpected_keys += [f"{prefix}{name}" for name in unexpected]


@runtime_checkable
class Teaches(Protocol):
    """An objective that keeps a teacher beside the model, which follows it from step to step.

    Attributes:
        teacher: whose weights are in the objective's state.
    """

    teacher: AveragedTeacher

    def begin(self, model: MultimodalTransformer) -> None:
        """Called before the first step of a run, with the model as it begins; one that goes on has its teacher from the
        checkpoint."""

    def follow(self, model: MultimodalTransformer, done: float, left_out: Float[Tensor, ""]) -> None:
        """Called after a step.

        Args:
            model: with its new weights.
            done: share of the run's steps.
            left_out: 1 where the step does not count, so that nothing may change; else 0.
        """
