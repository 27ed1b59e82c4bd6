"""Passes that are replayed, with a recorder that computes anew in the same memory, as a GPU does."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, model, text, text_batch, text_spec
from torch import Tensor, nn

from mmtx.model import MultimodalTransformer
from mmtx.nn import backbone as of_backbone
from mmtx.nn import recorded_passes
from mmtx.nn.recorded_passes import SEEN, RecordedPass, RecordedPasses, form_of, substituted
from mmtx.nn.rotary import InterleavedTable


def record_on_host(device: torch.device) -> recorded_passes.Record:
    def record(compute: Callable[[], Sequence[Tensor | None]]) -> tuple[list[Tensor | None], Callable[[], None]]:
        results = list(compute())

        def replay() -> None:
            with torch.enable_grad():
                anew = compute()
            for kept, new in zip(results, anew, strict=True):
                if kept is not None and new is not None:
                    kept.copy_(new)

        return results, replay

    return record


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RecordedPass]]:
    """Passes are recorded on the host, of stacks that are not compiled either; gives those replayed, in order."""
    replayed: list[RecordedPass] = []
    forward = RecordedPass.forward

    def counted(self: RecordedPass, node: Any, inputs: Sequence[Tensor]) -> Any:
        replayed.append(self)
        return forward(self, node, inputs)

    monkeypatch.setattr(RecordedPass, "forward", counted)
    monkeypatch.setattr(recorded_passes, "recorder", record_on_host)
    monkeypatch.setattr(recorded_passes, "has_room", lambda: True)
    monkeypatch.setattr(of_backbone, "can_record", lambda device: True)
    monkeypatch.setattr(of_backbone, "in_one_graph_or_by_block", lambda run, call, is_ragged: (run, call))
    yield replayed


def writer(**changes: Any) -> MultimodalTransformer:
    torch.manual_seed(0)
    return model({"text": text(text_spec(max_length=12))}, backbone(compile=True, **changes)).train()


def trained(whole: MultimodalTransformer, lengths: Sequence[list[int]], micro: int = 1) -> list[Tensor]:
    """The hidden states of each step, and the weights at the end."""
    optimizer, found = torch.optim.SGD(whole.parameters(), lr=0.5), []
    for step, of_samples in enumerate(lengths):
        torch.manual_seed(step)
        for part in range(micro):
            hidden = whole(text_batch(of_samples, seed=micro * step + part)).tokens("text")
            (hidden * torch.linspace(-1, 1, hidden.shape[-1])).square().mean().backward()
            found.append(hidden.detach())
        optimizer.step()
        optimizer.zero_grad()
    return [*found, *(parameter.detach() for parameter in whole.parameters())]


POSITION = ["learned", "rotary", "alibi", "t5"]


@pytest.mark.parametrize("changes", [{"dropout": 0.5}, *({"positions": POSITIONS[name]} for name in POSITION)])
@pytest.mark.parametrize("micro", [1, 2])
def test_replayed_passes_are_those_of_the_stack(
    changes: dict[str, Any], micro: int, recorded: list[RecordedPass]
) -> None:
    """Bit for bit, with gradients that add up over micro-batches."""
    lengths = [[5, 5]] * (SEEN + 3)
    found = trained(writer(**changes), lengths, micro)
    assert len(recorded) == micro * len(lengths) - SEEN and len({*recorded}) == 1
    plain = trained(writer(**changes), lengths[:0])  # as they begin
    assert any(not one.equal(other) for one, other in zip(plain, found[-len(plain) :], strict=True))
    whole = writer(**changes)
    whole.backbone.is_compiled = False
    assert all(map(torch.equal, found, trained(whole, lengths, micro)))


def test_what_came_out_stays(recorded: list[RecordedPass]) -> None:
    """Hidden states and gradients are not overwritten by the next pass."""
    whole, found = writer(), []
    for step in range(SEEN + 3):
        whole.zero_grad()
        hidden = whole(text_batch([5, 5], seed=step)).tokens("text")
        hidden.square().sum().backward()
        gradients = [p.grad for p in whole.backbone.parameters() if p.grad is not None]
        found.append((hidden, hidden.detach().clone(), gradients, [g.clone() for g in gradients]))
    assert len(recorded) == 3
    for hidden, as_it_was, gradients, as_they_were in found:
        assert hidden.equal(as_it_was) and all(map(torch.equal, gradients, as_they_were))


def test_a_pass_that_is_not_over_is_left_alone(recorded: list[RecordedPass]) -> None:
    """Two passes before a backward pass: the second is computed by the stack. One that is dropped blocks nothing."""
    whole, whole_twice = writer(), writer()
    trained(whole, [[5, 5]] * (SEEN + 1)), trained(whole_twice, [[5, 5]] * (SEEN + 1))
    recorded.clear()
    one, two = (whole(text_batch([5, 5], seed=seed)).tokens("text") for seed in (7, 8))
    assert len(recorded) == 1
    (one.square().sum() + two.square().sum()).backward()
    whole_twice.backbone.is_compiled = False
    for seed in (7, 8):
        whole_twice(text_batch([5, 5], seed=seed)).tokens("text").square().sum().backward()
    for mine, other in zip(whole.parameters(), whole_twice.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    for seed in (1, 2):
        recorded.clear()
        dropped = whole(text_batch([5, 5], seed=seed)).tokens("text")
        assert len(recorded) == 1
        del dropped
        gc.collect()


def test_a_second_backward_pass_is_refused(recorded: list[RecordedPass]) -> None:
    whole = writer()
    trained(whole, [[5, 5]] * (SEEN + 1))
    loss = whole(text_batch([5, 5])).tokens("text").square().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass .* set backbone.compile=false"):
        loss.backward()


def test_which_passes_are_recorded(recorded: list[RecordedPass], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same sizes, a few times, up to a number of them; in training, with gradients; of small stacks."""
    whole = writer()
    trained(whole, [[n, n] for n in (2, 3, 4, 5, 6, 7)] * SEEN)
    assert not recorded
    trained(whole, [[n, n] for n in (2, 3, 4, 5, 6, 7)])
    assert len({*recorded}) == recorded_passes.MOST == len(recorded)
    recorded.clear()
    with torch.no_grad():
        whole(text_batch([2, 2]))
    whole.eval()(text_batch([2, 2]))
    assert not recorded
    monkeypatch.setattr(recorded_passes, "SMALL", 100)
    trained(whole.train(), [[2, 2]])
    assert not recorded


