"""Pixels one after the other: those of the pictures, in reading order."""

from __future__ import annotations

import torch
from contracts import check_source

from mmtx.config.compose import compose
from mmtx.experiment import construct_source

WORDS = ["modality=[pixels]", "objective=[classify]"]


def test_pixels_are_those_of_the_pictures() -> None:
    source = construct_source(compose(["data=sequential_pictures", *WORDS]))
    check_source(source)
    pictures = construct_source(compose(["data/pictures@data=digits"]))
    assert source.specs["pixels"].fields["values"].max_length == 64
    for sequences, whole in (
        (source.train(), pictures.train()),
        (source.val(), pictures.val()),
        (source.test(), pictures.test()),
    ):
        assert sequences is not None and whole is not None and len(sequences) == len(whole)
        sample, picture = sequences[5], whole[5]
        values = [2 * int(picture["image"]["pixels"][0, step // 8, step % 8]) / 255 - 1 for step in range(64)]
        torch.testing.assert_close(sample["pixels"]["values"], torch.tensor(values)[:, None])
        assert sample["label"]["class"] == picture["label"]["class"]
