"""Decoding reads nothing of a GPU token by token, beam search and acting once in each step."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from builders import (
    Letters,
    audio,
    audio_batch,
    audio_spec,
    backbone,
    encoder_decoder,
    merge,
    model,
    seq2seq,
    text,
    text_batch,
    text_spec,
)
from device_waits import OnDevice, Waits
from torch import Tensor
from toy_environment import SEEDS, rolled, steps_of

from mmtx.batch import Batch
from mmtx.decoding.beam_search import beam_search
from mmtx.decoding.generate import generate
from mmtx.decoding.sampling import GREEDY, Sampling
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.model import MultimodalTransformer

CONTEXT, END = 24, 10


class OnGpu(OnDevice):
    """Stands for a tensor of a GPU."""

    is_cuda = True


class FakeGpu(Waits):
    """Copies to a device stand for copies to a GPU, and the way back leads to the host."""

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = super().__torch_function__(call, types, args, kwargs), getattr(call, "__name__", "")
        if name == "to" and any(isinstance(a, str | torch.device) for a in args[1:]):
            return result.as_subclass(Tensor if isinstance(args[0], OnGpu) else OnGpu)
        return result.as_subclass(Tensor) if name == "cpu" else result


class Event:
    """Of a stream: how many tokens had been written when it was recorded."""

    tokens = 0

    def record(self, stream: Any) -> None:
        self.at = Event.tokens

    def synchronize(self) -> None:
        assert Event.tokens > self.at, "the host waits for what it has just asked for"


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    append = TextDecoder.append

    def counted(self: TextDecoder, ids: Tensor) -> None:
        Event.tokens += 1
        append(self, ids)

    monkeypatch.setattr(TextDecoder, "append", counted)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    yield


def on_gpu(batch: Batch) -> Batch:
    return batch.map(lambda tensor: tensor.as_subclass(OnGpu))


def reads(call: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    with FakeGpu() as mode:
        result = call()
    return result, mode.found


def writer() -> tuple[MultimodalTransformer, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    whole = model({"text": text(text_spec(max_length=CONTEXT))}, backbone(init_std=0.3)).eval()
    vectors = whole.tokenizer("text").id_vectors  # type: ignore[attr-defined]
    return whole, lambda hidden: hidden @ vectors.T


SAMPLED = Sampling(0.8, top_k=8, top_p=0.9)


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize(
    ("samples", "sampling", "cache"),
    [(1, GREEDY, True), (3, SAMPLED, True), (3, GREEDY, False), (1, SAMPLED, False)],
    ids=["one", "sampled", "without a cache", "one sampled without a cache"],
)  # every pair of choices
def test_a_text_that_goes_on(samples: int, sampling: Sampling, cache: bool) -> None:
    """Read are the lengths of the prompts and, at the end, what was written; which is as on a CPU, in which texts that
    end sooner are found a token later."""
    whole, logits = writer()
    prompts = text_batch([3] * samples)
    for end, count in ((None, 8), (None, 16), (4, 16)):

        def write(batch: Batch, end: int | None = end, count: int = count) -> list[list[int]]:
            generator = torch.Generator().manual_seed(1)
            keys: dict[str, Any] = {"max_new_tokens": count, "sampling": sampling, "generator": generator}
            return generate(whole, logits, batch, "text", end=end, suppress_first=[1], cache=cache, **keys)

        written, found = reads(lambda: write(on_gpu(prompts)))
        assert found == {"tolist in generate": 2}
        assert written == write(prompts)


@pytest.mark.usefixtures("fake_cuda")
def test_the_end_is_found_a_token_later() -> None:
    whole, _ = writer()
    script = iter([3, END, 5, 5, 5])
    Event.tokens = 0
    always = lambda hidden: torch.nn.functional.one_hot(torch.tensor([next(script)]), 11).float()[:, None]  # noqa: E731
    assert generate(whole, always, on_gpu(text_batch([2])), "text", max_new_tokens=9, end=END) == [[3]]
    assert Event.tokens == 3


def recogniser(**changes: Any) -> tuple[MultimodalTransformer, Any, Batch]:
    """Sounds to texts, as Whisper does it."""
    specs = {"audio": audio_spec(), "text": text_spec(vocabulary=Letters(), max_length=CONTEXT)}
    whole = encoder_decoder({"audio": audio(specs["audio"]), "text": text(specs["text"])}, ["audio"]).eval()
    batch = merge(audio_batch([128, 90]), text_batch([4, 4]))
    return whole, seq2seq(whole, specs, suppress=[2], suppress_first=[3], **changes).eval(), batch


@pytest.mark.usefixtures("fake_cuda")
def test_a_transcript() -> None:
    whole, objective, batch = recogniser()
    objective.end = 99  # never written
    few, more = (reads(lambda: objective.write(whole, on_gpu(batch), max_new_tokens=n))[1] for n in (6, 12))  # noqa: B023
    constants = {"to in forward": 2}  # of a spectrogram, which stay
    assert few - more == constants and few >= more, "what is read does not depend on the number of tokens"
    assert more["tolist in generate"]


@pytest.mark.usefixtures("fake_cuda")
def test_beam_search_reads_its_candidates_once_a_step() -> None:
    whole, logits = writer()

    def search(batch: Batch, steps: int) -> Any:
        keys: dict[str, Any] = {"beam_size": 3, "length_penalty": 0.0, "end": 99}
        return beam_search(whole, logits, batch, "text", max_new_tokens=steps, **keys)

    prompts = text_batch([3, 3])
    (_, few), (found, more) = (reads(lambda: search(on_gpu(prompts), n)) for n in (4, 9))  # noqa: B023
    assert more - few == {"tolist in _best": 5}
    assert found == search(prompts, 9)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("cache", [True, False])
def test_acting_reads_the_actions_of_a_step(temperature: float, cache: bool) -> None:
    """Of all episodes together."""
    (episodes, environment, _), found = reads(lambda: rolled(temperature=temperature, cache=cache))
    steps = max(map(steps_of, SEEDS))
    assert found == {"cpu in chosen" if temperature else "cpu in roll_out": steps}
    again, other, _ = rolled(temperature=temperature, cache=cache)
    assert episodes == again and all(a.equal(b) for a, b in zip(environment.taken, other.taken, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_waited_for_as_often_for_many_tokens_as_for_few() -> None:
    """As torch itself counts it; a first text brings what is made once."""
    whole, _ = writer()
    whole, prompts, counts = whole.to("cuda"), text_batch([3, 3]).to("cuda"), []
    vectors = whole.tokenizer("text").id_vectors  # type: ignore[attr-defined]
    for tokens in (4, 4, 12):
        generator = torch.Generator("cuda").manual_seed(1)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                keys: dict[str, Any] = {"sampling": Sampling(0.8, 8, 0.9), "generator": generator, "end": 99}
                generate(whole, lambda hidden: hidden @ vectors.T, prompts, "text", max_new_tokens=tokens, **keys)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchronizing" in str(warning.message) for warning in caught))
    assert counts[1] == counts[2] > 0
