"""An encoder for some names: which tokens attend to which across the stacks, absent names, and shared computation."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    attention,
    audio,
    audio_batch,
    audio_spec,
    backbone,
    ctc,
    encoder_decoder,
    image,
    image_batch,
    merge,
    model,
    seq2seq,
    text,
    text_batch,
    text_spec,
)
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer, check_encode
from mmtx.nn.norms import RMSNorm
from mmtx.nn.positions import Learned, Sinusoidal
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.tokens import Clock, HiddenStates

BACKBONES: dict[str, dict[str, Any]] = {
    "learned": {"positions": POSITIONS["learned"]},
    "t5, windows": {"positions": POSITIONS["t5"], "window": 3, "layers": "LG"},
    "rotary, post-norm, groups": {
        "positions": POSITIONS["rotary"],
        "norm_place": "after",
        "attention": attention(num_kv_heads=1, qk_norm=partial(RMSNorm, eps=1e-6)),
        "layer_scale": 0.5,
    },
}
backbones = pytest.mark.parametrize("changes", BACKBONES.values(), ids=BACKBONES.keys())


def everything(changes: dict[str, Any]) -> MultimodalTransformer:
    """A sound and a text that are encoded; a picture and another text that attend to them."""
    tokenizers = {
        "image": image(summary=True, num_registers=1),
        "audio": audio(),
        "source": text(causal=False),
        "text": text(),
    }
    return encoder_decoder(tokenizers, ["source", "audio"], encoder=changes, **changes)


def some_absent() -> Batch:
    """Two whole samples; then one without its picture, its sound, its source, its text, all that is encoded, all."""
    return merge(
        image_batch([1, 1, 0, 1, 1, 1, 1, 0]),
        audio_batch([128, 50, 20, 0, 90, 70, 0, 0]),
        text_batch([3, 6, 2, 4, 0, 1, 0, 0], seed=1, name="source"),
        text_batch([5, 3, 2, 4, 1, 0, 4, 0]),
    )


def another(batch: Batch, name: str, everywhere: bool) -> Batch:
    """Other values of one name: everywhere, or only where nothing is."""
    fields = {}
    for key, values in batch[name].items():
        other = values.flip(0) + 1 if values.is_floating_point() else (values.max() - values).clamp(max=10)
        lengths = batch.lengths[name]
        if key == "pixels":
            real = (lengths > 0)[:, None, None, None].expand_as(values)
        else:
            real = torch.arange(values.shape[1])[None] < lengths[:, None]
        fields[key] = other if everywhere else torch.where(real, values, other)
    return batch.with_name(name, fields, batch.lengths[name])


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def scalar(states: HiddenStates) -> Tensor:
    """Some function of all tokens, decoded and encoded, that weighs each of them differently."""
    assert states.memory is not None
    parts = [states.hidden.flatten(), states.memory.hidden.flatten()]
    return sum((part * torch.linspace(-1, 1, part.numel())).sum() for part in parts)


def test_the_set_is_split_in_its_order() -> None:
    whole = everything({"positions": POSITIONS["learned"]})
    assert whole.names == ["image", "audio", "source", "text"]
    assert whole.encoded == ["audio", "source"], "whatever the order in `encode`"
    assert whole.decoded == ["image", "text"]
    assert whole.stack_of("audio") is whole.encoder
    assert whole.stack_of("text") is whole.backbone
    states = whole(some_absent())
    assert list(states.spans) == ["image", "text"]
    assert states.memory is not None
    assert list(states.memory.spans) == ["audio", "source"]
    assert states.memory.memory is None


def test_each_stack_places_its_own_names() -> None:
    tokenizers = {"audio": audio(), "text": text()}
    encoder = {"positions": POSITIONS["sinusoidal"]}
    whole = encoder_decoder(tokenizers, ["audio"], encoder=encoder, positions=POSITIONS["learned"])
    assert isinstance(whole.position_embeddings["audio"], Sinusoidal)
    assert isinstance(whole.position_embeddings["text"], Learned)
    whole = encoder_decoder(tokenizers, ["audio"], positions=POSITIONS["learned"])
    assert list(whole.position_embeddings) == ["text"]


@backbones
def test_the_encoded_do_not_hear_the_decoded(changes: dict[str, Any]) -> None:
    """The decoded names attend to each of the encoded ones, and a causal text to the picture before it."""
    whole, batch = everything(changes), some_absent()
    with torch.no_grad():
        before = whole(batch)
        changed = {name: whole(another(batch, name, everywhere=True)) for name in whole.names}

    def moved(name: str, by: str) -> list[bool]:
        return [not torch.equal(a, b) for a, b in zip(changed[by].tokens(name), before.tokens(name), strict=True)]

    nobody = [False] * 8
    for by in ("image", "text"):
        assert moved("audio", by) == moved("source", by) == nobody
    assert moved("image", "text") == nobody, "a picture stands before its text"
    present = {name: batch.present(name) for name in whole.names}
    for by in ("audio", "source", "image"):
        assert moved("text", by) == (present["text"] & present[by]).tolist()
    for by in ("audio", "source"):
        assert moved("image", by) == (present["image"] & present[by]).tolist()
    assert moved("source", "audio") == (present["source"] & present["audio"]).tolist(), "the encoder is one set"


@backbones
def test_padding_of_the_memory_changes_nothing(changes: dict[str, Any]) -> None:
    """Whatever stands where nothing is: bit for bit."""
    whole, batch = everything(changes), some_absent()
    with torch.no_grad():
        plain = whole(batch)
        for name in whole.names:
            filled = another(batch, name, everywhere=False)
            assert not all(filled[name][key].equal(batch[name][key]) for key in batch[name])
            disturbed = whole(filled)
            assert disturbed.hidden.equal(plain.hidden), name
            assert disturbed.memory is not None
            assert plain.memory is not None
            assert disturbed.memory.hidden.equal(plain.memory.hidden), name


@backbones
def test_a_sample_does_not_depend_on_its_batch(changes: dict[str, Any]) -> None:
    """Alone or among others; where the encoded part is absent, too."""
    whole, batch = everything(changes), some_absent()
    together = whole(batch)
    for index in (1, 2, 3, 4, 7):
        one = batch.select(slice(index, index + 1))
        for name, key in (("audio", "waveform"), ("source", "ids"), ("text", "ids")):
            length = max(1, int(one.lengths[name]))
            full = bool(one.lengths[name] > 0)
            one = one.with_name(name, {key: one[name][key][:, :length]}, one.lengths[name], full)
        alone = whole(one)
        for name in whole.names:
            count = int(alone.lengths(name))
            assert count == int(together.lengths(name)[index])
            torch.testing.assert_close(
                alone.tokens(name)[0, :count], together.tokens(name)[index, :count], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("present", [[1, 0, 1], [0, 0, 0]], ids=["one absent", "all absent"])
@backbones
def test_what_is_absent_stays_finite_and_in_the_graph(changes: dict[str, Any], present: list[int]) -> None:
    """No NaN, and every parameter gets a gradient, which data parallel training waits for."""
    whole = everything(changes).train()
    parts = [audio_batch([80 * p for p in present]), text_batch([4 * p for p in present], name="source")]
    states = whole(merge(*parts, image_batch([1, 1, 1]), text_batch([3, 3, 3])))
    assert states.memory is not None
    loss = states.hidden.square().sum()
    loss.backward()
    assert states.hidden.isfinite().all()
    assert states.hidden[1].any(), "the tokens that attend are there"
    assert not states.memory.hidden[1].any()
    grads = gradients(whole)
    assert grads.keys() == dict(whole.named_parameters()).keys()
    for name, grad in grads.items():
        assert grad.isfinite().all(), name
        of_memory = name.startswith("encoder.") or ".audio" in name or ".source" in name
        assert not (of_memory and not any(present) and grad.any()), name
    assert any(present) == bool(grads["encoder.blocks.0.mlp.up.weight"].any())


def test_nothing_to_hear_adds_the_same_to_every_token() -> None:
    """Attention over nothing is zero: what remains is the bias of the output."""
    whole = encoder_decoder({"audio": audio(), "text": text()}, ["audio"])
    block = whole.backbone.blocks[0]
    with torch.no_grad():
        block.cross_attention.out.bias.normal_()
    added = []
    block.cross_attention.out.register_forward_hook(lambda module, args, out: added.append(out))
    whole(merge(audio_batch([128, 0]), text_batch([4, 4])))
    assert added[0][1].equal(block.cross_attention.out.bias.expand(4, -1))
    assert added[0][0].std(0).max() > 0


def test_states_of_an_encoded_name() -> None:
    """Its tokens, lengths and summaries are those of the memory; `encode` gives them without the decoder."""
    tokenizers = {"image": image(summary=True, num_registers=2), "audio": audio(), "text": text()}
    whole = encoder_decoder(tokenizers, ["image", "audio"])
    batch = merge(image_batch([1, 0]), audio_batch([128, 40]), text_batch([3, 2]))
    states = whole(batch)
    assert states.memory is not None
    assert states.summaries("image").equal(states.memory.hidden[:, :1])
    assert states.tokens("image").equal(states.memory.hidden[:, 3:7])
    assert states.lengths("image").tolist() == [4, 0]
    assert states.lengths("audio").tolist() == [8, 3]
    assert states.lengths("text").tolist() == [3, 2]
    calls = []
    whole.backbone.register_forward_hook(lambda *args: calls.append(args))
    for name in ("image", "audio"):
        alone = whole.encode(batch, name)
        assert alone.tokens(name).equal(states.tokens(name))
        assert alone.lengths(name).equal(states.lengths(name))
    assert not calls
    assert whole.encode(batch, "text").tokens("text").equal(states.tokens("text"))
    assert len(calls) == 1


SPECS = {"audio": audio_spec(), "text": text_spec(vocabulary=Letters())}


def dictation(encode: list[str], **changes: Any) -> Learner:
    """A text that is written by sequence-to-sequence and read off the sound by CTC."""
    changes = {"positions": POSITIONS["sinusoidal"], **changes}
    whole = encoder_decoder({"audio": audio(), "text": text(SPECS["text"])}, encode, encoder=changes, **changes)
    objectives = {"seq2seq": seq2seq(whole, SPECS), "ctc": ctc(whole, SPECS)}
    return Learner(model=whole, objectives=objectives, specs=SPECS).eval()


def dictated() -> Batch:
    return merge(audio_batch([128, 100, 128, 0]), text_batch([4, 2, 0, 3]))


@pytest.mark.parametrize("training", [True, False])
def test_objectives_share_what_the_encoder_says(training: bool) -> None:
    """One pass of the encoder, and the losses and gradients of as many passes as there are objectives."""
    learner, batch = dictation(["audio"]).train(training), dictated()
    calls = []
    assert learner.model.encoder is not None
    learner.model.encoder.register_forward_hook(lambda *args: calls.append(args))
    results = []
    for compute in (
        lambda: learner(batch),
        lambda: {name: learner.objective(name)(learner.model, batch) for name in learner.objectives},
    ):
        calls.clear()
        learner.zero_grad()
        scores = compute()
        sum(score.loss_sum for score in scores.values()).backward()
        losses = {name: score.loss_sum.item() for name, score in scores.items()}
        results.append((losses, gradients(learner), len(calls)))
    (losses, shared, once), (expected, separate, often) = results
    assert once == 1
    assert often == (2 if training else 3), "evaluation decodes, too"
    assert losses == pytest.approx(expected, rel=1e-6)
    assert shared.keys() == separate.keys() == dict(learner.named_parameters()).keys()
    for name, grad in separate.items():
        torch.testing.assert_close(shared[name], grad, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_sharing_ends_and_tells_batches_apart() -> None:
    learner, batch = dictation(["audio"]), dictated()
    whole, calls = learner.model, []
    assert whole.encoder is not None
    whole.encoder.register_forward_hook(lambda *args: calls.append(args))
    with whole.sharing():
        whole(batch)
        whole(batch.with_name("text", batch["text"], batch.lengths["text"]))
        whole.encode(batch, "audio")
        assert len(calls) == 1, "another text attends to the same memory"
        other = whole(another(batch, "audio", everywhere=True))
        assert len(calls) == 2
        assert not other.tokens("audio").equal(whole(batch).tokens("audio"))
        for seed in range(20):  # what is forgotten must not be taken for what comes after it
            fresh = merge(audio_batch([64, 64, 64, 64], seed=seed), text_batch([1, 1, 1, 1]))
            whole.encode(fresh, "audio")
            assert len(calls) == 3 + seed
    whole(batch)
    whole(batch)
    assert len(calls) == 24, "nothing is shared outside"
    with pytest.raises(RuntimeError, match="stop"), whole.sharing():
        whole(batch)
        raise RuntimeError("stop")
    whole(batch)
    assert len(calls) == 26, "nor after an error"


def test_one_stack_too_hears_a_batch_once() -> None:
    """Two objectives that read the same set of one stack; what they learn is what two passes teach."""
    results = []
    for together in (True, False):
        learner, batch, calls = dictation([]), dictated(), []
        learner.model.backbone.register_forward_hook(lambda *args, calls=calls: calls.append(args))
        objectives = [learner.objective("ctc"), learner.objective("ctc")]
        with learner.model.sharing() if together else nullcontext():
            sum(objective(learner.model, batch).loss_sum for objective in objectives).backward()
        results.append((gradients(learner), len(calls)))
    (shared, once), (separate, twice) = results
    assert (once, twice) == (1, 2)
    for name, grad in separate.items():
        torch.testing.assert_close(shared[name], grad, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_sharing_within_another_knows_more_and_leaves_nothing_behind() -> None:
    learner, batch, calls = dictation(["audio"]), dictated(), []
    whole = learner.model
    assert whole.encoder is not None
    whole.encoder.register_forward_hook(lambda *args: calls.append(args))
    other = another(batch, "audio", everywhere=True)
    with whole.sharing():
        whole(batch)
        with whole.sharing():
            whole(batch)
            whole(other)
            whole(other)
        assert len(calls) == 2
        whole(batch)
        assert len(calls) == 2
        whole(other)
        assert len(calls) == 3


@pytest.mark.parametrize("beam_size", [1, 2])
@pytest.mark.parametrize("encode", [["audio"], []], ids=["encoder", "prefix"])
def test_decoding_without_a_cache_leaves_nothing_to_share(encode: list[str], beam_size: int) -> None:
    """Else every step's forward would be kept until the objectives are done."""
    learner, batch = dictation(encode), dictated()
    objective = learner.objective("seq2seq")
    assert isinstance(objective, Seq2Seq)
    with learner.model.sharing():
        learner.model(batch)
        before = set(learner.model._shared or ())
        objective.write(learner.model, batch, beam_size=beam_size, length_penalty=0.0, cache=False)
        assert len(before) == (3 if encode else 1) and set(learner.model._shared or ()) == before


