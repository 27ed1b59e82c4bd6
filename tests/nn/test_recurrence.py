"""What every recurrence of ``conf/backbone/attention`` promises: packed, padded and alone, with its cache and without,
numbers and gradients are the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from builders import KINDS, POSITIONS, backbone, image, image_batch, merge, model, text, text_batch
from torch import Tensor, nn

from mmtx.config.targets import resolve
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.low_rank import LoRA
from mmtx.nn.low_rank_update import updates_of
from mmtx.nn.recomputation import Recomputation
from mmtx.nn.recurrence import Recurrence
from mmtx.nn.roles import roles_of

FILES = sorted((Path(__file__).parents[2] / "conf/backbone/attention").glob("*.yaml"))
EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}


def recurrences() -> dict[str, Any]:
    """Makers of mixers, with the values of ``conf``."""
    made = {}
    for file in FILES:
        keys = yaml.safe_load(file.read_text())
        kind = resolve(keys.pop("_target_"), []) if "_target_" in keys else object
        if issubclass(kind, Recurrence):
            made[file.stem] = partial(kind, **{key: value for key, value in keys.items() if key != "_partial_"})
    return made


MIXERS = recurrences()
each_mixer = pytest.mark.parametrize("mixer", MIXERS)


def made(mixer: str, names: tuple[str, ...] = ("text",), layers: str = "SSG") -> MultimodalTransformer:
    kinds = {**KINDS, "S": LayerKind(mixer=MIXERS[mixer])}
    body = backbone(num_layers=3, layers=layers, kinds=kinds, positions=POSITIONS["rotary"], init_std=0.1)
    return model({name: text() for name in names}, body).double()


def states_and_gradients(whole: MultimodalTransformer, batch: Any) -> tuple[Tensor, list[Tensor | None]]:
    whole.zero_grad()
    states = whole(batch)
    (states.hidden * states.valid[..., None]).sin().sum().backward()
    return states.hidden.detach(), [parameter.grad for parameter in whole.parameters()]


def test_there_are_some() -> None:
    assert {
        "lstm",
        "gru",
        "min_lstm",
        "min_gru",
        "s4d",
        "mamba2",
        "gated_delta",
        "short_conv",
        "window_mlp",
    } <= MIXERS.keys()


@each_mixer
def test_packed_padded_and_alone_are_the_same(mixer: str) -> None:
    """Gradients too; one sample is empty."""
    whole, lengths = made(mixer), [3, 8, 0, 1, 5]
    batch = text_batch(lengths)
    padded, gradients = states_and_gradients(whole, batch)
    packed, of_packed = states_and_gradients(whole, batch.packed())
    torch.testing.assert_close(packed, padded, **EXACT)
    torch.testing.assert_close(of_packed, gradients, **EXACT)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    for row, length in enumerate(lengths):
        alone = whole(batch.select(slice(row, row + 1)))
        torch.testing.assert_close(alone.hidden[0, :length], padded[row, :length], **EXACT)


@each_mixer
def test_padding_before_and_between_changes_nothing(mixer: str) -> None:
    whole = made(mixer, ("source", "text"))
    batch = merge(text_batch([0, 2, 3], seed=1, name="source"), text_batch([4, 1, 4]))
    together = whole(batch)
    assert not together.valid[0, 0], "the first sample begins with padding"
    for row, length in enumerate((4, 1, 4)):
        alone = whole(batch.select(slice(row, row + 1))).tokens("text")[0]
        torch.testing.assert_close(together.tokens("text")[row, :length], alone[:length], **EXACT)


@each_mixer
def test_a_cache_goes_on_with_its_state(mixer: str) -> None:
    """By three tokens, two, and then one by one, with rows that are taken twice."""
    body, index = made(mixer).backbone, torch.tensor([1, 0, 1])
    x = torch.randn(2, 8, 24, dtype=torch.double)
    connectivity = made(mixer).tokenize(text_batch([8, 8])).connectivity
    cache = body.new_cache(8)
    assert cache is not None and not cache.rewinds
    body(x[:, :3], connectivity.prefix(3), cache)
    cache.select(index)
    parts = [
        body(x[index, start:stop], connectivity.prefix(stop).tail(stop - start), cache)
        for start, stop in ((3, 5), (5, 6), (6, 7), (7, 8))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), body(x, connectivity)[index, 3:], **EXACT)


@each_mixer
def test_a_text_is_written_the_same_with_its_cache_and_without(mixer: str) -> None:
    whole, written = made(mixer), []
    words = text_batch([3, 3])
    for cache in (True, False):
        decoder = TextDecoder(whole, partial(torch.mul, other=1.0), words, "text", start=3, stop=8, cache=cache)
        scores = []
        with torch.no_grad():
            for _ in range(5):
                scores.append(decoder.scores().reshape(2, -1, 24)[:, -1])
                decoder.append(scores[-1].argmax(-1) % 11)
        written.append(torch.stack(scores))
    torch.testing.assert_close(written[0], written[1], **EXACT)


@each_mixer
@pytest.mark.parametrize("how", ["selective", "blocks"])
def test_what_is_computed_again_is_the_same(mixer: str, how: Recomputation) -> None:
    whole, batch = made(mixer).train(), text_batch([3, 8, 1])
    expected = states_and_gradients(whole, batch)
    whole.backbone.activation_checkpointing = how
    torch.testing.assert_close(states_and_gradients(whole, batch), expected, **EXACT)


@each_mixer
def test_low_rank_updates_are_of_all_its_matrices(mixer: str) -> None:
    """By their roles; torch's own recurrences have no linear maps, and are refused by name."""
    whole, updates = made(mixer, layers="S"), partial(LoRA, rank=2, alpha=1.0, roles=["matrix"])
    if mixer in ("lstm", "gru"):
        with pytest.raises(InvalidValue, match=rf"targets=model.\* matches .*mixer.{mixer}, whose matrices cannot"):
            updates(targets=["model.*"]).add(nn.ModuleDict({"model": whole}))
        return
    matrices = {name for name, role in roles_of(whole.backbone).items() if role == "matrix"}
    updates(targets=["*"]).add(whole.backbone)
    updated = {name for name, module in whole.backbone.named_modules() if updates_of(module)}
    assert {f"{name}.weight" for name in updated} == matrices
    assert {name.rpartition(".")[2] for name in updated if ".mixer." in name} <= {"into", "hidden", "out"}


