"""Cached decoding of episodes: hidden states of their newest step, every token computed once where that is exact."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mmtx.attention.rule import Connectivity
from mmtx.batch import Batch
from mmtx.decoding.history import History
from mmtx.model import MultimodalTransformer
from mmtx.nn.cache import Cache
from mmtx.process.device_copies import sent
from mmtx.tokens import HiddenStates, Span, TokenSet


@runtime_checkable
class Actor(Protocol):
    """An objective that chooses actions.

    Attributes:
        action: the name of actions in the set.
        read: the name from whose hidden states it chooses.
    """

    @property
    def action(self) -> str: ...

    @property
    def read(self) -> str: ...

    def act(
        self, states: HiddenStates, num_steps: int, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]: ...


class StepDecoder:
    """Hidden states of the steps of episodes, one step after another.

    A step begins with its observation, and its action is chosen from the hidden states of that. So the action is known
    one step later, where it comes first among the new tokens: in the order of arrival, each token attends to tokens
    before it alone, and their keys are cached. With the set return, state, action (R, S, A)::

        step   cached           new        action chosen from
        0      -                R0 S0      S0
        1      R0 S0            A0 R1 S1   S1
        2      R0 S0 A0 R1 S1   A1 R2 S2   S2

    That is exact while no step has left the window, and where no token attends to tokens that arrive later: steps are
    on the last clock of the set, actions come last in their step, neither goes through an encoder, and all mixers can
    keep what they need; where one reads tokens one after the other, what holds for a whole episode is not padded.
    Otherwise everything is recomputed in every step. Nothing here waits for a GPU, but in the first step where a mixer
    reads tokens one after the other.

    Args:
        names: of the set.
        timed: those that have new tokens in every step.
        cache: False: recompute everything in every step.
    """

    def __init__(
        self, model: MultimodalTransformer, actor: Actor, names: Sequence[str], timed: Sequence[str], *, cache: bool
    ) -> None:
        self._model, self._actor, self._timed = model, actor, list(timed)
        decoded = [name for name in model.decoded if name in names]
        clocks = list(dict.fromkeys(model.clock_of[name] for name in decoded))
        on_last = [name for name in decoded if model.clock_of[name] == clocks[-1]]
        ends_step = actor.action not in timed or on_last[-1] == actor.action
        caches = model.backbone.new_cache(0) is not None
        self._exact = cache and caches and on_last == self._timed and ends_step
        self._per_step = {
            name: int(model.tokenizer(name).num_tokens(torch.ones(1, dtype=torch.long))) for name in timed
        }
        self._cache: Cache | None = None
        self._rows = torch.zeros(0, dtype=torch.long)

    def states(self, history: History, acting: Int[Tensor, " b"], device: torch.device) -> tuple[HiddenStates, int]:
        """Hidden states of the window of some episodes, or of the last step alone; and how many steps those are."""
        token_set = self._model.tokenize(sent_batch(history.batch(acting), device))
        self._exact = self._exact and not history.is_cropped
        if not self._exact:
            return self._model.run(token_set), history.num_steps
        columns = self._by_arrival(token_set, history.num_steps)
        arrived = sent(columns, device)
        connectivity = token_set.connectivity.arranged(arrived)
        if self._cache is None:
            self._exact = not self._out_of_time(connectivity)
            if not self._exact:
                return self._model.run(token_set), history.num_steps
            capacity = len(columns) + history.context * sum(self._per_step.values())
            self._cache = self._model.backbone.new_cache(capacity)
        elif len(acting) < len(self._rows):
            self._cache.select(sent(torch.isin(self._rows, acting).nonzero()[:, 0], device))
        assert self._cache is not None
        self._rows, past = acting, self._cache.length
        connectivity = connectivity.tail(len(columns) - past)
        memory = self._model.run_encoder(token_set.memory) if token_set.memory is not None else None
        queries = (token_set.content + token_set.place)[:, arrived[past:]]
        hidden = self._model.backbone(queries, connectivity, cache=self._cache, memory=memory)
        return self._last_step(hidden, columns[past:], token_set, connectivity.query_valid), 1

    def _by_arrival(self, token_set: TokenSet, num_steps: int) -> Int[Tensor, " n"]:
        """The columns of the set's tokens, in the order in which they have arrived; on the host."""
        constant = [span for name, span in token_set.spans.items() if name not in self._timed]
        columns = [torch.arange(span.start, span.stop) for span in constant]
        for step in range(num_steps):
            for name in sorted(self._timed, key=lambda name: name != self._actor.action):
                own_step, size = step - (name == self._actor.action), self._per_step[name]
                if own_step >= 0:
                    start = token_set.spans[name].start + own_step * size
                    columns.append(torch.arange(start, start + size))
        return torch.cat(columns)

    def _out_of_time(self, arrived: Connectivity) -> bool:
        """A mixer reads tokens one after the other, and they do not arrive so. Later steps are as the first: what may
        be padded holds for a whole episode."""
        return self._model.backbone.needs_time_order and not arrived.is_sequence

    def _last_step(
        self,
        hidden: Float[Tensor, "B n D"],
        new: Int[Tensor, " n"],
        token_set: TokenSet,
        valid: Bool[Tensor, "#B n"],
    ) -> HiddenStates:
        """Only the tokens from which the actor chooses, which have arrived side by side."""
        span, size = token_set.spans[self._actor.read], self._per_step[self._actor.read]
        first = int(((new >= span.start) & (new < span.stop)).nonzero()[0])
        read = slice(first, first + size)
        return HiddenStates(hidden[:, read], valid[:, read], {self._actor.read: Span(0, size, 0, 0)})


def sent_batch(batch: Batch, device: torch.device) -> Batch:
    """A batch of the host, copied to a device, which nothing waits for."""
    pinned = batch.pin_memory() if device.type == "cuda" else batch
    return pinned.to(device, non_blocking=True)
