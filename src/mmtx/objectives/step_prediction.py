"""Prediction of what every step has, a class or numbers, from the hidden states of what comes before it."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.steps import first_steps
from mmtx.tokens import HiddenStates


class StepPrediction(Objective):
    """A class or a vector of every step, predicted from the hidden states of that step of another name.

    Classes have a cross-entropy, counted per step; vectors a squared error, counted per number. Only real steps count.

    Args:
        target: name of the data that is predicted. Where it is in the set, it comes after `read`.
        read: name whose hidden states of a step predict its target: their mean, where there are several.
        dropout: before the head.
        key: of the config, that names the target.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        target: str,
        read: str,
        dropout: float,
        key: str = "target",
    ) -> None:
        super().__init__(weight=weight)
        spec = required_spec(target, specs, key)
        required_name(read, model.names, "modality of the set", "read")
        self.field = next((field for field in ("class", "values") if field in spec.fields), "")
        if not self.field or not spec.fields[self.field].ragged:
            raise InvalidValue(key, target, "has no class or values for each step")
        if "times" in spec.fields and "times" not in model.tokenizer(read).spec.fields:
            raise InvalidValue("read", read, "has no tokens of every step")
        steps = model.tokenizer(read).spec.max_length
        if "times" in spec.fields and steps != spec.max_length:
            raise InvalidValue("read", read, f"has up to {steps} steps in the data, and {target} {spec.max_length}")
        _check_causal(model, read, target)
        self.tokens_per_step = int(model.tokenizer(read).num_tokens(torch.ones(1, dtype=torch.long)))
        field = spec.fields[self.field]
        self.names, self.size = spec.class_names, (field.num_classes if self.is_discrete else field.shape[1]) or 0
        self.labels, self.reads = (target,), (read,)
        self.target, self.read = target, read
        self.coded = {"head.weight": target, "head.bias": target} if self.is_discrete else {}
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(model.backbone.dim, self.size)
        initialise(self.head, std=model.backbone.init_std)

    @property
    def is_discrete(self) -> bool:
        """Whether classes are predicted."""
        return self.field == "class"

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch.lengths[self.target].sum() * (1 if self.is_discrete else self.size)

    def errors(
        self, predicted: Float[Tensor, "B steps size"], batch: Batch
    ) -> tuple[Float[Tensor, "B steps"], Bool[Tensor, "B steps"] | None]:
        """The loss of each step, 0 where there is none, and of classes whether the best is the true one."""
        target, real = batch[self.target][self.field], self._real(batch)
        if not self.is_discrete:
            return torch.where(real, (predicted.float() - target.float()).square().sum(-1), 0.0), None
        loss = F.cross_entropy(predicted.flatten(0, 1).float(), target.flatten(), reduction="none").view_as(target)
        return torch.where(real, loss, 0.0), (predicted.argmax(-1) == target) & real

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        loss, right = self.errors(self.predict(model(batch), self._num_steps(batch)), batch)
        count = self.count(batch)
        return Score(loss.sum(), count, {} if right is None else {"accuracy": (right.sum(), count)})

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = {"loss": score.mean_loss()}
        return metrics | ({"accuracy": score.ratio("accuracy")} if self.is_discrete else {})

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted, real = self.predict(model(batch), self._num_steps(batch)), self._real(batch)
        chosen, target = self.choose(predicted), batch[self.target][self.field]
        lengths = real.sum(1).tolist()
        examples = []
        for own, true, length in zip(chosen, target, lengths, strict=True):
            right = bool((own[:length] == true[:length]).all()) if length and self.is_discrete else None
            examples.append(Example(self._show(own[:length]), self._show(true[:length]), right))
        return examples

    @property
    def columns(self) -> dict[str, Any]:
        if self.is_discrete:
            return {"predicted": list[str], "truth": list[str], "probabilities": list[list[float]]}
        return {"predicted": list[list[float]], "truth": list[list[float]]}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """What is predicted of every step, the truth, and of classes the probabilities, in the order of the classes."""
        target, lengths = batch[self.target][self.field], batch.lengths[self.target].tolist()
        predicted = self.predict(model(batch), self._num_steps(batch)).float()
        values = {"predicted": self._named(self.choose(predicted)), "truth": self._named(target)}
        if self.is_discrete:
            values["probabilities"] = predicted.double().softmax(-1).tolist()
        return {
            name: [steps[:length] if length else None for steps, length in zip(rows, lengths, strict=True)]
            for name, rows in values.items()
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """For every step of `read`, ``logits`` and ``probabilities`` of the classes, or ``values``, the vectors."""
        predicted = self.predict(model(batch)).float()
        if not self.is_discrete:
            return {"values": predicted}
        return {"logits": predicted, "probabilities": predicted.softmax(-1)}

    def predict(self, states: HiddenStates, num_steps: int | None = None) -> Float[Tensor, "B steps size"]:
        """Scores of the classes, or the vectors, of the first steps of each sample, or of all that it has."""
        return self.head(self.dropout(first_steps(states.tokens(self.read), self.tokens_per_step, num_steps)))

    def choose(self, predicted: Float[Tensor, "*steps size"]) -> Shaped[Tensor, "*chosen"]:
        """The best class, or the vector."""
        return predicted.argmax(-1) if self.is_discrete else predicted

    def _num_steps(self, batch: Batch) -> int:
        return batch[self.target][self.field].shape[1]

    def _real(self, batch: Batch) -> Bool[Tensor, "B steps"]:
        lengths = batch.lengths[self.target]
        return torch.arange(self._num_steps(batch), device=lengths.device) < lengths[:, None]

    def _named(self, values: Shaped[Tensor, "B steps ..."]) -> list[list[Any]]:
        """Of each sample and step, the name of the class, or the vector."""
        rows: list[list[Any]] = values.tolist()
        return [[self._name(i) for i in steps] for steps in rows] if self.is_discrete else rows

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)

    def _show(self, values: Tensor) -> str:
        if self.is_discrete:
            return " ".join(map(self._name, values.tolist()))
        return "; ".join(" ".join(f"{value:.2f}" for value in step) for step in values.tolist())


def _check_causal(model: MultimodalTransformer, read: str, target: str) -> None:
    """Raises InvalidValue if the tokens that predict what is in a step attend to it, or to what follows from it."""
    names, clock_of = model.names, model.clock_of
    beside = [name for name in model.encoded if clock_of[name] == clock_of[read] and read not in model.encoded]
    if beside and beside[0] != target:
        problem = f"attends to all steps of '{beside[0]}', which is encoded, later ones too"
        raise InvalidValue("read", read, problem, "encode=[]")
    if target not in model.names:
        return
    mutual = clock_of[read] in model.clocks and model.clocks[clock_of[read]].mutual
    in_memory = target in model.encoded and read not in model.encoded  # cross-attention has no causal mask
    apart = clock_of[read] != clock_of[target]
    if read == target or apart or names.index(target) < names.index(read) or mutual or in_memory:
        order = f"modality=[{read},{target}], both on one clock that is not mutual"
        order = "a name that comes before it" if read == target else order
        raise InvalidValue("read", read, f"attends to '{target}' of its own step, or of later ones", order)
