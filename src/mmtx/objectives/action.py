"""Prediction of actions: the decision transformer, and behaviour cloning."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.notebook import Notes
from mmtx.decoding.sampling import Sampling
from mmtx.errors import InvalidValue, check_at_least, check_within
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.objectives.step_prediction import StepPrediction
from mmtx.tokens import HiddenStates

ROUNDING = 1e-5
"""By which actions of -1..1 may be beyond it in float32."""


class Action(StepPrediction):
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
        notes: steps between two actions that stay in the window of roll-outs when others leave it; 0: none do.
        note_marks: the classes of these actions: at which a note begins, and ends.
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
        notes: int = 0,  # this and the next are absent in stored configs of earlier versions
        note_marks: Sequence[int] = (),
    ) -> None:
        super().__init__(
            specs=specs, model=model, weight=weight, target=action, read=read, dropout=dropout, key="action"
        )
        for key, episodes in (("val_episodes", val_episodes), ("test_episodes", test_episodes)):
            check_at_least(key, episodes, 1)
        if target_returns is not None and not target_returns:
            raise InvalidValue("target_returns", target_returns, "is empty", "null, for the best of the data")
        self.num_episodes, self.target_returns = {"val": val_episodes, "test": test_episodes}, target_returns
        field = specs[action].fields[self.field]
        if squash and not self.is_discrete and (field.largest or 0.0) > 1 + ROUNDING:
            problem = f"predicts numbers of -1..1, and actions of the data reach {field.largest:g}"
            otherwise = f"false, or '{action}' in the data divided by {field.largest:g}"
            raise InvalidValue("squash", squash, problem, otherwise)
        drawn = Sampling(temperature)
        self.sampling = drawn if self.is_discrete else None
        self.directions = known("accuracy") if self.is_discrete else {}
        self.action, self.squash = action, squash
        self.notes = _notes(notes, note_marks, specs[action].max_length, self.size if self.is_discrete else 0)

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """For every step of `read`, ``logits`` and ``probabilities`` of the classes, or ``actions``, the vectors."""
        outputs = super().outputs(model, batch)
        return outputs if self.is_discrete else {"actions": outputs["values"]}

    def predict(self, states: HiddenStates, num_steps: int | None = None) -> Float[Tensor, "B steps size"]:
        """Scores of the classes, or the vectors, of the first steps of each sample, or of all that it has."""
        out = super().predict(states, num_steps)
        return out.tanh() if self.squash and not self.is_discrete else out

    def act(
        self, states: HiddenStates, num_steps: int, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]:
        """The action of the last step.

        Args:
            states: of the steps.
            num_steps: how many every sample has.
            generators: one for each sample, on the CPU, where classes are drawn.
        """
        return self.chosen(self.predict(states, num_steps)[:, -1], generators, self.sampling)

    def chosen(
        self, predicted: Float[Tensor, "B size"], generators: Sequence[torch.Generator], sampling: Sampling | None
    ) -> Shaped[Tensor, "B ..."]:
        """An action for each sample: the best, or a class that is drawn.

        Args:
            predicted: of one step.
            generators: as in `act`.
            sampling: how classes are drawn; None, or a temperature of 0: they are not.
        """
        if sampling is None or not sampling.temperature:
            return self.choose(predicted)
        drawn = torch.stack([torch.rand(self.size, generator=generator) for generator in generators])
        gumbel = -(-drawn.clamp(min=1e-20).log()).log()
        return (sampling.filtered(predicted.cpu()) + gumbel).argmax(-1)


def _notes(most: int, marks: Sequence[int], context: int, num_actions: int) -> Notes | None:
    """Raises InvalidValue where a window has no place for as many, or actions have no such classes."""
    if not most:
        if marks:
            raise InvalidValue("note_marks", list(marks), "are of notes; give how many steps they have", "notes=2")
        return None
    check_within("notes", most, 0, context - 1)
    if not num_actions:
        raise InvalidValue("notes", most, "lie between two actions, and those of the data are no classes", "0")
    if len(set(marks)) != 2 or not all(0 <= mark < num_actions for mark in marks):
        problem = f"must be two classes of the {num_actions} that actions have, a beginning and an end"
        raise InvalidValue("note_marks", list(marks), problem)
    begin, end = marks
    return Notes(most, (begin, end))
