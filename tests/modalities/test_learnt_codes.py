"""Pictures, films and sounds whose codes are learnt: one token per code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import audio_spec, image_spec, log_mel
from contracts import check_tokenizer
from small_codec import KINDS, LEARNT, coded_audio, coded_image, coded_video, film_spec

from mmtx.batch import Field, Spec, fake_batch
from mmtx.errors import InvalidValue

PADDED = {"pad_to_seconds": 0.2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "spec", "changes"),
    [
        ("image", image_spec(), {}),
        ("image", image_spec(3, 8, 12, torch.float32), {}),
        ("video", film_spec(), {}),
        ("video", film_spec(4, torch.float32), {"tubelet_frames": 1}),
        ("audio", audio_spec(), {}),
        ("audio", audio_spec(), PADDED),
    ],
)
def test_contract(name: str, spec: Spec, changes: dict[str, Any], kind: str) -> None:
    check_tokenizer(LEARNT[name](kind, spec, **changes), apart="codec.decoder.")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "coordinates"),
    [
        ("image", [[row, column] for row in range(2) for column in range(2)]),
        ("video", [[time, row, column] for time in range(3) for row in range(2) for column in range(2)]),
        ("audio", [[time] for time in range(6)]),
    ],
)
def test_tokens_are_turned_back_into_what_is_decoded(name: str, coordinates: list[list[int]], kind: str) -> None:
    tokenizer = LEARNT[name](kind)
    batch = fake_batch({name: tokenizer.spec}, 3, ragged=False)
    fields, lengths = batch[name], batch.lengths[name]
    with torch.no_grad():
        tokens = tokenizer(fields, lengths, True)
        inverted = tokenizer.invert(tokens)[tokenizer.codec.content.field]
        expected = tokenizer.codec.values(tokenizer.codec.ids(fields, lengths))
    assert inverted.equal(expected)
    assert tokens.content.shape == (3, len(coordinates), 8) and tokens.coordinates.tolist() == coordinates
    assert tokens.num_items == 1, "all of a sample attend to each other"


def test_of_a_sound_there_is_a_waveform_as_well() -> None:
    """Of 16 frames of 8 samples, filled up to 18; `draw` needs either."""
    tokenizer = coded_audio()
    batch = fake_batch({"audio": tokenizer.spec}, 2, ragged=False)
    with torch.no_grad():
        inverted = tokenizer.invert(tokenizer(batch["audio"], batch.lengths["audio"], True))
    assert inverted["frames"].shape == (2, 18, 6) and inverted["waveform"].shape == (2, 18 * 8)


class Axes:
    """Keeps the size of what is drawn."""

    shown: Any = None

    def imshow(self, picture: Any, **_: Any) -> None:
        self.shown = picture.shape

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def test_films_and_sounds_are_drawn() -> None:
    axes, film = Axes(), fake_batch({"video": film_spec()}, 1, ragged=False)["video"]["frames"][0]
    coded_video().draw(axes, {"frames": film}, 3)
    assert axes.shown == (8, 3 * 8)
    coded_audio().draw(axes, {"waveform": torch.randn(128)}, 64)
    assert axes.shown == (6, 8)
    coded_audio().draw(axes, {"frames": torch.randn(18, 6), "waveform": torch.randn(144)}, 128)
    assert axes.shown == (6, 16)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("image", {"patch_size": 3}, "patch_size=3 does not divide pictures of 1 x 8 x 8"),
        ("image", {"width": 0}, "width=0 must be at least 1"),
        ("video", {"patch_size": 5}, "patch_size=5 does not divide films of up to 5 frames of 1 x 8 x 8"),
        ("video", {"tubelet_frames": 0}, "tubelet_frames=0 must be at least 1"),
        ("audio", {"frames": 0}, "frames=0 must be at least 1"),
        ("audio", {"pad_to_seconds": 0.1}, "pad_to_seconds=0.1 is less than the data's 0.16 s"),
        ("audio", {"spectrogram": log_mel(sample_rate_hz=900)}, "sample_rate_hz=900 is not the data's 800 Hz"),
        ("audio", {"spectrogram": log_mel(centre=True)}, "spectrogram.centre=True leaves out how loud"),
    ],
)
def test_what_cannot_be_is_refused(name: str, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem):
        LEARNT[name](**changes)


def test_other_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="reads pixels of shape"):
        coded_image(spec=Spec({"pixels": Field((None, 1, 8, 8), torch.uint8, max_length=4)}))
    timed = Spec({**film_spec().fields, "times": Field((None,), torch.long, 9, 5)})
    with pytest.raises(ValueError, match="reads frames of shape .* without times"):
        coded_video(spec=timed)
