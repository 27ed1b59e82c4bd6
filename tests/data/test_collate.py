"""Samples become dense batches, or are refused by name."""

import pytest
import torch

from mmtx.batch import Field, Spec
from mmtx.data.collate import collate

SPECS = {
    "image": Spec({"pixels": Field((1, 2, 2), torch.uint8)}),
    "text": Spec({"ids": Field((None,), torch.long, num_classes=10, max_length=5)}),
    "path": Spec(
        {
            "state": Field((None, 2), torch.float32, max_length=4),
            "step": Field((None,), torch.long, max_length=4),
        }
    ),
    "label": Spec({"class": Field((), torch.long, num_classes=3)}),
}


def sample(length=3, steps=2, label=1):
    return {
        "image": {"pixels": torch.full((1, 2, 2), 7, dtype=torch.uint8)},
        "text": {"ids": torch.arange(1, length + 1)},
        "path": {"state": torch.ones(steps, 2), "step": torch.arange(steps)},
        "label": {"class": torch.tensor(label)},
    }


def test_ragged_fields_are_padded_at_the_end():
    batch = collate([sample(3), sample(5), sample(1)], SPECS, ids=[4, 0, 9])
    assert batch["text"]["ids"].tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5], [1, 0, 0, 0, 0]]
    assert batch.lengths["text"].tolist() == [3, 5, 1]
    assert batch.lengths["image"].tolist() == [1, 1, 1]
    assert batch["image"]["pixels"].shape == (3, 1, 2, 2) and batch["image"]["pixels"].dtype == torch.uint8
    assert batch["label"]["class"].tolist() == [1, 1, 1]
    assert batch.ids.tolist() == [4, 0, 9] and len(batch) == 3
    assert batch.full == {"image": True, "text": False, "path": True, "label": True}


def test_padding_goes_to_the_longest_of_the_batch_not_of_the_data():
    assert collate([sample(2), sample(1)], SPECS)["text"]["ids"].shape == (2, 2)


def test_an_absent_name_has_length_zero():
    lacking = sample()
    del lacking["image"], lacking["text"]
    batch = collate([sample(4), lacking], SPECS)
    assert batch.lengths["text"].tolist() == [4, 0] and batch.lengths["image"].tolist() == [1, 0]
    assert not batch["image"]["pixels"][1].any() and not batch["text"]["ids"][1].any()
    assert not batch.full["image"] and not batch.full["text"] and batch.full["label"]
    assert batch.present("image").tolist() == [True, False]


def test_a_name_that_no_sample_has_keeps_its_shape():
    batch = collate([{}, {}], SPECS)
    assert batch["text"]["ids"].shape == (2, 1) and batch["path"]["state"].shape == (2, 1, 2)
    assert batch.lengths["text"].tolist() == [0, 0] and not any(batch.full.values())


def test_filler_samples_have_nothing_in_them():
    batch = collate([sample()], SPECS, size=3, ids=[5])
    assert len(batch) == 3 and batch.ids.tolist() == [5, -1, -1]
    assert all(lengths[1:].tolist() == [0, 0] for lengths in batch.lengths.values())
    empty = collate([], SPECS, size=2)
    assert len(empty) == 2 and empty.ids.tolist() == [-1, -1] and not any(empty.full.values())


def test_only_the_requested_names_are_collated():
    batch = collate([{**sample(), "other": {"x": torch.ones(())}}], {"label": SPECS["label"]})
    assert set(batch.fields) == {"label"}


def test_a_batch_does_not_share_memory_with_its_samples():
    one = sample()
    collate([one], SPECS)["image"]["pixels"].zero_()
    assert one["image"]["pixels"].eq(7).all()


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("image", {}, r"sample 8, image.pixels is missing"),
        ("image", {"pixels": torch.zeros(1, 2, 3, dtype=torch.uint8)}, r"sample 8, image.pixels has shape \(1, 2, 3\)"),
        (
            "image",
            {"pixels": torch.zeros(1, 2, 2)},
            r"image.pixels has shape .* torch.float32; declared .* torch.uint8",
        ),
        ("text", {"ids": torch.arange(6)}, r"sample 8, text.ids has 6 positions; declared are at most 5"),
        ("text", {"ids": torch.tensor(1)}, r"sample 8, text.ids has shape \(\)"),
        ("path", {"state": torch.ones(2, 2), "step": torch.arange(3)}, r"ragged fields have unequal lengths \[2, 3\]"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(name, fields, message):
    with pytest.raises(ValueError, match=message):
        collate([sample(), {**sample(), name: fields}], SPECS, ids=[3, 8])