@each_mixer
def test_half_precision_is_as_far_as_it_rounds(mixer: str) -> None:
    whole, batch = made(mixer).float(), text_batch([8, 8, 8])
    exact = whole(batch).hidden
    with torch.autocast("cpu", torch.bfloat16):
        rounded = whole(batch).hidden
    torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.1)


@each_mixer
def test_a_picture_has_no_order_to_read_it_in(mixer: str) -> None:
    body = backbone(layers="S", kinds={"S": LayerKind(mixer=MIXERS[mixer])})
    with pytest.raises(InvalidValue, match=r"kinds.S.mixer=\w+ reads tokens one after the other, .* 'image' share an"):
        model({"image": image()}, body).tokenize(image_batch([1]))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mixer", MIXERS)
def test_compiled_is_eager(mixer: str) -> None:
    """By the compiler itself; of ragged batches and of full ones."""
    torch._dynamo.reset()
    kinds = {"S": LayerKind(mixer=MIXERS[mixer])}
    plain, compiled = (
        model({"text": text()}, backbone(num_layers=2, layers="S", kinds=kinds, compile=compile, init_std=0.1))
        for compile in (False, True)
    )
    for lengths in ([3, 8, 1, 5], [7, 4, 2, 1], [8, 8, 8, 8]):
        batch = text_batch(lengths)
        of_plain = states_and_gradients(plain, batch)
        torch.testing.assert_close(states_and_gradients(compiled, batch), of_plain, rtol=1e-3, atol=1e-3)
    torch._dynamo.reset()
