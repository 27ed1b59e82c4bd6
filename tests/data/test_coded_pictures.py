"""Pictures with the codes of a trained codec."""

from pathlib import Path

import pytest
import torch
from contracts import check_source
from small_codec import small_codec, small_codec_file, small_codes

from mmtx.data.fitted import FittedState
from mmtx.data.image.coded_pictures import CodedPictures
from mmtx.data.image.digits import Digits
from mmtx.data.picture_codes import PictureCodes
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError


def source(vocabulary=None, augment=None):
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    return CodedPictures(pictures=pictures, vocabulary=vocabulary or small_codes(), augment=augment)


def test_contract():
    check_source(source())


def test_codes_are_those_of_the_codec_behind_a_mark():
    made, codec = source(), small_codec()
    for split in (made.train(), made.val(), made.test()):
        for index in (0, 5):
            sample = split[index]
            expected = codec.ids(sample["image"]["pixels"][None])[0]
            assert sample["codes"]["ids"].tolist() == [9, *expected.tolist()]
    assert {"image", "label", "text"} <= made.train()[0].keys()


def test_training_is_augmented_before_it_is_encoded():
    made = source(augment=torch.zeros_like)
    black = small_codec().ids(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))[0]
    assert made.train()[3]["codes"]["ids"][1:].equal(black) and not made.test()[3]["codes"]["ids"][1:].equal(black)


def test_each_picture_is_encoded_once(monkeypatch):
    made = source()
    calls = []
    monkeypatch.setattr(made.vocabulary.codec, "ids", lambda pixels: calls.append(1) or torch.zeros(1, 16).long())
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
    with pytest.raises(InvalidValue, match="has codes for pictures of"):
        source(small_codes(**changes))


def test_codes_are_written_as_numbers():
    vocabulary = small_codes()
    assert vocabulary.encode("3 8 0") == [3, 8, 0] and vocabulary.decode([9, 3, 8, 0]) == "3 8 0"
    for text in ("9", "a", "-1"):
        with pytest.raises(UserError, match="is no code of a picture"):
            vocabulary.encode(text)
