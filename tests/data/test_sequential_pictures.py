"""Pixels one after the other: those of the pictures, in reading order."""

from __future__ import annotations

import torch
from contracts import check_source

from mmtx.data.algorithmic.sequential_pictures import SequentialPictures
from mmtx.data.image.digits import Digits
from mmtx.data.text.vocabulary import Characters


def test_pixels_are_those_of_the_pictures() -> None:
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    source = SequentialPictures(pictures=pictures)
    check_source(source)
    assert source.specs["pixels"].fields["values"].max_length == 64
    for split in ("train", "val", "test"):
        sequences, whole = getattr(source, split)(), getattr(pictures, split)()
        assert len(sequences) == len(whole)
        sample, picture = sequences[5], whole[5]
        values = [2 * int(picture["image"]["pixels"][0, step // 8, step % 8]) / 255 - 1 for step in range(64)]
        torch.testing.assert_close(sample["pixels"]["values"], torch.tensor(values)[:, None])
        assert sample["label"]["class"] == picture["label"]["class"]
