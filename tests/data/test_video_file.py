"""Files of films."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmtx.config.compose import compose
from mmtx.data.files.file_bytes import FileBytes
from mmtx.data.image.decode_image import Fit
from mmtx.data.video import video_file
from mmtx.data.video.video_file import read_video
from mmtx.errors import UserError
from mmtx.experiment.source import construct_source

CONTAINERS = {"mp4": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4"}


def film(count: int = 5, height: int = 32, width: int = 48) -> numpy.ndarray:
    """Smooth frames in colour, each unlike the others, dark in one corner."""
    row, column = numpy.mgrid[0:height, 0:width]
    frames = [numpy.stack([row * 6, column * 4, row * 0 + 40 * i], axis=2) for i in range(count)]
    return numpy.stack(frames).astype(numpy.uint8)


def encoded(frames: numpy.ndarray, suffix: str) -> bytes:
    av = pytest.importorskip("av")
    stream = io.BytesIO()
    with av.open(stream, "w", format={"avi": "avi"}.get(suffix, suffix)) as container:
        out = container.add_stream(CONTAINERS[suffix], rate=10)
        out.height, out.width = frames.shape[1:3]
        out.pix_fmt, out.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(out.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(out.encode())
    return stream.getvalue()


def array_file(frames: numpy.ndarray, suffix: str) -> bytes:
    stream = io.BytesIO()
    if suffix == "npy":
        numpy.save(stream, frames)
    else:
        numpy.savez(stream, frames)
    return stream.getvalue()


def gif(frames: numpy.ndarray) -> bytes:
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def read(content: bytes | Path, max_frames: int = 16, channels: int = 3, size: tuple[int, int] = (32, 48)) -> Tensor:
    file = content if isinstance(content, Path) else FileBytes("film", content)
    return read_video(file, size=size, channels=channels, max_frames=max_frames, max_pixels=10_000, fit=Fit())


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_frames_are_those_that_were_encoded(suffix: str) -> None:
    """But for what the codec loses."""
    frames = film()
    found = read(encoded(frames, suffix)).permute(0, 2, 3, 1).numpy().astype(float)
    assert found.shape == frames.shape
    assert numpy.abs(found - frames).mean() < 4


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("grey", ["colour", "channel", "none"])
def test_arrays_are_read_as_they_are(tmp_path: Path, suffix: str, grey: str) -> None:
    frames = film() if grey == "colour" else film()[..., :1] if grey == "channel" else film()[..., 0]
    (tmp_path / "film").write_bytes(array_file(frames, suffix))
    found = read(tmp_path / "film", channels=3 if grey == "colour" else 1)
    assert found.permute(0, 2, 3, 1).numpy().reshape(frames.shape).tolist() == frames.tolist()


def test_a_gif_is_read_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of few colours as they are, of which later ones change a part alone."""
    monkeypatch.setattr(video_file, "_pyav", None)
    frames = numpy.full((4, 32, 48, 3), 255, numpy.uint8)
    for i in range(4):
        frames[i, 4 * i : 4 * i + 8, 8:20] = (200, 10 * i, 0)
    found = read(gif(frames))
    assert (found.permute(0, 2, 3, 1).numpy() == frames).all()


def test_of_a_long_film_frames_are_equally_far_apart() -> None:
    frames = film(13)
    whole = torch.from_numpy(frames).permute(0, 3, 1, 2)
    assert read(array_file(frames, "npy"), max_frames=4).equal(whole[[0, 4, 8, 12]])
    assert read(array_file(frames, "npy"), max_frames=1).equal(whole[:1])
    assert read(array_file(frames, "npy"), max_frames=13).equal(whole)


def test_a_film_of_a_telephone_is_turned() -> None:
    """By the matrix of its track (ISO 14496-12, 8.3.2), here a quarter clockwise: what was at the right is below."""
    content = encoded(film(), "mp4")
    identity, quarter = (
        struct.pack(">9i", *(int(x * 65536) for x in m[:8]), 1 << 30)
        for m in ([1, 0, 0, 0, 1, 0, 0, 0], [0, 1, 0, -1, 0, 0, 0, 0])
    )
    place = content.index(identity, content.index(b"tkhd"))
    turned = content[:place] + quarter + content[place + len(identity) :]
    plain, found = read(content), read(turned, size=(48, 32))
    assert torch.rot90(plain, -1, (2, 3)).equal(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing of the kind", "film cannot be read as a film: InvalidDataError"),
        (b"GIF89a and nothing", "film cannot be read as a film: "),
        (array_file(film(), "npy")[:200], "film cannot be read as an array: "),
        (array_file(film().astype(float), "npy"), r"film holds float64 of shape \(5, 32, 48, 3\); a film is uint8"),
        (array_file(film()[..., :2], "npy"), r"film holds uint8 of shape \(5, 32, 48, 2\)"),
        (array_file(film()[:0], "npz"), "film has no frames"),
        (array_file(film(1, 200, 60), "npy"), "film has frames of 60 x 200 = 12000 pixels; data.max_pixels=10000"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(content: bytes, message: str) -> None:
    if "Invalid" in message:
        pytest.importorskip("av")
    with pytest.raises(UserError, match=message):
        read(content)


def test_pyav_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(
        UserError, match=r"film is decoded by PyAV, which is not installed: pip install 'mmtx\[video\]'"
    ):
        read(b"\x00\x00\x00 ftypisom")


def test_a_table_of_films(tmp_path: Path) -> None:
    """The set reads them as films; they are as long as they are."""
    lines = ["video,label"]
    for i in range(8):
        numpy.save(tmp_path / f"{i}.npy", film(2 + i % 3) + i)
        lines.append(f"{i}.npy,{'ab'[i % 2]}")
    (tmp_path / "films.csv").write_text("\n".join(lines))
    words = ["data=manifest", f"data.path={tmp_path / 'films.csv'}", "modality=[video]", "objective=[classify]"]
    source = construct_source(compose([*words, "data.size=16", "data.max_frames=3", "data.val_fraction=0"]))
    field = source.specs["video"].fields["frames"]
    assert (field.shape, field.dtype, field.max_length) == ((None, 3, 16, 16), torch.uint8, 3)
    assert {len(source.train()[i]["video"]["frames"]) for i in range(len(source.train()))} == {2, 3}
    for word, message in (("data/augment=flip", "augment=.* is for pictures"), ("data.max_frames=0", "max_frames=0")):
        with pytest.raises(UserError, match=message):
            construct_source(compose([*words, word]))
