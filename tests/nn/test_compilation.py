"""What is compiled computes what is not, in as few graphs as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from builders import (
    POSITIONS,
    audio,
    audio_batch,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    merge,
    model,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
    text_spec,
)
from torch import Tensor
from torch._dynamo.utils import counters

import mmtx.nn.compilation
from mmtx.batch import Batch
from mmtx.decoding.generate import generate
from mmtx.decoding.sampling import GREEDY
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention_maps import attention_maps
from mmtx.tokens import Clock

RAGGED = [[9, 5, 7], [12, 8, 3], [7, 7, 7], [20, 3], [6]]
"""Lengths of the texts of one batch after another; one is full, and the last ones have other numbers of samples."""

STEPS = {"return": series_spec(1), "state": series_spec(3), "action": series_spec(num_classes=4)}

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are computed operation by operation, without a compiler's minutes."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(mmtx.nn.compilation, "BACKEND", "aot_eager")
    yield
    torch._dynamo.reset()


def num_graphs() -> int:
    return counters["stats"]["unique_graphs"]


def num_breaks() -> int:
    return sum(counters["graph_break"].values())


def gpt(compile: bool, **changes: object) -> MultimodalTransformer:
    keys = {"positions": POSITIONS["learned"], "dropout": 0.1, "compile": compile, **changes}
    return model({"text": text(text_spec(max_length=20))}, backbone(**keys)).train()


def vit(compile: bool) -> MultimodalTransformer:
    return model({"image": image()}, backbone(drop_path=0.3, layer_scale=0.5, compile=compile)).train()


def whisper(compile: bool) -> MultimodalTransformer:
    tokenizers = {"audio": audio(), "text": text(text_spec(max_length=20))}
    encoder = {"positions": POSITIONS["sinusoidal"], "compile": compile}
    return encoder_decoder(tokenizers, ["audio"], encoder=encoder, compile=compile).train()


def decision_transformer(compile: bool) -> MultimodalTransformer:
    tokenizers = {name: series(spec) for name, spec in STEPS.items()}
    return model(tokenizers, backbone(compile=compile, positions=POSITIONS["t5"]), clocks={"step": Clock()}).train()


def texts() -> list[Batch]:
    return [text_batch(lengths, seed=seed) for seed, lengths in enumerate(RAGGED[:4])]


def sounds() -> list[Batch]:
    return [merge(audio_batch(lengths), text_batch([5, 3, 9])) for lengths in ([90, 60, 70], [120, 80, 30])]


def episodes() -> list[Batch]:
    return [steps_batch(STEPS, lengths) for lengths in ([3, 5, 2], [3, 4, 2], [1, 3, 2, 4])]


FAMILIES: dict[str, tuple[Callable[[bool], MultimodalTransformer], list[Batch], int]] = {
    "gpt": (gpt, texts(), 1),
    "recomputed": (lambda compile: gpt(compile, activation_checkpointing="blocks"), texts(), 2),
    "windows": (lambda compile: gpt(compile, window=3, layers="LG", positions=POSITIONS["rotary"]), texts(), 2),
    "vit": (vit, [image_batch([1, 1, 1]), image_batch([1, 0, 1])], 2),
    "whisper": (whisper, sounds(), 2),
    "decision_transformer": (decision_transformer, episodes(), 1),
}
"""Model, batches, and graphs of all of them: one a stack; one more where full batches have masks of their own, or where
torch 2.11 recomputes."""


SLOW = ["windows", "vit", "whisper", "recomputed", "decision_transformer"]


def loss_and_gradients(whole: MultimodalTransformer, batch: Batch) -> tuple[Tensor, list[Tensor | None]]:
    whole.zero_grad()
    torch.manual_seed(1)
    states = whole(batch)
    loss = (states.hidden * torch.linspace(-1, 1, 24)).masked_fill(~states.valid[..., None], 0).sum()
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in whole.parameters()]


@pytest.mark.parametrize(
    ("family", "packed"),
    [
        *((family, False) for family in FAMILIES if family not in SLOW),
        *(pytest.param(family, False, marks=pytest.mark.slow) for family in SLOW),
        ("gpt", True),
        ("whisper", True),
    ],
)
def test_compiled_is_eager(family: str, packed: bool) -> None:
    """Losses and gradients, with dropout too. Padded stacks are one graph, of all lengths."""
    make, batches, expected = FAMILIES[family]
    plain, compiled = make(False), make(True)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for batch in batches:
        given = batch.packed() if packed else batch
        of_plain = loss_and_gradients(plain, given)
        torch.testing.assert_close(loss_and_gradients(compiled, given), of_plain, rtol=1e-4, atol=1e-4)
    if not packed:
        assert num_breaks() == 0
        assert num_graphs() <= expected


@pytest.mark.parametrize(
    ("sizes", "packed", "expected"),
    [
        (RAGGED, False, [1, 1, 1, 1, 2]),
        pytest.param([[8] * 3, [8] * 3, [6] * 3, [6] * 2, [5] * 4], False, [1, 1, 2, 3, 3], marks=pytest.mark.slow),
        (RAGGED, True, [0] * 5),
    ],
    ids=["ragged", "full", "packed"],
)
def test_lengths_lead_to_no_new_graph(
    sizes: list[list[int]], packed: bool, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ragged batches have one graph, and full ones one for the usual size and one for each axis that changes; a single
    row has its own, as torch takes a size of 1 for a constant. Packed on a CPU, a stack is not compiled."""
    monkeypatch.setattr(mmtx.nn.compilation, "BACKEND", "eager")  # graphs are counted, not differentiated
    body, counts = gpt(True, num_layers=1), []
    for lengths in sizes:
        batch = text_batch(lengths)
        loss_and_gradients(body, batch.packed() if packed else batch)
        counts.append(num_graphs())
    assert counts == expected


