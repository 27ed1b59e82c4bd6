"""SigLIP 2: pictures of one size are SigLIP's; NaFlex keeps their shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

transformers = pytest.importorskip("transformers")

from public import native_inputs, pair_inputs, saved, siglip, siglip2  # noqa: E402
from test_supported_keys import changed_value, edited  # noqa: E402

import mmtx  # noqa: E402
from mmtx.data.files.supported_keys import refusals  # noqa: E402
from mmtx.data.image.decode_image import decode_image  # noqa: E402
from mmtx.data.image.native_fit import NativeFit  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402
from mmtx.interop.native_pictures import NATIVE, read_native  # noqa: E402

FAMILY = FAMILIES["siglip2"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def once_changed() -> list[Any]:
    """Keys of the tower of pictures, which are the family's own; those of texts are SigLIP's."""
    content, known = siglip2().config.vision_config.to_dict(), FAMILY.parts["vision_config"]
    keys = {key for key, entry in known.items() if entry.status == "used" or entry.limit} & {*content}
    return [pytest.param({key: changed_value(content[key])}, id=key) for key in sorted(keys)]


@pytest.mark.parametrize("values", once_changed())
def test_a_key_changed_once_changes_both_alike_or_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    theirs = siglip2()
    content = json.loads((saved(theirs, tmp_path) / "config.json").read_text())
    edited(tmp_path, "config", vision_config={**content["vision_config"], **values})
    try:
        ours = mmtx.from_pretrained(tmp_path)
    except UserError:
        return
    inputs, _ = native_inputs(theirs)
    actual, expected = mmtx.interop.forward(ours, **inputs)[0], type(theirs).from_pretrained(tmp_path)(**inputs)[0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_pictures_of_one_size_are_of_a_siglip(tmp_path: Path) -> None:
    """As SigLIP 2's own files say it: SigLIP's model type, and texts of Gemma's ids, which are filled with 0."""
    theirs = siglip(text={"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1})
    saved(theirs, tmp_path)
    config = {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "eos_token": "<eos>", "add_eos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = mmtx.from_pretrained(tmp_path)
    assert ours.origin["family"] == "siglip" and ours.config["modality"]["text"]["fill"] == 0
    inputs, _ = pair_inputs(theirs)
    torch.testing.assert_close(mmtx.interop.forward(ours, **inputs)[0], theirs(**inputs)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(23, 31), (60, 7), (5, 5), (100, 90)], ids=str)
@pytest.mark.parametrize("prepared", [{}, {"resample": 3, "do_rescale": False, "image_std": [0.1, 0.2, 0.3]}])
def test_pictures_are_prepared_as_theirs(size: tuple[int, int], prepared: dict[str, Any], tmp_path: Path) -> None:
    given = {"patch_size": 4, "max_num_patches": 30, **prepared}
    theirs = transformers.Siglip2ImageProcessorPil(**given)
    assert [*refusals(theirs.to_dict(), NATIVE, "")] == []
    shown = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (*size, 3), dtype=numpy.uint8))
    shown.save(tmp_path / "picture.png")
    expected = theirs(shown, return_tensors="pt")
    read = read_native(theirs.to_dict(), 4, 3)
    fit = NativeFit(**{key: value for key, value in read.fit.items() if key != "_target_"})
    pixels = decode_image(tmp_path / "picture.png", size=(1, 1), channels=3, max_pixels=10000, fit=fit)
    fields = fit.fields(pixels)
    assert fields["grid"].tolist() == expected["spatial_shapes"][0].tolist()
    mean, std = (torch.tensor(values) for values in (read.mean, read.std))
    patches = ((fields["patches"].unflatten(1, (-1, 3)) / 255 - mean) / std).flatten(1)
    wanted = expected["pixel_values"][0, : len(patches)].float()
    torch.testing.assert_close(patches, wanted, atol=1e-4, rtol=1e-5)
    assert expected["pixel_attention_mask"].sum() == len(patches)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config", {"vision_config": {"num_patches": 8}}, "num_patches=8: the table of positions .* is square"),
        ("config", {"vision_config": {"image_size": 8}}, "vision_config: unknown key image_size=8"),
        ("preprocessor_config", {"image_processor_type": "SiglipImageProcessor"}, "are prepared by SiglipImageProces"),
        ("preprocessor_config", {"patch_size": 8}, "patch_size=8 of the processor is not the model's, 4"),
        ("preprocessor_config", {"do_resize": False}, "do_resize=False"),
    ],
)
def test_values_that_cannot_be_followed(file: str, values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        content = json.loads((saved(siglip2(), tmp_path) / "config.json").read_text())
        given = {key: {**content[key], **value} if file == "config" else value for key, value in values.items()}
        mmtx.from_pretrained(edited(tmp_path, file, **given))


def test_patches_that_are_padded_in_front(tmp_path: Path) -> None:
    theirs = siglip2()
    inputs, _ = native_inputs(theirs)
    inputs["pixel_attention_mask"] = inputs["pixel_attention_mask"].flip(1)
    with pytest.raises(UserError, match="patches must be those of spatial_shapes, real ones first"):
        mmtx.interop.forward(mmtx.from_pretrained(saved(theirs, tmp_path)), **inputs)


def test_the_preprocessing_comes_out_as_it_went_in(tmp_path: Path) -> None:
    given = {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 50, "image_mean": [0.1, 0.2, 0.3]}
    edited(saved(siglip2(), tmp_path / "public"), "preprocessor_config", **given, resample=3, patch_size=4)
    ours = mmtx.from_pretrained(tmp_path / "public")
    assert ours.specs["image"].max_length == 50
    mmtx.to_pretrained(ours, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert {key: written[key] for key in (*given, "resample")} == {**given, "resample": 3}