def test_prefix_of_the_same_tokenizers() -> None:
    """With nothing encoded, the text attends to the sound in its own stack; the objectives are the same."""
    learner = dictation([])
    assert learner.model.encoder is None
    assert learner.model.encoded == []
    assert not any("cross" in name for name, _ in learner.named_parameters())
    states = learner.model(dictated())
    assert states.memory is None
    assert list(states.spans) == ["audio", "text"]
    scores = learner(dictated())
    sum(score.loss_sum for score in scores.values()).backward()
    assert gradients(learner).keys() == dict(learner.named_parameters()).keys()
    assert all(score.loss_sum > 0 for score in scores.values())


def test_weights_are_saved_and_loaded() -> None:
    learner, other = dictation(["audio"]), dictation(["audio"])
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    assert not torch.allclose(other.model(dictated()).hidden, learner.model(dictated()).hidden)
    other.load_state_dict(learner.state_dict())
    assert other.model(dictated()).hidden.equal(learner.model(dictated()).hidden)
    parts = {name.split(".")[1] for name in learner.state_dict() if name.startswith("model.")}
    assert parts == {"tokenizers", "type_embeddings", "backbone", "encoder"}


@pytest.mark.parametrize("name", POSITIONS)
def test_half_precision_is_close(name: str) -> None:
    whole = everything({"positions": POSITIONS[name]})
    expected = whole(some_absent())
    with torch.autocast("cpu", torch.bfloat16):
        states = whole(some_absent())
    assert (states.hidden - expected.hidden).abs().mean() < 0.02 * expected.hidden.abs().mean()
    scalar(states).backward()
    assert all(grad.isfinite().all() for grad in gradients(whole).values())


