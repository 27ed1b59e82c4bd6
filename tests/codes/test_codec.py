"""The network from pictures, films and sounds to codes and back, and how it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import audio_batch, log_mel
from safetensors.torch import load, save
from small_codec import film_spec, small_codec, small_film_codec, small_quantiser, small_sound_codec
from torch import Tensor

from mmtx.batch import fake_batch
from mmtx.codes.codec import Codec
from mmtx.codes.content import Content
from mmtx.codes.pixels import Films, Pictures
from mmtx.codes.sounds import Sounds
from mmtx.codes.stored_codec import as_text, codec_bytes, codec_of, from_text, read_codec
from mmtx.errors import InvalidValue

Fields = tuple[dict[str, Tensor], Tensor]


def pictures() -> Fields:
    pixels = torch.randint(256, (3, 1, 8, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {"pixels": pixels}, torch.ones(3, dtype=torch.long)


def films() -> Fields:
    batch = fake_batch({"video": film_spec()}, 3, ragged=False)
    return batch["video"], torch.tensor([5, 2, 4])


def sounds() -> Fields:
    batch = audio_batch([128, 30, 77])
    return batch["audio"], batch.lengths["audio"]


PICTURES, FILMS = Pictures(shape=(1, 8, 4), scale=255.0), Films(shape=(5, 1, 8, 8), scale=255.0)
SOUNDS = {
    padded: Sounds(spectrogram=log_mel(), longest=128 if not padded else 160, is_padded=padded)
    for padded in (False, True)
}
CASES: dict[str, tuple[Content, tuple[int, ...], Callable[[], Fields]]] = {
    "pictures": (PICTURES, (2, 2), pictures),
    "films": (FILMS, (2, 4, 4), films),
    "sounds": (SOUNDS[False], (3,), sounds),
    "padded sounds": (SOUNDS[True], (3,), sounds),
}
EVERY = pytest.mark.parametrize("case", CASES)
QUANTISED = pytest.mark.parametrize("kind", ["vq", "fsq"])


def codec(case: str = "pictures", kind: str = "vq", **changed: object) -> Codec:
    torch.manual_seed(0)
    content, patch, _ = CASES[case]
    keys = {"content": content, "patch": patch, "width": 6, "quantiser": small_quantiser(kind), **changed}
    made = Codec(**keys)
    made.encoder[-1].weight.data.mul_(20)  # so that samples have several codes
    return made.eval()


@EVERY
@QUANTISED
def test_a_code_for_each_patch_and_samples_from_them(case: str, kind: str) -> None:
    """As many codes as patches cover a sample, by arithmetic on its size."""
    made, (fields, lengths) = codec(case, kind), CASES[case][2]()
    expected = {
        "pictures": [4 * 2] * 3,
        "films": [3 * 4, 1 * 4, 2 * 4],
        "sounds": [6, 1, 3],  # 16, 3 and 9 frames
        "padded sounds": [7] * 3,  # 20 frames
    }[case]
    assert made.num_codes(lengths).tolist() == expected and max(expected) <= made.max_codes
    ids = made.ids(fields, lengths)
    assert ids.shape == (3, max(expected)) and int(ids.max()) < made.quantiser.num_codes
    drawn, shape = made.values(ids, made.num_codes(lengths)), [3, *CASES[case][0].sizes]
    assert drawn.dtype == (torch.float32 if "sounds" in case else torch.uint8)
    assert [drawn.shape[0], drawn.shape[-1]] == [3, shape[1] if "sounds" in case else shape[-1]]


@EVERY
def test_each_sample_is_coded_as_if_it_were_alone(case: str) -> None:
    made, (fields, lengths) = codec(case), CASES[case][2]()
    together, counts = made(fields, lengths), made.num_codes(lengths)
    values = made.values(together.quantised.ids, counts)
    for index, count in enumerate(counts.tolist()):
        own = {key: each[index : index + 1, : int(lengths[index])] for key, each in fields.items()}
        own = own if made.content.is_ragged else {key: each[index : index + 1] for key, each in fields.items()}
        alone = made(own, lengths[index : index + 1])
        torch.testing.assert_close(alone.errors[0], together.errors[index])
        torch.testing.assert_close(alone.encoded[0, :count], together.encoded[index, :count])
        assert together.real[index].sum() == count
        (value,) = made.values(alone.quantised.ids[:, :count])
        batched = values[index][: len(value)]
        torch.testing.assert_close(value.float(), batched.float(), atol=1e-5, rtol=1e-5)


@EVERY
def test_errors_are_those_of_real_numbers_in_a_loop(case: str) -> None:
    made, (fields, lengths) = codec(case).requires_grad_(False), CASES[case][2]()
    found, truth = made(fields, lengths), made.content.numbers(fields, lengths)
    for index, size in enumerate(made.content.num_numbers(lengths).tolist()):
        one, other = (each[index][:, :size] for each in (found.numbers, truth))
        assert float(found.errors[index]) == pytest.approx(float((one - other).square().mean()), rel=1e-5)


@EVERY
@QUANTISED
def test_samples_are_those_that_training_decodes(case: str, kind: str) -> None:
    made, (fields, lengths) = codec(case, kind), CASES[case][2]()
    decoded = made(fields, lengths)
    ids = decoded.quantised.ids
    numbers = decoded.numbers if "sounds" in case else (decoded.numbers.clamp(0, 1) * 255).round().to(torch.uint8)
    expected = numbers.transpose(1, 2) if made.content.is_ragged else numbers
    assert made.ids(fields, lengths).equal(ids)
    torch.testing.assert_close(made.values(ids, made.num_codes(lengths)), expected.detach())


def test_what_is_decoded_reaches_no_further_than_a_patch() -> None:
    """A code changes its patch, those beside it, and the border of a number around these."""
    made = codec("films", kind="fsq")
    ids = torch.zeros(1, 12, dtype=torch.long)
    changed = ids.clone()
    changed[0, 0] = 7
    frames = (made.values(changed) != made.values(ids))[0].flatten(1).any(1)
    assert frames[:2].any() and not frames[5:].any()


@EVERY
@QUANTISED
def test_stored_and_read_it_gives_the_same(case: str, kind: str, tmp_path: Path) -> None:
    made, (fields, lengths), file = codec(case, kind), CASES[case][2](), tmp_path / "codes.safetensors"
    file.write_bytes(codec_bytes(made))
    ids = made.ids(fields, lengths)
    for again in (read_codec(str(file)), from_text(as_text(made))):
        assert again.content.settings == made.content.settings
        assert again.ids(fields, lengths).equal(ids) and again.values(ids).equal(made.values(ids))
        assert not any(parameter.requires_grad for parameter in again.parameters())


def test_files_of_pictures_alone_are_read() -> None:
    """As they were written before films and sounds had codes."""
    made, (fields, lengths) = codec(), pictures()
    quantiser = made.settings["quantiser"]
    earlier = {"shape": [1, 8, 4], "scale": 255.0, "patch_size": 2, "width": 6, "quantiser": quantiser}
    again = codec_of(save(load(codec_bytes(made)), {"picture_codec": json.dumps(earlier)}))
    assert again.settings == made.settings and again.ids(fields, lengths).equal(made.ids(fields, lengths))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("no codes")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    (tmp_path / "cut").write_bytes(codec_bytes(codec())[:-8])
    for name in ("text", "other", "cut"):
        with pytest.raises(InvalidValue, match="holds no codes"):
            read_codec(str(tmp_path / name))
    with pytest.raises(InvalidValue, match="is no file"):
        read_codec(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("case", "patch", "problem"),
    [
        ("pictures", (3, 2), "patch_size=3 does not divide pictures of 1 x 8 x 4 within 0..255"),
        ("films", (2, 4, 3), "patch_size=3 does not divide films of up to 5 frames of 1 x 8 x 8"),
        ("sounds", (0,), "patch_size=0 does not divide sounds of up to 0.16 s at 800 Hz"),
    ],
)
def test_patches_that_do_not_fit_are_refused(case: str, patch: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem):
        codec(case, patch=patch)


def test_what_a_sound_is_made_from_is_not_centred() -> None:
    with pytest.raises(InvalidValue, match="spectrogram.centre=True leaves out how loud"):
        small_sound_codec(centre=True)


def test_whole_rows() -> None:
    """Of a picture, all of its codes or none; of films, those of tubelets side by side."""
    assert [small_codec().whole(count) for count in (15, 16)] == [0, 16]
    assert [small_film_codec().whole(count) for count in (3, 4, 11)] == [0, 4, 8]
    assert small_sound_codec().whole(5) == 5
