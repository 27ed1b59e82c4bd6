"""What is drawn and kept of a batch's samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from builders import (
    Letters,
    audio,
    audio_batch,
    grid,
    grid_spec,
    image,
    image_spec,
    model,
    series,
    series_spec,
    text,
    text_spec,
)
from learners import made_learner
from matplotlib.figure import Figure
from torch import Tensor

from mmtx.batch import Field, Spec, fake_batch
from mmtx.modalities.image import Image
from mmtx.modalities.series import Series
from mmtx.objectives.base import Example
from mmtx.objectives.shown import show_examples, write_sounds
from mmtx.tokens import Tokens


def test_sounds_are_kept_as_they_were_heard(tmp_path: Path) -> None:
    learner, batch = made_learner("ctc"), audio_batch([80, 0, 40])
    write_sounds(learner.model, batch, tmp_path / "a_step000001")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_step000001_0.wav", "a_step000001_2.wav"]
    waveform, rate = soundfile.read(tmp_path / "a_step000001_2.wav")
    assert rate == 800 and waveform == pytest.approx(batch["audio"]["waveform"][2, :40].numpy(), abs=1e-4)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """All that is saved."""
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: saved.append(self))
    return saved


class Mirror(Image):
    """Patches whose tokens are turned into the picture that is white where the given one is black."""

    pixels: Tensor

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        return {"pixels": 255 - self.pixels}


def test_what_tokens_hold_is_drawn_beneath_what_they_were_made_from(tmp_path: Path, figures: list[Figure]) -> None:
    """Five samples in two rows of four, each with its picture and the inverted one; then what is drawn below."""
    tokenizer = image()
    tokenizer.__class__ = Mirror
    whole, batch = model({"image": tokenizer}), fake_batch({"image": image_spec()}, 5)
    tokenizer.pixels = batch["image"]["pixels"]  # type: ignore[assignment]
    below: list[tuple[Any, int]] = []
    beneath = {"image": lambda axes, above, index: below.append((above, index))}
    show_examples(whole.eval(), batch, [Example("a", "b")] * 5, tmp_path / "a", beneath)
    (figure,) = figures
    assert len(figure.axes) == 15 and [index for _, index in below] == [0, 1, 2, 3, 4]
    places = [(*axes.get_subplotspec().get_geometry()[:2], axes.get_subplotspec().num1) for axes in figure.axes]
    assert places == [(6, 4, p) for i in range(5) for p in (12 * (i // 4) + i % 4 + 4 * row for row in range(3))]
    for index in range(5):
        shown, inverted = (torch.as_tensor(a.images[0].get_array().data) for a in figure.axes[3 * index :][:2])
        assert below[index][0] is figure.axes[3 * index]
        assert shown.equal(batch["image"]["pixels"][index].squeeze(0)) and inverted.equal(255 - shown)


def test_a_sound_is_drawn_over_seconds_whatever_is_beside_it(tmp_path: Path, figures: list[Figure]) -> None:
    """At most four of them, each as a waveform above its spectrogram; one that is missing is drawn as silence."""
    whole, batch = model({"audio": audio()}), audio_batch([80, 0, 40, 60, 80])
    show_examples(whole.eval(), batch, [Example("a", "b")] * 5, tmp_path / "a")
    waveforms, axes = figures[0].axes[::2], figures[0].axes[1::2]
    assert len(axes) == 4 and [each.get_ylabel() for each in axes] == ["mel bin", "", "", ""]
    assert [each.get_xlim()[1] for each in waveforms] == pytest.approx([length / 800 for length in (80, 1, 40, 60)])
    highest, lowest = (f(waveforms[2].collections[0].get_paths()[0].vertices[:, 1]) for f in (max, min))
    assert [lowest, highest] == pytest.approx([f(batch["audio"]["waveform"][2, :40].tolist()) for f in (min, max)])
    spectrogram = whole.tokenizer("audio").spectrogram
    frames = spectrogram.num_frames(torch.tensor([80, 0, 40, 60])).clamp(min=1)
    hop_s = spectrogram.hop_length / spectrogram.sample_rate_hz
    assert [each.get_xlim()[1] for each in axes] == pytest.approx([int(n) * hop_s for n in frames])
    alone = spectrogram(batch["audio"]["waveform"][2:3, :40], torch.tensor([40]))[0].T
    torch.testing.assert_close(torch.as_tensor(axes[2].images[0].get_array().data), alone)


def test_every_name_of_the_set_is_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    """Whatever its tokenizer: picture, text, vectors over their times, cells, and what a user's own reads."""

    class Own(Series):
        """Hours of a day, as docs/extending.md has them."""

        def __init__(self) -> None:
            super().__init__(spec=series_spec(1), dim=24, clock=None, squash=False)
            self.spec = Spec({"values": Field((6, 1), torch.float32)})

    specs = {"image": image_spec(), "text": text_spec(11, 8, Letters()), "state": series_spec(3), "view": grid_spec()}
    whole = model(
        {"image": image(), "text": text(specs["text"]), "state": series(specs["state"]), "view": grid(specs["view"])}
    )
    whole.tokenizers["day"] = Own()
    batch = fake_batch({**specs, "day": whole.tokenizer("day").spec}, 2)
    batch = batch.without({"text": torch.tensor([False, True])})
    show_examples(whole.eval(), batch, [Example("a", "b")] * 2, tmp_path / "a")
    rows = [figures[0].axes[5 * index : 5 * index + 5] for index in range(2)]
    assert [axes.get_ylabel() for axes in rows[0]] == ["image", "text", "state", "view", "day"]
    for index, (picture, written, state, view, day) in enumerate(rows):
        assert torch.as_tensor(picture.images[0].get_array().data).equal(batch["image"]["pixels"][index, 0])
        count, steps = int(batch.lengths["text"][index]), int(batch.lengths["state"][index])
        assert written.texts[0].get_text() == (Letters().decode(batch["text"]["ids"][index, :count].tolist()) or "–")
        times, values = (batch["state"][key][index, :steps] for key in ("times", "values"))
        assert [line.get_xdata().tolist() for line in state.lines] == [times.tolist()] * 3
        assert [line.get_ydata().tolist() for line in state.lines] == values.T.tolist()
        last = batch["view"]["cells"][index, int(batch.lengths["view"][index]) - 1, ..., 0]
        assert torch.as_tensor(view.images[0].get_array().data).equal(last)
        assert day.lines[0].get_ydata().tolist() == batch["day"]["values"][index, :, 0].tolist()


def test_texts_alone_are_a_table(tmp_path: Path) -> None:
    whole = model({"text": text()})
    batch = fake_batch({"text": text_spec()}, 2)
    assert show_examples(whole.eval(), batch, [Example("a", "b")] * 2, tmp_path / "a") == [tmp_path / "a.jsonl"]
