"""Masked autoencoding: what is left out, the loss by hand, and what it refuses. Equal to `transformers`' ViTMAE:
tests/interop/test_vit_mae.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    STEMS,
    audio,
    audio_spec,
    backbone,
    image,
    image_batch,
    image_spec,
    model,
    pictures_spec,
    series,
    series_spec,
    sound_augment,
    text,
    text_spec,
)
from contracts import check_objective

from mmtx.batch import fake_batch
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.objectives.masked_autoencoder import MaskedAutoencoder, num_kept
from mmtx.objectives.predictions import predictions_of

SPECS = {
    "image": image_spec(3),
    "state": series_spec(),
    "audio": audio_spec(),
    "text": text_spec(),
    "view": pictures_spec(),
}
TOKENIZERS: dict[str, Any] = {
    "image": partial(image, SPECS["image"], patch_size=2, summary=True),
    "state": partial(series, SPECS["state"]),
    "audio": partial(audio, SPECS["audio"], stem=STEMS["patches"]),
    "text": partial(text, SPECS["text"]),
    "view": partial(image, SPECS["view"], clock="step"),
}


def made(*names: str, positions: str = "learned", **changes: Any) -> tuple[Any, MaskedAutoencoder]:
    tokenizers: dict[str, Tokenizer] = {name: TOKENIZERS[name]() for name in names or ("image",)}
    whole = model(tokenizers, changes.pop("body", None) or backbone(positions=POSITIONS[positions]))
    decoder = partial(
        backbone, **{"dim": 16, "num_layers": 1, "positions": POSITIONS[positions], **changes.pop("stack", {})}
    )
    keys = {"weight": 1.0, "names": [*tokenizers], "share": 0.75, "normalise": True, "decoder": decoder}
    torch.manual_seed(1)
    return whole, MaskedAutoencoder(specs=SPECS, model=whole, **{**keys, **changes}).eval()


@pytest.mark.parametrize(
    ("names", "masked", "positions"),
    [
        (["audio"], ["audio"], "learned"),
        (["view", "state"], ["view", "state"], "rotary"),
        (["image", "text"], ["image"], "learned"),
    ],
    ids=["audio", "view-state", "image-text"],
)
def test_contract(names: list[str], masked: list[str], positions: str) -> None:
    whole, objective = made(*names, names=masked, positions=positions)
    check_objective(objective, whole, {name: SPECS[name] for name in names})


@pytest.mark.parametrize("normalise", [True, False])
def test_loss_by_hand(normalise: bool) -> None:
    """Of pictures, patch by patch, in float64; every one keeps as many."""
    whole, objective = made(normalise=normalise)
    batch = objective.prepare(whole, image_batch([1, 1, 1], SPECS["image"]), torch.Generator().manual_seed(0))
    masked = batch["image"]["masked"]
    assert masked.sum(1).tolist() == [12, 12, 12] and int(objective.count(batch)) == 36
    score, predicted = objective(whole, batch), objective.predicted(whole, batch)["image"].double()
    pixels = (batch["image"]["pixels"].double() / 255 - 0.5) / 0.5
    losses = []
    for sample, patch in masked.nonzero().tolist():
        row, column = divmod(patch, 4)
        true = pixels[sample, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
        if normalise:
            true = (true - true.mean()) / (true.var(correction=1) + 1e-6).sqrt()
        losses.append((predicted[sample, patch] - true).square().mean())
    assert score.mean_loss() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    row = predictions_of(objective, whole, batch, batch)
    assert sum(row["error"]) / 3 == pytest.approx(score.mean_loss(), rel=1e-5) and row["masked"] == [12, 12, 12]


def test_what_is_left_out_is_not_seen() -> None:
    """Pixels of a patch that is left out change no prediction; those of one that is kept do."""
    whole, objective = made(normalise=False)
    batch = objective.prepare(whole, image_batch([1], SPECS["image"]), torch.Generator().manual_seed(0))
    before, masked = objective.predicted(whole, batch)["image"], batch["image"]["masked"][0]
    for patch in (int(masked.nonzero()[0]), int((~masked).nonzero()[0])):
        pixels = batch["image"]["pixels"].clone()
        row, column = divmod(patch, 4)
        pixels[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] ^= 255
        after = objective.predicted(whole, batch.with_values("image", pixels=pixels))["image"]
        assert torch.equal(before, after) == bool(masked[patch])


def test_how_many_are_kept() -> None:
    lengths = torch.arange(0, 400)
    for share in (0.6, 0.75, 0.9):
        expected = [min(n, max(1, int(n * (1 - share)))) for n in lengths.tolist()]
        assert num_kept(lengths, share).tolist() == expected


@pytest.mark.parametrize("name", ["image", "view", "state", "audio"])
def test_patches_are_what_tokens_are_made_from(name: str) -> None:
    """The linear map of the patches gives the tokens, and fields come back from them."""
    tokenizer, batch = TOKENIZERS[name]().eval(), fake_batch({name: SPECS[name]}, 3)
    patches = tokenizer.numbers(batch[name], batch.lengths[name])
    tokens = tokenizer(batch[name], batch.lengths[name], False)
    projection = tokenizer.stem.projection if name == "audio" else tokenizer.projection
    torch.testing.assert_close(projection(patches), tokens.content[:, tokens.num_prefix_tokens :])
    assert patches.shape[2] == tokenizer.numbers_per_token
    fields = tokenizer.fields_of(patches)
    if name == "audio":
        again = tokenizer.numbers(fields, torch.full((3,), fields["frames"].shape[1]))
        torch.testing.assert_close(again, patches)
        return
    (key, values), *_ = fields.items()
    torch.testing.assert_close(values, batch[name][key].float(), atol=1e-3, rtol=0)


def test_sound_is_predicted_as_it_is_without_augmentation() -> None:
    noisy = audio(SPECS["audio"], stem=STEMS["patches"], augment=sound_augment(noise_snr_db=[0.0, 0.0])).train()
    batch = fake_batch({"audio": SPECS["audio"]}, 2)
    given = batch["audio"], batch.lengths["audio"]
    torch.testing.assert_close(noisy.numbers(*given), TOKENIZERS["audio"]().numbers(*given))


@pytest.mark.parametrize("names", [["image"], ["audio"], ["state"]])
def test_pictures_of_samples(names: list[str], tmp_path: Path) -> None:
    whole, objective = made(*names, positions="rotary")
    batch = fake_batch({name: SPECS[name] for name in names}, 3)
    picture, *_ = objective.show(whole, batch, objective.examples(whole, batch), tmp_path / "step")
    assert picture.name == "step.png" and picture.stat().st_size > 5000


WITH_TIMES = backbone(positions=POSITIONS["index"])


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["image"], {"share": 1.0}, r"share=1\.0 must be above 0 and below 1"),
        (["image"], {"names": []}, r"names=\[\] must name one or several"),
        (["image"], {"names": ["picture"]}, "names=picture names no modality of the set"),
        (["text"], {}, r"names=text has tokens that are not made from numbers of their own.*\(Text\)"),
        (["state"], {}, "decoder.positions=absolute cannot tell the steps of 'state' apart"),
        (["image"], {"stack": {"base_width": 8}}, "decoder.dim=16 is a width of its own, and backbone.base_width"),
        (["image"], {"stack": {"positions": POSITIONS["index"]}}, r"decoder.positions.rotary.axes=\[index\] reads"),
    ],
)
def test_refusals(names: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidValue, ValueError), match=message):
        made(*names, **changes)


def test_a_decoder_may_read_an_index_that_the_set_has() -> None:
    whole, objective = made("state", body=WITH_TIMES, stack={"positions": POSITIONS["index"]})
    batch = fake_batch({"state": SPECS["state"]}, 2)
    assert objective(whole, objective.prepare(whole, batch, torch.Generator().manual_seed(0))).mean_loss() > 0


def test_one_number_has_no_variance() -> None:
    whole = model({"speed": series(series_spec(1))})
    decoder = partial(backbone, positions=POSITIONS["rotary"])
    keys = {"specs": {"speed": series_spec(1)}, "model": whole, "weight": 1.0, "names": ["speed"], "share": 0.5}
    with pytest.raises(InvalidValue, match="normalise=True needs several numbers a token, and 'speed' has one"):
        MaskedAutoencoder(**keys, normalise=True, decoder=decoder)
    MaskedAutoencoder(**keys, normalise=False, decoder=decoder)