def test_weights_at_another_place_are_another_stack(recorded: list[RecordedPass]) -> None:
    whole = writer()
    trained(whole, [[5, 5]] * (SEEN + 1))
    assert len(recorded) == 1
    for parameter in whole.backbone.parameters():
        parameter.data = parameter.data.clone()
    copied = copy.deepcopy(whole)
    assert all(map(torch.equal, trained(whole, [[5, 5]]), trained(copied, [[5, 5]])))
    assert len(recorded) == 1


def test_what_is_changed_between_steps_counts(recorded: list[RecordedPass]) -> None:
    """Weights that are frozen, a chance of dropout, and one weight in two places, as in the stack by itself."""

    def changed(compiled: bool) -> list[Tensor]:
        whole = writer()
        whole.backbone.is_compiled = compiled
        first, second = whole.backbone.blocks
        second.mlp.up.weight = first.mlp.up.weight
        whole.train()
        found = trained(whole, [[5, 5]] * (SEEN + 1))
        whole.backbone.embed_dropout.p = 0.5
        found += trained(whole, [[5, 5]])
        second.requires_grad_(False)
        return [*found, *trained(whole, [[5, 5]] * (SEEN + 1))]

    one, other = changed(True), changed(False)
    assert len(recorded) == 2 and len({*recorded}) == 2
    assert all(map(torch.equal, one, other))


def test_a_copy_has_none() -> None:
    made = RecordedPasses()
    made._made["a"] = made  # type: ignore[assignment]
    assert not copy.deepcopy(made)._made and not pickle.loads(pickle.dumps(made))._made


@dataclass(frozen=True)
class Part:
    tensor: Tensor
    others: tuple[Any, ...] = ()
    derived: Any = field(default=0, init=False)


def test_forms_and_substitution() -> None:
    one, two = torch.ones(2), torch.ones(3)
    shared = (one, 3)
    value = [shared, {"a": 1}.get("b"), shared, (two, one)]
    tensors: dict[int, Tensor] = {}
    form = form_of(value, tensors)
    assert [*tensors] == [id(one), id(two)]
    assert (
        form
        == form_of([(two, 3), None, (two, 3), (one, two)], {})
        != form_of([(two, 3), None, (one, 3), (one, two)], {})
    )
    assert form != form_of([(one, 4), None, (one, 4), (two, one)], {})
    mine = substituted(value, {id(one): two, id(two): one})
    assert mine[0] is mine[2] and mine[0][0] is two and mine[3][0] is one and mine[0][1] == 3
    assert substituted(InterleavedTable(one, two), {id(one): two}) == InterleavedTable(two, two)
    for unknown in ({"a": one}, object(), [nn.Linear(1, 1)], Part(one)):
        assert form_of((one, unknown), {}) is None
