"""What crosses from data to model."""

from __future__ import annotations

import pytest
import torch
from builders import batch_of, image_spec, label_spec, text_spec

from mmtx.batch import Batch, Field, Spec, fake_batch


def test_a_field_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="only the first axis may be ragged"):
        Field((3, None), torch.float32)
    with pytest.raises(ValueError, match="is ragged and needs max_length"):
        Field((None, 3), torch.float32)
    assert Field((None, 3), torch.float32, max_length=5).ragged
    assert not Field((), torch.long).ragged


def test_a_name_of_fixed_size_has_one_position() -> None:
    assert image_spec().max_length == 1
    assert text_spec(max_length=7).max_length == 7


@pytest.fixture
def batch() -> Batch:
    ids = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
    fields = {"text": {"ids": ids}, "label": {"class": torch.tensor([0, 1, 2])}}
    return batch_of(fields, {"text": [3, 1, 2], "label": [1, 1, 0]})


def test_a_batch_knows_who_is_there(batch: Batch) -> None:
    assert len(batch) == 3
    assert "text" in batch
    assert "image" not in batch
    assert batch.present("label").tolist() == [True, True, False]
    assert batch.full == {"text": False, "label": False}


def test_other_content_keeps_no_old_promise(batch: Batch) -> None:
    """`full` is a promise about lengths; new lengths do not inherit it."""
    full = Batch(batch.fields, batch.lengths, {"text": True, "label": True}, batch.ids)
    changed = full.with_name("text", {"ids": torch.zeros(3, 2, dtype=torch.long)}, torch.tensor([2, 1, 0]))
    assert changed.full == {"text": False, "label": True}
    assert changed["text"]["ids"].shape == (3, 2)
    assert changed.lengths["text"].tolist() == [2, 1, 0]
    assert changed.ids is batch.ids
    assert full["text"]["ids"].shape == (3, 3), "the batch itself is as it was"
    promised = full.with_name("text", batch["text"], torch.tensor([3, 3, 3]), full=True)
    assert promised.full["text"]


def test_other_values_keep_what_is_known_of_the_lengths(batch: Batch) -> None:
    packed = batch.packed()
    changed = packed.with_values("text", ids=torch.zeros(3, 3, dtype=torch.long))
    assert not changed["text"]["ids"].any() and packed["text"]["ids"].any()
    assert changed.host_lengths is packed.host_lengths and changed.lengths is packed.lengths


def test_select_takes_some_samples(batch: Batch) -> None:
    some = batch.select(slice(1, 3))
    assert len(some) == 2
    assert some["text"]["ids"].tolist() == [[4, 0, 0], [5, 6, 0]]
    assert some.lengths["text"].tolist() == [1, 2]
    assert some.ids is not None
    assert some.ids.tolist() == [1, 2]


def test_moving_takes_everything_along(batch: Batch) -> None:
    moved = batch.to("meta")
    tensors = [tensor for fields in moved.fields.values() for tensor in fields.values()]
    assert moved.ids is not None
    assert all(tensor.is_meta for tensor in [*tensors, *moved.lengths.values(), moved.ids])
    assert moved.full == batch.full


def test_fake_batch_fits_its_specs() -> None:
    specs = {
        "text": text_spec(num_classes=5, max_length=6),
        "image": image_spec(channels=3),
        "label": label_spec(num_classes=4),
        "sound": Spec({"samples": Field((None, 2), torch.float32, max_length=9)}),
        "flag": Spec({"on": Field((), torch.bool)}),
    }
    batch = fake_batch(specs, size=16)
    assert len(batch) == 16
    assert batch["image"]["pixels"].shape == (16, 3, 8, 8)
    assert batch["image"]["pixels"].dtype == torch.uint8
    assert batch["image"]["pixels"].max() > 127
    assert set(batch["label"]["class"].tolist()) == {0, 1, 2, 3}
    assert batch["flag"]["on"].dtype == torch.bool
    lengths = batch.lengths["text"]
    assert lengths.min() >= 2
    assert lengths.unique().numel() > 1
    assert batch["text"]["ids"].shape[1] == lengths.max()
    assert batch["text"]["ids"].max() == 4
    assert batch["sound"]["samples"].shape[2] == 2
    for name, field in (("text", "ids"), ("sound", "samples")):
        values = batch[name][field]
        padding = torch.arange(values.shape[1])[None] >= batch.lengths[name][:, None]
        assert padding.any()
        assert not values[padding].any()
    assert batch.full == {"text": False, "image": True, "label": True, "sound": False, "flag": True}


def test_fake_batch_is_a_function_of_its_seed() -> None:
    specs = {"text": text_spec()}
    first, again, other = (fake_batch(specs, 8, seed=seed)["text"]["ids"] for seed in (0, 0, 1))
    assert first.equal(again)
    assert not (first.shape == other.shape and first.equal(other))


def test_fake_batch_without_ragged_lengths_is_full() -> None:
    batch = fake_batch({"text": text_spec(max_length=6)}, 4, ragged=False)
    assert batch.lengths["text"].tolist() == [6] * 4
    assert batch.full == {"text": True}
