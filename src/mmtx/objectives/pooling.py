"""From the tokens of a set to one vector per sample."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import required_name
from mmtx.tokens import HiddenStates


class Pool(ABC):
    """Pools the hidden states of a set to one vector per sample."""

    names: tuple[str, ...] = ()
    """Names that are pooled, where it is not the whole set."""

    @abstractmethod
    def __call__(self, states: HiddenStates) -> Float[Tensor, "B pooled"]: ...

    def width(self, dim: int) -> int:
        """The size of the vector, of tokens of width `dim`."""
        return dim

    @abstractmethod
    def check(self, model: MultimodalTransformer) -> None:
        """Raises ValueError if the set does not have what is pooled."""


class MeanPool(Pool):
    """The mean over all real tokens of the set but prefix tokens."""

    def __call__(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        weight = states.content_mask()[..., None].to(states.hidden.dtype)
        return (states.hidden * weight).sum(1) / weight.sum(1).clamp(min=1)

    def check(self, model: MultimodalTransformer) -> None:
        pass


class FirstPool(Pool):
    """The first token of one name, such as the [CLS] that BERT's texts begin with.

    Args:
        name: whose first token.
    """

    def __init__(self, *, name: str) -> None:
        self.name, self.names = name, (name,)

    def __call__(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        return states.tokens(self.name)[:, 0]

    def check(self, model: MultimodalTransformer) -> None:
        required_name(self.name, model.names, "modality of the set", "pool.name")


class LastPool(Pool):
    """The last real token of one name, such as the mark that ends CLIP's texts.

    Args:
        name: whose last token.
    """

    def __init__(self, *, name: str) -> None:
        self.name, self.names = name, (name,)

    def __call__(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        tokens, last = states.tokens(self.name), (states.lengths(self.name) - 1).clamp(min=0)
        return tokens.gather(1, last[:, None, None].expand(-1, 1, tokens.shape[2]))[:, 0]

    def check(self, model: MultimodalTransformer) -> None:
        required_name(self.name, model.names, "modality of the set", "pool.name")


class SummaryPool(Pool):
    """The summary token (CLS) of one name.

    Args:
        name: whose summary.
    """

    def __init__(self, *, name: str) -> None:
        self.name, self.names = name, (name,)

    def __call__(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        return states.summaries(self.name)[:, 0]

    def check(self, model: MultimodalTransformer) -> None:
        _check_summary(self.name, model)


class SummaryMeanPool(Pool):
    """The summary token (CLS) of one name, and beside it the mean of the name's other tokens: of twice the width
    (DINOv2's linear head: Oquab et al. 2023, arXiv 2304.07193).

    Args:
        name: whose tokens.
    """

    def __init__(self, *, name: str) -> None:
        self.name, self.names = name, (name,)

    def __call__(self, states: HiddenStates) -> Float[Tensor, "B pooled"]:
        tokens, lengths = states.tokens(self.name), states.lengths(self.name)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        mean = (tokens * real[..., None]).sum(1) / lengths.clamp(min=1)[:, None].to(tokens.dtype)
        return torch.cat([states.summaries(self.name)[:, 0], mean], dim=1)

    def width(self, dim: int) -> int:
        return 2 * dim

    def check(self, model: MultimodalTransformer) -> None:
        _check_summary(self.name, model)


def _check_summary(name: str, model: MultimodalTransformer) -> None:
    tokenizer = model.tokenizers[name] if name in model.tokenizers else None
    if not getattr(tokenizer, "num_summaries", 0):
        problem = f"the set [{', '.join(model.names)}] has no summary token of that name"
        raise ValueError(f"pool.name={name}: {problem}; set modality.{name}.summary=true")