def test_weights_of_half_precision() -> None:
    whole = everything({"positions": POSITIONS["sinusoidal"], "norm": partial(RMSNorm, eps=1e-6)})
    with torch.no_grad():
        expected = whole(some_absent()).hidden
        hidden = whole.bfloat16()(some_absent()).hidden
    assert hidden.dtype == torch.bfloat16
    assert (hidden.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_a_packed_set_does_not_listen_to_one_that_is_not() -> None:
    whole = dictation(["audio"]).model
    token_set = replace(whole.tokenize(dictated()), lengths=(4, 2, 0, 3))
    with pytest.raises(ValueError, match="a packed set cannot attend to one that is not packed"):
        whole.run(token_set)


def test_names_to_encode() -> None:
    check_encode([], ["image", "text"])
    check_encode(["image"], ["image", "text"])
    with pytest.raises(InvalidValue, match=r"encode=\['sound'\] names sound, which is not in the set"):
        check_encode(["sound"], ["image", "text"])
    with pytest.raises(InvalidValue, match=r"encode=\['text', 'image'\] leaves nothing for the backbone"):
        check_encode(["text", "image"], ["image", "text"])


def test_stacks_that_do_not_fit_are_refused() -> None:
    tokenizers = {"image": image(), "text": text()}
    body, wide = backbone(cross_attention=True), backbone(dim=48)
    with pytest.raises(InvalidValue, match="encoder.dim=48 must equal backbone.dim=24"):
        model(tokenizers, body, encoder=wide, encode=["image"])
    for encoder, encode in ((None, ["image"]), (backbone(), [])):
        with pytest.raises(ValueError, match="names to encode need an encoder, and an encoder needs names"):
            model(tokenizers, body, encoder=encoder, encode=encode)


def towers() -> MultimodalTransformer:
    """Pictures in a stack of one width, texts in one of another."""
    tokenizers = {"image": image(dim=24, summary=True), "text": text(dim=16)}
    stacks = {"encoder": backbone(dim=24, positions=POSITIONS["learned"]), "encode": ["image"], "towers": True}
    return model(tokenizers, backbone(dim=16, positions=POSITIONS["learned"]), **stacks)


def test_towers_never_meet() -> None:
    whole, batch = towers(), merge(image_batch([1, 1]), text_batch([4, 2]))
    states = whole(batch)
    assert (states.summaries("image").shape, states.tokens("text").shape) == ((2, 1, 24), (2, 4, 16))
    alone = whole.run(whole.tokenize(text_batch([4, 2]), ["text"]))
    torch.testing.assert_close(states.tokens("text")[0], alone.tokens("text")[0])
    assert torch.equal(whole.encode(batch, "image").tokens("image"), states.tokens("image"))
    states.tokens("text")[0].square().sum().backward()
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in whole.own_parameters("image"))
    assert all("cross_attention" not in key for key in whole.state_dict())


def test_towers_need_two_stacks() -> None:
    with pytest.raises(InvalidValue, match="towers=True is of two stacks"):
        model({"text": text()}, towers=True)


def test_a_clock_of_both_towers_has_no_embedding() -> None:
    clocks = {"scene": Clock(mutual=False, embedding=Learned)}
    tokenizers = {"image": image(dim=24, clock="scene"), "text": text(dim=16, clock="scene")}
    stacks = {"encoder": backbone(dim=24), "encode": ["image"], "towers": True}
    with pytest.raises(InvalidValue, match=r"clocks.scene.embedding=scene is of names of the widths \[16, 24\]"):
        model(tokenizers, backbone(dim=16), clocks=clocks, **stacks)
