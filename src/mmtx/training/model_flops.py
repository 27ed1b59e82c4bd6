"""Operations that a model needs for a step (model FLOPs; Chowdhery et al. 2022, arXiv 2204.02311, appendix B): those of
products of matrices on real tokens, and of attention on the pairs that attend. docs/metrics.md has the formula."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.nn.experts import Experts
from mmtx.nn.roles import MULTIPLYING, roles_of
from mmtx.objectives.capabilities import TiesHead
from mmtx.training.stack_flops import Products, StackPass


class ModelFlops:
    """Counts them for one step. What is computed again, to save memory, and what is computed on padding, is not needed.

    Args:
        learner: as it is trained: parameters are known by their ids.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._counted = {id_: s for each in (learner, *learner.references) for id_, s in _multiplying(each).items()}
        self._passes: list[StackPass] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, all passes through stacks are noted."""
        self._passes.clear()
        hooks = [stack.register_forward_pre_hook(self._note, with_kwargs=True) for stack in self._stacks()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def total(self, tokens: Sequence[int], predictions: Sequence[int]) -> int:
        """Two for a product and its sum, of the passes that were noted, and of what is before and after them. Waits for
        the device.

        Args:
            tokens: real ones of each name of the set.
            predictions: of each objective.
        """
        model = self._learner.model
        of_passes = sum(each.flops(self._counted) for each in self._passes)
        self._passes.clear()
        of_names = (
            count * Products(learns=True).flops(self._outside_stacks(name), self._counted)
            for name, count in zip(model.names, tokens, strict=True)
        )
        of_heads = (count * self._head(name) for name, count in zip(self._learner.objectives, predictions, strict=True))
        return of_passes + sum(of_names) + sum(of_heads)

    def _outside_stacks(self, name: str) -> list[nn.Parameter]:
        """The parameters of a tokenizer without those of its own encoder, whose passes are noted."""
        model = self._learner.model
        within = {id(parameter) for stack in model.stacks.values() for parameter in stack.parameters()}
        return [parameter for parameter in model.tokenizer(name).parameters() if id(parameter) not in within]

    def _head(self, name: str) -> int:
        """Per prediction: an objective's own weights, and those of a tokenizer that it scores ids by."""
        objective, model = self._learner.objective(name), self._learner.model
        products = Products(learns=True, before=any(p.requires_grad for p in model.parameters()))
        within = {id(p) for stack in _stacks_of(objective) for p in stack.parameters()}  # whose passes are noted
        own = products.flops((p for p in objective.parameters() if id(p) not in within), self._counted)
        tied = objective.tied_vectors(model) if isinstance(objective, TiesHead) else None
        return own if tied is None else own + products.flops([tied], {id(tied): 1.0})

    def _stacks(self) -> list[Backbone]:
        models: list[MultimodalTransformer] = [self._learner.model, *self._learner.references]
        own = [stack for name in self._learner.objectives for stack in _stacks_of(self._learner.objective(name))]
        return [stack for model in models for stack in model.stacks.values()] + own

    def _note(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x, tokens, *_ = args
        memory = kwargs.get("memory")
        before = x.requires_grad or (memory is not None and memory.hidden.requires_grad)
        products = Products(learns=torch.is_grad_enabled(), before=before)
        assert isinstance(stack, Backbone)
        self._passes.append(StackPass(stack, len(x), tokens, None if memory is None else memory.connectivity, products))


def _stacks_of(objective: nn.Module) -> list[Backbone]:
    """Stacks of its own, as the decoder of a masked autoencoder."""
    return [module for module in objective.modules() if isinstance(module, Backbone)]


def _multiplying(module: nn.Module) -> dict[int, float]:
    """By their ids, the parameters that multiply, and which share of their numbers multiplies a token: of experts those
    that it takes."""
    roles, shares = roles_of(module), dict[int, float]()
    for half in (child for child in module.modules() if isinstance(child, Experts)):
        shares |= {id(p): half.share_used for part in (half.up, half.down) for p in part.parameters()}
    multiplying = (p for name, p in module.named_parameters() if roles[name] in MULTIPLYING or roles[name] == "update")
    return {id(parameter): shares.get(id(parameter), 1.0) for parameter in multiplying}
