"""The last steps of episodes as a batch: what an acting model has observed, earned and done."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.decoding.notebook import Notebook, Notes, behind
from mmtx.environment import Observation


class History:
    """A window of the last steps of all episodes: observations and returns up to now, actions before now.

    With notes, steps of the past stay in the window while others leave it, see `Notebook`: of four steps, two notes,
    which ``<`` begins and ``>`` ends, at the eighth step::

        action   a < > b c d e .
        window     < >       e .

    Times in a window follow each other, as they do in training, whatever was left out between.

    Args:
        specs: what the data declares.
        names: of the set.
        action: name of the actions.
        constants: of each episode, what holds for all its steps.
        notes: steps that stay, between two actions; None: none do.
    """

    def __init__(
        self,
        specs: Mapping[str, Spec],
        names: Sequence[str],
        action: str,
        constants: Sequence[Sample],
        notes: Notes | None = None,
    ) -> None:
        self._specs, self._action, self._count = specs, action, len(constants)
        self.timed = [name for name in names if "times" in specs[name].fields]
        self.context = min((specs[name].max_length for name in self.timed), default=1)
        self._windows = {name: self._zeros(specs[name]) for name in self.timed}
        self._constants = {
            name: padded([constant[name] for constant in constants], specs[name])
            for name in names
            if name not in self.timed
        }
        self._notebook: Notebook | None = None
        if notes is not None:
            self._notebook = Notebook(self._count, 0, notes.most, notes.marks, torch.device("cpu"))
        self._num_observed = 0

    @property
    def num_steps(self) -> int:
        """Steps in the window."""
        return min(self._num_observed, self.context)

    @property
    def is_cropped(self) -> bool:
        """Whether earlier steps have left the window."""
        return self._num_observed > self.context

    def observe(self, observation: Observation, to_go: Float[Tensor, " n"], reward: Float[Tensor, " n"]) -> None:
        """Begins a new step."""
        self._num_observed += 1
        self._make_room()
        computed = {"return": {"values": to_go[:, None]}, "reward": {"values": reward[:, None]}}
        for name in self.timed:
            if name == self._action:
                continue
            if name in observation[0]:
                fields = {key: torch.stack([one[name][key] for one in observation]) for key in observation[0][name]}
            else:
                fields = computed[name]
            self._set(name, fields)

    def act(self, actions: Tensor) -> None:
        """Ends the step with an action in every episode."""
        if self._action in self.timed:
            key = next(key for key in ("class", "values") if key in self._specs[self._action].fields)
            self._set(self._action, {key: actions})
        if self._notebook is not None:
            self._notebook.read(actions[:, None])

    def batch(self, index: Int[Tensor, " b"]) -> Batch:
        """The window of some episodes."""
        fields: dict[str, dict[str, Tensor]] = {}
        lengths: dict[str, Tensor] = {}
        full: dict[str, bool] = {}
        first = self._num_observed - self.num_steps
        for name, window in self._windows.items():
            length = self.num_steps - (name == self._action)
            fields[name] = {
                key: values[index, -self.num_steps :][:, : max(length, 1)] for key, values in window.items()
            }
            fields[name]["times"] = torch.arange(first, first + max(length, 1)).expand(len(index), -1)
            lengths[name], full[name] = torch.full((len(index),), length), length > 0
        for name, (constant, counts, width) in self._constants.items():
            fields[name], lengths[name] = {key: values[index] for key, values in constant.items()}, counts[index]
            full[name] = bool((lengths[name] == width).all())
        return Batch(fields, lengths, full, index)

    def _make_room(self) -> None:
        """Moves the steps of all windows up, for another one behind them: without it the oldest is dropped, or, of a
        notebook, the oldest that may be."""
        dropped = torch.zeros(self._count, dtype=torch.long)
        if self._notebook is not None and self.is_cropped:
            dropped = self._notebook.next_dropped()
        rows, kept = torch.arange(self._count)[:, None], behind(dropped, self.context)
        for window in self._windows.values():
            for key, values in window.items():
                window[key] = torch.cat([values[rows, kept], torch.zeros_like(values[:, :1])], 1)

    def _set(self, name: str, fields: Mapping[str, Tensor]) -> None:
        """What the newest step has of a name."""
        for key, values in fields.items():
            self._windows[name][key][:, -1] = values

    def _zeros(self, spec: Spec) -> dict[str, Tensor]:
        """An empty window."""
        return {
            key: torch.zeros(self._count, self.context, *[size or 0 for size in f.shape[1:]], dtype=f.dtype)
            for key, f in spec.fields.items()
            if key != "times"
        }


def padded(parts: Sequence[Mapping[str, Tensor]], spec: Spec) -> tuple[dict[str, Tensor], Int[Tensor, " n"], int]:
    """Parts of unequal length as one batch, padded at the end as by collating; their lengths, and the longest."""
    ragged = any(f.ragged for f in spec.fields.values())
    counts = [len(next(iter(part.values()))) if ragged else 1 for part in parts]
    longest = max(*counts, 1)
    fields = {}
    for key, f in spec.fields.items():
        shape = (longest, *f.shape[1:]) if f.ragged else f.shape
        out = torch.zeros(len(parts), *[size or 0 for size in shape], dtype=f.dtype)
        for row, part in enumerate(parts):
            out[(row, slice(len(part[key]))) if f.ragged else row] = part[key]
        fields[key] = out
    return fields, torch.tensor(counts), longest
