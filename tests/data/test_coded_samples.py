"""Pictures, films and sounds with the codes of a trained codec."""

from pathlib import Path

import pytest
import torch
from builders import audio_spec
from contracts import check_source
from small_codec import (
    small_codec,
    small_codec_file,
    small_codes,
    small_film_codec,
    small_sound_codec,
)

from mmtx.codes.pixels import Pictures
from mmtx.codes.stored_codec import as_text
from mmtx.data.audio.coded_sounds import CodedSounds
from mmtx.data.base import ItemSource
from mmtx.data.codec_vocabulary import FilmCodes, PictureCodes
from mmtx.data.fitted import FittedState
from mmtx.data.image.coded_pictures import CodedPictures
from mmtx.data.image.digits import Digits
from mmtx.data.multimodal.moving_digits import MovingDigits
from mmtx.data.text.vocabulary import Characters
from mmtx.data.video.coded_films import CodedFilms
from mmtx.errors import InvalidValue, UserError


def source(vocabulary=None, augment=None):
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    return CodedPictures(pictures=pictures, vocabulary=vocabulary or small_codes(), augment=augment)


class Clips(ItemSource):
    """Noise of 40 to 128 samples at 800 Hz."""

    items = {"train": range(40, 60), "val": range(100, 104), "test": range(124, 129)}
    specs = {"audio": audio_spec()}

    def sample(self, item, split):
        return {"audio": {"waveform": torch.randn(item, generator=torch.Generator().manual_seed(item))}}


def films(codec=None, **changes):
    keys = {"canvas": 8, "min_frames": 2, "max_frames": 5, "speed": 1, "num_train": 20, "num_val": 4, "num_test": 4}
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    moving = MovingDigits(pictures=pictures, split_seed=0, **{**keys, **changes})
    return CodedFilms(films=moving, vocabulary=small_codes(codec or small_film_codec()))


def sounds(codec=None):
    return CodedSounds(sounds=Clips(), vocabulary=small_codes(codec or small_sound_codec()))


@pytest.mark.parametrize("make", [source, films, sounds])
def test_contract(make):
    check_source(make())


@pytest.mark.parametrize(("make", "codec"), [(films, small_film_codec), (sounds, small_sound_codec)])
def test_films_and_sounds_have_as_many_codes_as_they_are_long(make, codec):
    made, own = make(), codec()
    counts = set()
    for index in range(20):
        sample = made.train()[index]
        values = sample[made.name][made.field]
        (expected,) = own.ids({made.field: values[None]}, torch.tensor([len(values)]))
        assert sample["codes"]["ids"].tolist() == [9, *expected.tolist()]
        counts.add(len(expected))
    assert len(counts) > 1 and max(counts) <= made.specs["codes"].max_length - 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: films(max_frames=6), "has codes for films of up to 5 frames of 1 x 8 x 8 within 0..255; these are"),
        (lambda: films(canvas=9), "these are films of up to 5 frames of 1 x 9 x 9"),
        (
            lambda: sounds(small_sound_codec(sample_rate_hz=900)),
            "at 900 Hz; these are sounds of up to 0.16 s at 800 Hz",
        ),
        (lambda: FilmCodes(path=None).load({"codec": as_text(small_codec())}), "where films are coded"),
        (lambda: CodedFilms(films=Clips(), vocabulary=small_codes(small_film_codec())), "has no 'video'"),
    ],
)
def test_other_films_and_sounds_are_refused(make, problem):
    with pytest.raises(InvalidValue, match=problem):
        make()


def test_codes_are_those_of_the_codec_behind_a_mark():
    made, codec = source(), small_codec()
    for split in (made.train(), made.val(), made.test()):
        for index in (0, 5):
            sample = split[index]
            expected = codec.ids({"pixels": sample["image"]["pixels"][None]}, torch.ones(1).long())[0]
            assert sample["codes"]["ids"].tolist() == [9, *expected.tolist()]
    assert {"image", "label", "text"} <= made.train()[0].keys()


def test_training_is_augmented_before_it_is_encoded():
    made = source(augment=torch.zeros_like)
    black = small_codec().ids({"pixels": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, torch.ones(1).long())[0]
    assert made.train()[3]["codes"]["ids"][1:].equal(black) and not made.test()[3]["codes"]["ids"][1:].equal(black)


def test_each_picture_is_encoded_once(monkeypatch):
    made = source()
    calls = []
    monkeypatch.setattr(made.vocabulary.codec, "ids", lambda *_: calls.append(1) or torch.zeros(1, 16).long())
    for _ in range(3):
        made.test()[0]
    assert len(calls) == 1


def test_a_run_needs_the_file_no_more(tmp_path: Path):
    file = small_codec_file(tmp_path)
    first = source(PictureCodes(path=str(file)))
    given = FittedState.from_run(first.specs, first.fitted.state())
    file.unlink()
    with given.active():
        later = source(PictureCodes(path=str(file)))
    assert later.test()[7]["codes"]["ids"].equal(first.test()[7]["codes"]["ids"])
    with pytest.raises(InvalidValue, match="vocabulary.path=.* is no file"):
        source(PictureCodes(path=str(file)))


def test_without_a_file_one_line_names_the_way():
    with pytest.raises(InvalidValue, match="data.vocabulary.path=None names no codes; train them with"):
        source(PictureCodes(path=None))


@pytest.mark.parametrize("changes", [{"shape": (1, 4, 8)}, {"scale": 1.0}])
def test_codes_of_other_pictures_are_refused(changes):
    content = Pictures(**{"shape": (1, 8, 8), "scale": 255.0, **changes})
    with pytest.raises(InvalidValue, match="has codes for pictures of"):
        source(small_codes(small_codec(content)))


def test_codes_are_written_as_numbers():
    vocabulary = small_codes()
    assert vocabulary.encode("3 8 0") == [3, 8, 0] and vocabulary.decode([9, 3, 8, 0]) == "3 8 0"
    for text in ("9", "a", "-1"):
        with pytest.raises(UserError, match="is no code; they are the numbers below 9"):
            vocabulary.encode(text)