@pytest.mark.slow
def test_evaluation_has_one_more_graph_and_writing_none() -> None:
    body, batches = gpt(True, num_layers=1), texts()
    loss_and_gradients(body, batches[0])
    body.eval()
    with torch.no_grad():
        for batch in batches[1:4]:
            body(batch)
        assert num_graphs() == 2
        project = torch.randn(24, 11, generator=torch.Generator().manual_seed(0))
        generate(body, lambda hidden: hidden @ project, text_batch([4, 4]), "text", max_new_tokens=5, sampling=GREEDY)
    assert num_graphs() == 2


@pytest.mark.slow
def test_several_ranks_compile_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are alike share a graph, whatever the lengths."""
    monkeypatch.setattr(mmtx.nn.compilation, "ranks_are_connected", lambda: True)
    plain, compiled = gpt(False), gpt(True)
    for batch in texts()[:4]:
        of_plain = loss_and_gradients(plain, batch)
        torch.testing.assert_close(loss_and_gradients(compiled, batch), of_plain, rtol=1e-4, atol=1e-4)
    assert (num_graphs(), num_breaks()) == (1, 0)


@pytest.mark.slow
def test_an_evaluation_leaves_the_graph_of_training_alone() -> None:
    """Its padded batches have a graph for all sizes, and full ones of training go on with that of their own."""
    body, full = gpt(True, num_layers=1), text_batch([8] * 3)
    loss_and_gradients(body, full)
    body.eval()(text_batch([8, 5, 2]))
    before = num_graphs()
    loss_and_gradients(body.train(), full)
    assert num_graphs() == before


@pytest.mark.slow
def test_attention_is_seen_in_a_compiled_stack() -> None:
    """Whose graphs would not run the hooks of its blocks."""
    body = gpt(True).eval()
    body(text_batch([5, 3]))
    with attention_maps(body.backbone, "attention") as weights:
        body(text_batch([5, 3]))
    assert list(weights) == [0, 1]
