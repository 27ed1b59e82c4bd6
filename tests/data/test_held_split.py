"""Training data on the device."""

import pytest
import torch
from torch import nn

from mmtx.batch import Field, Spec
from mmtx.data.base import BatchSplit
from mmtx.data.collate import collate
from mmtx.data.held_split import HeldBatches, held
from mmtx.data.image.labelled_images import LabelledImages
from mmtx.data.loaders import DataModule
from mmtx.data.modality_dropout import ModalityDropout
from mmtx.errors import InvalidValue


def pictures(augment=None):
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8), torch.arange(n) % 2)
        for n in (23, 4)
    ]
    return LabelledImages(
        train=parts[0], test=parts[1], class_names=("even", "odd"), augment=augment, num_val=4, split_seed=0
    )


def loaded(source, **changes):
    keys = {"seed": 3, "batch_size": 4, "eval_batch_size": None, "num_workers": 0, "packing": False}
    keys |= {"on_bad_sample": "raise", "max_bad_share": 0.0, "on_device": True}
    return DataModule(source=source, names=["image", "label"], **{**keys, **changes})


def same(one, other):
    assert one.full == other.full and one.ids.equal(other.ids) and one.part == other.part
    for name in ("image", "label"):
        assert one.lengths[name].equal(other.lengths[name])
        assert all(value.equal(other[name][key]) for key, value in one[name].items())


@pytest.mark.parametrize("ranks", [{"rank": 0, "num_ranks": 1}, {"rank": 1, "num_ranks": 2}])
@pytest.mark.parametrize("first_step", [0, 5])
def test_steps_are_those_of_the_host(ranks, first_step):
    """One by one, from the start or where a run is resumed, over the ends of epochs."""
    keys = {"num_steps": 9, "accumulate": 2, "first_step": first_step, **ranks}
    source = pictures()
    on_device = loaded(source).train_loader(**keys, device=torch.device("cpu"))
    by_one = loaded(pictures(augment=lambda picture: picture), on_device=False).train_loader(**keys)
    assert isinstance(on_device, HeldBatches)
    assert len(on_device) == len(by_one) == 9 - first_step
    for one, other in zip(on_device, by_one, strict=True):
        for held_batch, made in zip(one, other, strict=True):
            same(held_batch, made)


def test_whole_batches_of_pictures_are_those_of_single_ones():
    source = pictures(augment=nn.Identity())
    for split in (source.train(), source.val(), source.test()):
        assert isinstance(split, BatchSplit)
        index = [3, 0, 2]
        same(split.batch(index, source.specs), collate([split[i] for i in index], source.specs, ids=index))
    assert not isinstance(pictures(augment=lambda picture: picture).train(), BatchSplit)


def test_what_cannot_be_held_is_refused():
    with pytest.raises(InvalidValue, match="^on_device=True needs pictures in memory .* data/augment=none"):
        loaded(pictures(augment=lambda picture: picture))
    with pytest.raises(InvalidValue, match=r"^on_device=True cannot go with loader\.packing"):
        loaded(pictures(), packing=True)
    dropout = ModalityDropout(shares={"image": 0.5}, names=["image"], seed=0)
    with pytest.raises(InvalidValue, match="^on_device=True cannot go with modality_dropout"):
        loaded(pictures(), modality_dropout=dropout)
    ragged = {"text": Spec({"ids": Field((None,), torch.long, 5, max_length=3)})}
    with pytest.raises(InvalidValue, match="^on_device=True needs samples of one size, and text has unequal lengths"):
        held(pictures().train(), ragged, packing=False, drops=False)
