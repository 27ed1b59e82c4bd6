"""A mixer from outside over a set of several names, whose tokens are laid in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    KINDS,
    POSITIONS,
    Letters,
    audio,
    audio_batch,
    audio_spec,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    merge,
    model,
    seq2seq,
    series,
    steps_batch,
    text,
    text_batch,
    text_spec,
)
from packages import logged, unpack
from run_cli import mmtx, text_of
from test_recurrent_mixer import GRU, LAB
from torch import Tensor
from toy_environment import MAX_STEPS, SCALE, SEEDS, SPECS, TARGETS, Counter, made, rolled, with_length

from mmtx.batch import Batch
from mmtx.copies import Copy
from mmtx.decoding.rollouts import roll_out
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind
from mmtx.objectives.text_attention import _maps
from mmtx.tokens import Clock
from mmtx.training.samples.attention_shares import attention_shares

NAMES = ("return", "state", "action")
STACK: dict[str, Any] = {"kinds": {**KINDS, "R": LayerKind(mixer=GRU)}, "layers": "GR"}
LONG = {
    name: spec if name == "mission" else replace(spec, fields=with_length(spec, MAX_STEPS))
    for name, spec in SPECS.items()
}
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def steps(lengths: dict[str, list[int]]) -> Batch:
    """A window of each name by itself."""
    return merge(*(steps_batch({name: SPECS[name]}, lengths[name], seed=len(name)) for name in NAMES))


def agent(**changes: Any) -> MultimodalTransformer:
    tokenizers = {name: series(SPECS[name]) for name in NAMES}
    return model(tokenizers, backbone(positions=POSITIONS["rotary"], init_std=0.3, **{**STACK, **changes}))


def recurred(gru: Any, tokens: Sequence[Tensor]) -> list[Tensor]:
    """A gated recurrent unit as torch documents it, token by token."""
    state, states = torch.zeros(gru.hidden_size), []
    for x in tokens:
        own_r, own_z, own_n = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
        past_r, past_z, past_n = (gru.weight_hh_l0 @ state + gru.bias_hh_l0).chunk(3)
        reset, keep = torch.sigmoid(own_r + past_r), torch.sigmoid(own_z + past_z)
        state = (1 - keep) * torch.tanh(own_n + reset * past_n) + keep * state
        states.append(state)
    return states


@pytest.mark.parametrize("packed", [False, True])
def test_the_state_of_a_token_is_that_of_the_interleaved_sequence(packed: bool) -> None:
    """R0 S0 A0 R1 S1 A1 ..., of samples that lack steps and names; the states come back name by name."""
    whole = agent(layers="R", num_layers=1)
    lengths = {"return": [3, 2, 0], "state": [3, 2, 1], "action": [3, 1, 1]}
    batch, block = steps(lengths), whole.backbone.blocks[0]
    token_set = whole.tokenize(batch)
    x, expected = token_set.content + token_set.place, {}
    for sample in range(3):
        keys = [(step, name) for step in range(3) for name in NAMES if step < lengths[name][sample]]
        tokens = [x[sample, token_set.spans[name].start + step] for step, name in keys]
        states = recurred(block.mixer.gru, [block.mixer_norm(token) for token in tokens])
        for (step, name), token, state in zip(keys, tokens, states, strict=True):
            out = token + state
            expected[sample, name, step] = whole.backbone.final_norm(
                out + block.mlp(block.mlp_norm(out)[None, None])[0, 0]
            )
    got = whole(batch.packed() if packed else batch)
    for (sample, name, step), state in expected.items():
        torch.testing.assert_close(got.tokens(name)[sample, step], state, **CLOSE)
    for name in NAMES:
        assert got.lengths(name).tolist() == lengths[name]


def test_packed_padded_and_alone_are_the_same() -> None:
    whole = agent()
    batch = steps({"return": [3, 2, 0, 0], "state": [3, 2, 1, 0], "action": [2, 1, 1, 0]})
    padded = whole(batch)
    torch.testing.assert_close(whole(batch.packed()).hidden, padded.hidden, **CLOSE)
    for sample in range(4):
        alone = whole(batch.select(slice(sample, sample + 1)))
        torch.testing.assert_close(alone.hidden[0], padded.hidden[sample], **CLOSE)


def test_an_open_copy_stands_in_the_place_of_its_name() -> None:
    whole, batch = agent(), steps(dict.fromkeys(NAMES, [3, 2]))
    copied = whole.run(whole.tokenize(batch, copies={"clean": Copy("state")}))
    assert list(copied.spans) == ["return", "clean", "action"] and copied.hidden.equal(whole(batch).hidden)


def test_what_shares_an_order_is_refused() -> None:
    """By the name, the key of the mixer, and what to change."""
    one = "backbone.kinds.R.mixer=GRU reads tokens one after the other, and those of"
    body = partial(backbone, **STACK)
    pictures = model({"image": image(), "text": text()}, body())
    with pytest.raises(InvalidValue, match=f"{one} 'image' share an order; set modality.image.causal=true if it is a"):
        pictures.tokenize(merge(image_batch([1, 1]), text_batch([2, 3])))
    together = model({name: series(SPECS[name]) for name in NAMES}, body(), clocks={"step": Clock(mutual=True)})
    with pytest.raises(InvalidValue, match=f"{one} return, state, action share an order; set clocks.step.mutual=false"):
        together.tokenize(steps(dict.fromkeys(NAMES, [2])))
    for copy in (Copy("state", private=True), Copy("state", times=torch.zeros(1, 2, dtype=torch.long))):
        with pytest.raises(InvalidValue, match=f"{one} 'state' are private, or share times that an objective gives"):
            agent().tokenize(steps(dict.fromkeys(NAMES, [2])), copies={"state": copy})
    encoder = backbone(**STACK)
    whole = model({"image": image(), "text": text()}, backbone(cross_attention=True), encoder=encoder, encode=["image"])
    with pytest.raises(InvalidValue, match=r"encoder.kinds.R.mixer=GRU reads tokens one after .* of 'image' share"):
        whole.tokenize(merge(image_batch([1, 1]), text_batch([2, 3])))


@pytest.mark.parametrize("lengths", [[3, 3], [3, 1]], ids=["whole", "padded"])
def test_a_text_that_goes_on_behind_another(lengths: list[int]) -> None:
    """With its cache where no padding stands between them, and without it where some does; the same scores."""
    whole = model({"source": text(), "text": text()}, backbone(positions=POSITIONS["rotary"], **STACK))
    words, results = text_batch([5, 5]), []
    for cache in (False, True):
        batch, widths = merge(text_batch(lengths, seed=1, name="source"), words), []
        hook = whole.backbone.register_forward_pre_hook(lambda _, args, widths=widths: widths.append(args[0].shape[1]))
        decoder = TextDecoder(whole, partial(torch.mul, other=1.0), batch, "text", start=2, stop=6, cache=cache)
        scores = []
        with torch.no_grad():
            for column in range(2, 5):
                scores.append(decoder.scores().reshape(2, -1, 24)[:, -1])
                decoder.append(words["text"]["ids"][:, column])
        hook.remove()
        assert widths == ([5, 1, 1] if cache and lengths == [3, 3] else [5, 6, 7])
        results.append(torch.stack(scores))
    torch.testing.assert_close(results[1], results[0], **CLOSE)


@pytest.mark.parametrize("names", [NAMES, ("mission", *NAMES), ("state", "action"), ("state", "mission", "action")])
@pytest.mark.parametrize("specs", [SPECS, LONG], ids=["cropped", "whole"])
def test_an_agent_acts_the_same_with_and_without_its_cache(names: tuple[str, ...], specs: dict[str, Any]) -> None:
    targets = TARGETS if "return" in names else None
    one, environment, _ = rolled(targets=targets, names=names, specs=specs, stack=STACK)
    other, plain, _ = rolled(targets=targets, names=names, specs=specs, stack=STACK, cache=False)
    assert one == other
    assert all(a.equal(b) for a, b in zip(environment.taken, plain.taken, strict=True))


def test_its_cache_spares_what_was_computed_where_nothing_is_padded() -> None:
    def widths_of(names: Sequence[str]) -> list[int]:
        (whole, objective), widths = made(names, LONG, stack=STACK), []
        whole.backbone.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
        roll_out(whole, objective, LONG, Counter(), SEEDS, target_returns=TARGETS, return_scale=SCALE)
        return widths

    assert widths_of(NAMES) == [2, 3, 3, 3, 3, 3, 3]
    assert widths_of(("mission", *NAMES))[:3] == [4 + 3, 4 + 5, 4 + 8], "missions are of unequal lengths"


def test_shares_of_attention_are_those_between_names() -> None:
    """The first layer attends as one does whose tokens stand name after name."""
    whole, plain, batch = agent(), agent(layers="G", num_layers=1), steps(dict.fromkeys(NAMES, [3, 1]))
    plain.load_state_dict(whole.state_dict(), strict=False)
    (names, layers), (same, expected) = attention_shares(whole, batch), attention_shares(plain, batch)
    assert names == same == list(NAMES) and list(layers) == [0]
    torch.testing.assert_close(layers[0], expected[0], **CLOSE)


def test_a_decision_transformer_with_a_recurrence_trains_from_the_command_line(tmp_path: Path) -> None:
    """Padded and packed the same."""
    unpack("recurrent_mixer", tmp_path)
    words = [
        *("data=key_to_door", "data.size=4", "data.num_episodes=40", "modality=[return,state,action]"),
        *("objective=[action]", "backbone=recurrent", "backbone.dim=16", "backbone.num_layers=2", "logger=[]"),
        *("backbone.num_heads=2", "log_every_steps=1", "loader.batch_size=4", "trainer.max_steps=20", "callbacks=[]"),
        *("objective.action.val_episodes=2", "objective.action.test_episodes=2"),
    ]
    env, found = {"XDG_CACHE_HOME": str(tmp_path / "cache")}, []
    for packing in ("false", "true"):
        run = ["train", *LAB, *words, f"loader.packing={packing}", f"run_dir={packing}"]
        done = mmtx(*run, cwd=tmp_path, env=env)
        assert done.returncode == 0, text_of(done)
        found.append(logged(tmp_path / packing))
    assert len(found[0]) == 20
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_text_is_drawn_beside_the_sound_it_attends_to() -> None:
    """The rows of a map are the ids of the text, also where the text before it is padded."""
    specs = {"audio": audio_spec(), "source": text_spec(), "text": text_spec(vocabulary=Letters())}
    tokenizers = {"audio": audio(), "source": text(specs["source"]), "text": text(specs["text"])}
    whole = encoder_decoder(tokenizers, ["audio"], encoder={"init_std": 0.5}, init_std=0.5, **STACK)
    head = seq2seq(whole, specs).head
    batch = merge(audio_batch([128, 128]), text_batch([3, 1], name="source"), text_batch([4, 4]))
    maps = _maps(whole, head, "audio", batch)
    unpadded = batch.select(slice(1, 2)).with_name(
        "source", {"ids": batch["source"]["ids"][1:, :1]}, torch.tensor([1]), full=True
    )
    torch.testing.assert_close(maps[1][0], _maps(whole, head, "audio", unpadded)[0][0], **CLOSE)
