"""Actions that a flow makes out of noise."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import required_spec
from mmtx.objectives.flow import Flow
from mmtx.objectives.flow_numbers import Times


class FlowPolicy(Flow):
    """The action of a step, or a chunk of actions that is one vector, made out of noise given the observation: one of
    those that the data has, where a squared error would learn their mean (Chi et al. 2023, arXiv 2303.04137; Black et
    al. 2024, arXiv 2410.24164).

    Args:
        action: name of the set, of vectors.
        times: of training, see `Flow`.
        num_steps: of Heun's method, by which it acts.
        val_episodes: played in every validation, where the data has an environment.
        test_episodes: played in the test.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        action: str,
        times: Times,
        num_steps: int,
        val_episodes: int,
        test_episodes: int,
    ) -> None:
        for key, episodes in (("val_episodes", val_episodes), ("test_episodes", test_episodes)):
            check_at_least(key, episodes, 1)
        if (longest := required_spec(action, specs, "action").max_length) > 1:
            problem = f"has windows of {longest} steps in the data, and one step's is made at a time"
            raise InvalidValue("action", action, problem, "data.context=1")
        super().__init__(specs=specs, model=model, weight=weight, names=[action], times=times, likelihood_steps=None)
        self.action, self.how = action, Integration(num_steps)
        self.num_episodes, self.target_returns = {"val": val_episodes, "test": test_episodes}, None

    def plan(
        self, model: MultimodalTransformer, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "B size"]:
        """An action for each episode, in the units of the data; see `Planner`."""
        head = self.head(self.action)
        canvas = head.blank(batch, torch.ones_like(batch.lengths[self.action]))
        made = self.made(model, canvas, generators, self.how)[self.action]
        values = head.fields_of(made)["values"]
        return values.flatten(0, 1) if values.dim() == 3 else values
