"""Prediction of actions: the decision transformer, and behaviour cloning."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.decoding.sampling import Sampling
from mmtx.errors import InvalidValue, check_at_least
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.steps import first_steps
from mmtx.tokens import HiddenStates

ROUNDING = 1e-5
"""By which actions of -1..1 may be beyond it in float32."""


class Action(Objective):
    """The action of every step, predicted from the hidden states of its observation.

    With the set ``[return, state, action]`` this is the decision transformer (Chen et al. 2021, arXiv 2106.01345);
    without ``return``, behaviour cloning. Classes have a cross-entropy, counted per step; vectors a squared error,
    counted per number. Only real actions count.

    Args:
        action: name of the data that is predicted. Where it is in the set, it comes after `read`.
        read: name whose hidden states of a step predict its action: their mean, where there are several.
        squash: tanh of predicted vectors, for actions in -1..1.
        dropout: before the head.
        val_episodes: played in every validation, where the data has an environment.
        test_episodes: played in the test.
        target_returns: the first gives the metric ``return``. None: the best of the data.
        temperature: of classes that are drawn in roll-outs; 0 takes the best, which may go round in circles where the
            demonstrator knew more than the model observes.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        action: str,
        read: str,
        squash: bool,
        dropout: float,
        val_episodes: int,
        test_episodes: int,
        target_returns: list[float] | None,
        temperature: float,
    ) -> None:
        super().__init__(weight=weight)
        for key, episodes in (("val_episodes", val_episodes), ("test_episodes", test_episodes)):
            check_at_least(key, episodes, 1)
        if target_returns is not None and not target_returns:
            raise InvalidValue("target_returns", target_returns, "is empty", "null, for the best of the data")
        self.num_episodes, self.target_returns = {"val": val_episodes, "test": test_episodes}, target_returns
        spec = required_spec(action, specs, "action")
        required_name(read, model.names, "modality of the set", "read")
        self.field = next((key for key in ("class", "values") if key in spec.fields), "")
        if not self.field or not spec.fields[self.field].ragged:
            raise InvalidValue("action", action, "has no class or values for each step")
        if "times" in spec.fields and "times" not in model.tokenizer(read).spec.fields:
            raise InvalidValue("read", read, "has no tokens of every step")
        steps = model.tokenizer(read).spec.max_length
        if "times" in spec.fields and steps != spec.max_length:
            raise InvalidValue("read", read, f"has up to {steps} steps in the data, and {action} {spec.max_length}")
        _check_causal(model, read, action)
        self.tokens_per_step = int(model.tokenizer(read).num_tokens(torch.ones(1, dtype=torch.long)))
        field = spec.fields[self.field]
        if squash and self.field == "values" and (field.largest or 0.0) > 1 + ROUNDING:
            problem = f"predicts numbers of -1..1, and actions of the data reach {field.largest:g}"
            otherwise = f"false, or '{action}' in the data divided by {field.largest:g}"
            raise InvalidValue("squash", squash, problem, otherwise)
        size = field.num_classes if self.field == "class" else field.shape[1]
        drawn = Sampling(temperature)
        self.sampling = drawn if self.field == "class" else None
        self.directions = known("accuracy") if self.is_discrete else {}
        self.labels, self.reads = (action,), (read,)
        self.action, self.read, self.squash = action, read, squash
        self.names, self.size = spec.class_names, size or 0
        self.coded = {"head.weight": action, "head.bias": action} if self.is_discrete else {}
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(model.backbone.dim, self.size)
        initialise(self.head, std=model.backbone.init_std)

    @property
    def is_discrete(self) -> bool:
        return self.field == "class"

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch.lengths[self.action].sum() * (1 if self.is_discrete else self.size)

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        predicted, real = self.predict(model(batch), batch[self.action][self.field].shape[1]), self._real(batch)
        target = batch[self.action][self.field]
        count = self.count(batch)
        if not self.is_discrete:
            error = (predicted.float() - target.float()).square().sum(-1)
            return Score(torch.where(real, error, 0.0).sum(), count)
        loss = F.cross_entropy(predicted.flatten(0, 1).float(), target.flatten(), reduction="none").view_as(target)
        right = (predicted.argmax(-1) == target) & real
        return Score(torch.where(real, loss, 0.0).sum(), count, {"accuracy": (right.sum(), count)})

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = {"loss": score.mean_loss()}
        return metrics | ({"accuracy": score.ratio("accuracy")} if self.is_discrete else {})

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted, real = self.predict(model(batch), batch[self.action][self.field].shape[1]), self._real(batch)
        chosen, target = self.choose(predicted), batch[self.action][self.field]
        lengths = real.sum(1).tolist()
        examples = []
        for actions, true, length in zip(chosen, target, lengths, strict=True):
            right = bool((actions[:length] == true[:length]).all()) if length and self.is_discrete else None
            examples.append(Example(self._show(actions[:length]), self._show(true[:length]), right))
        return examples

    @property
    def columns(self) -> dict[str, Any]:
        if self.is_discrete:
            return {"predicted": list[str], "truth": list[str], "probabilities": list[list[float]]}
        return {"predicted": list[list[float]], "truth": list[list[float]]}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The action of every step, the true one, and of classes the probabilities, in the order of the classes."""
        target, lengths = batch[self.action][self.field], batch.lengths[self.action].tolist()
        predicted = self.predict(model(batch), target.shape[1]).float()
        values = {"predicted": self._named(self.choose(predicted)), "truth": self._named(target)}
        if self.is_discrete:
            values["probabilities"] = predicted.double().softmax(-1).tolist()
        return {
            name: [steps[:length] if length else None for steps, length in zip(rows, lengths, strict=True)]
            for name, rows in values.items()
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """For every step of `read`, ``logits`` and ``probabilities`` of the classes, or ``actions``, the vectors."""
        predicted = self.predict(model(batch)).float()
        if not self.is_discrete:
            return {"actions": predicted}
        return {"logits": predicted, "probabilities": predicted.softmax(-1)}

    def _named(self, actions: Shaped[Tensor, "B steps ..."]) -> list[list[Any]]:
        """Of each sample and step, the name of the class, or the vector."""
        rows: list[list[Any]] = actions.tolist()
        return [[self._name(i) for i in steps] for steps in rows] if self.is_discrete else rows

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)

    def predict(self, states: HiddenStates, num_steps: int | None = None) -> Float[Tensor, "B steps size"]:
        """Scores of the classes, or the vectors, of the first steps of each sample, or of all that it has."""
        steps = first_steps(states.tokens(self.read), self.tokens_per_step, num_steps)
        out = self.head(self.dropout(steps))
        return out.tanh() if self.squash and not self.is_discrete else out

    def choose(self, predicted: Float[Tensor, "*steps size"]) -> Shaped[Tensor, "*chosen"]:
        """The action itself: the best class, or the vector."""
        return predicted.argmax(-1) if self.is_discrete else predicted

    def act(
        self, states: HiddenStates, num_steps: int, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]:
        """The action of the last step.

        Args:
            states: of the steps.
            num_steps: how many every sample has.
            generators: one for each sample, on the CPU, where classes are drawn.
        """
        predicted = self.predict(states, num_steps)[:, -1]
        if self.sampling is None or not self.sampling.temperature:
            return self.choose(predicted)
        drawn = torch.stack([torch.rand(self.size, generator=generator) for generator in generators])
        gumbel = -(-drawn.clamp(min=1e-20).log()).log()
        return (self.sampling.filtered(predicted.cpu()) + gumbel).argmax(-1)

    def _real(self, batch: Batch) -> Bool[Tensor, "B steps"]:
        steps = batch[self.action][self.field].shape[1]
        return torch.arange(steps, device=batch.lengths[self.action].device) < batch.lengths[self.action][:, None]

    def _show(self, actions: Tensor) -> str:
        if self.is_discrete:
            return " ".join(map(self._name, actions.tolist()))
        return "; ".join(" ".join(f"{value:.2f}" for value in action) for action in actions.tolist())


def _check_causal(model: MultimodalTransformer, read: str, action: str) -> None:
    """Raises InvalidValue if the tokens that predict an action attend to it, or to what follows from it."""
    names, clock_of = model.names, model.clock_of
    beside = [name for name in model.encoded if clock_of[name] == clock_of[read] and read not in model.encoded]
    if beside and beside[0] != action:
        problem = f"attends to all steps of '{beside[0]}', which is encoded, later ones too"
        raise InvalidValue("read", read, problem, "encode=[]")
    if action not in model.names:
        return
    mutual = clock_of[read] in model.clocks and model.clocks[clock_of[read]].mutual
    in_memory = action in model.encoded and read not in model.encoded  # cross-attention has no causal mask
    apart = clock_of[read] != clock_of[action]
    if read == action or apart or names.index(action) < names.index(read) or mutual or in_memory:
        order = f"modality=[{read},{action}], both on one clock that is not mutual"
        order = "a name that comes before it" if read == action else order
        raise InvalidValue("read", read, f"attends to '{action}' of its own step, or of later ones", order)
