"""Calls a model of mmtx with the inputs of its public family."""

from typing import Any

from torch import Tensor

from mmtx.interop.exporting import family_of
from mmtx.learner import Learner


class Outputs(dict[str, Tensor]):
    """Outputs by name, as attributes, or in order."""

    def __getattr__(self, name: str) -> Tensor:
        if name in self:
            return self[name]
        raise AttributeError(f"there is no {name}; there is {', '.join(self)}")

    def __getitem__(self, key: str | int) -> Tensor:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


def forward(model: Learner, **inputs: Any) -> Outputs:
    """The family's outputs: ``logits``, or hidden states of a model without a head.

    Args:
        model: as `mmtx.from_pretrained` or `mmtx.load` gives it.
        inputs: by the family's names: ``input_ids``, ``attention_mask``, ``token_type_ids``, ``decoder_input_ids``,
            ``pixel_values``, ``input_features``, ``states``, ``actions``, ``returns_to_go``, ``timesteps``.

    Raises:
        UserError: the model is of no public family, or an input is missing.
    """
    family, config = family_of(model)
    return Outputs(family.forward(model, config, **inputs))
