"""A mixer from outside, as docs/extending.md shows it: a recurrence between layers of attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import KINDS, POSITIONS, backbone, model, text, text_batch
from outside_module import outside_module
from packages import plugin, train, unpack
from run_cli import mmtx, text_of
from test_resume import play
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind

LAB, WORDS = plugin("recurrent_mixer"), train("recurrent_mixer")
GRU = outside_module("recurrent_mixer/my_lab/mixers.py").GRU
RECURRENT = {"layers": "RG", "kinds": {**KINDS, "R": LayerKind(mixer=GRU)}, "positions": POSITIONS["rotary"]}


def made(**changes: Any) -> MultimodalTransformer:
    return model({"text": text()}, backbone(num_layers=4, **{**RECURRENT, **changes}))


def states_and_gradients(whole: MultimodalTransformer, batch: Any) -> tuple[Tensor, list[Tensor | None]]:
    whole.zero_grad()
    states = whole(batch)
    (states.hidden * states.valid[..., None]).square().sum().backward()
    return states.hidden.detach(), [parameter.grad for parameter in whole.parameters()]


def test_its_parameters_are_named_after_what_they_are() -> None:
    names = [name for name, _ in made().backbone.named_parameters()]
    assert "blocks.0.mixer.gru.weight_ih_l0" in names and "blocks.1.attention.qkv.weight" in names


def test_packed_rows_are_padded_ones() -> None:
    """Its state begins anew with each sample, one of which is empty."""
    whole, batch = made(drop_path=0.3).train(), text_batch([3, 8, 0, 1, 3])
    torch.manual_seed(0)
    padded, grads = states_and_gradients(whole, batch)
    torch.manual_seed(0)
    packed, packed_grads = states_and_gradients(whole, batch.packed())
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed_grads, grads, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_compiled_and_recomputed_blocks_are_plain_ones(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    batch, plain = text_batch([5, 8, 2]), made().train()
    for changes in (
        {"compile": True},
        {"activation_checkpointing": "selective"},
        {"activation_checkpointing": "blocks"},
    ):
        torch.testing.assert_close(
            states_and_gradients(made(**changes).train(), batch), states_and_gradients(plain, batch)
        )


def test_a_cache_goes_on_with_its_state() -> None:
    """Token by token, with rows that are taken twice."""
    body, index = made().backbone, torch.tensor([1, 0, 1])
    token_set = made().tokenize(text_batch([8, 8]))
    x, connectivity = token_set.content, token_set.connectivity
    cache = body.new_cache(8)
    assert cache is not None and not cache.rewinds
    body(x[:, :3], connectivity.prefix(3), cache)
    cache.select(index)
    parts = [body(x[index, t : t + 1], connectivity.prefix(t + 1).tail(1), cache) for t in range(3, 8)]
    torch.testing.assert_close(torch.cat(parts, 1), body(x, connectivity)[index, 3:], atol=1e-5, rtol=1e-5)


def test_a_mixer_that_cannot_be_packed_cached_or_attend_a_memory_is_refused() -> None:
    class Alone(GRU):
        packs = False

        def new_cache(self, capacity: int) -> None:
            return None

    whole = made(kinds={**KINDS, "R": LayerKind(mixer=Alone)})
    with pytest.raises(InvalidValue, match=r"kinds.R.mixer=Alone cannot keep the samples .* loader.packing=false"):
        whole(text_batch([2, 3]).packed())
    assert whole.backbone.new_cache(8) is None
    with pytest.raises(InvalidValue, match="attention=GRU cannot attend to a memory"):
        backbone(attention=GRU, cross_attention=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the package and a run of it, and what was refused there."""
    folder = unpack("recurrent_mixer", tmp_path_factory.mktemp("lab"))
    (folder / "my_lab" / "alone.py").write_text(
        "from my_lab.mixers import GRU\n\n\nclass Alone(GRU):\n    packs = False\n"
    )
    alone = ["loader.packing=true", "backbone.layers=GQ", "+backbone.kinds.Q.mixer._target_=my_lab.alone.Alone"]
    cases = [
        {"words": [*WORDS, "run_dir=whole"]},
        {"words": ["check", *WORDS[1:], "modality.text.causal=false", "objective=[masked_token]"]},
        {"words": ["check", *WORDS[1:], *alone]},
    ]
    done = play([{"cwd": str(folder), **case} for case in cases])
    assert [each["code"] for each in done] == [0, 2, 2], [each["output"] for each in done]
    (folder / "refused.txt").write_text(done[-2]["output"] + done[-1]["output"])
    return folder


def test_it_writes_the_same_with_and_without_its_cache(lab: Path) -> None:
    written = []
    for cache in ("true", "false"):
        done = mmtx("generate", "whole", *LAB, "prompt=to", "max_new_tokens=9", "seed=1", f"cache={cache}", cwd=lab)
        assert done.returncode == 0, text_of(done)
        written.append(done.stdout)
    assert written[0] == written[1]


def test_what_it_cannot_do_is_refused_before_training(lab: Path) -> None:
    refused = (lab / "refused.txt").read_text()
    assert "backbone.kinds.Q.mixer=Alone cannot keep the samples of a packed row apart; set loader.packing" in refused
    alike = "those of 'text' share an order; set modality.text.causal=true"
    assert f"backbone.kinds.R.mixer=GRU reads tokens one after the other, and {alike}" in refused
