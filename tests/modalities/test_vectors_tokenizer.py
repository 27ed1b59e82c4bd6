"""Readings without an order."""

import pytest
import torch
from builders import backbone, model, series_spec
from contracts import check_tokenizer

from mmtx.batch import Field, Spec, fake_batch
from mmtx.modalities.vectors import Vectors


def vectors(spec=None, clock=None):
    torch.manual_seed(0)
    return Vectors(spec=spec or series_spec(num_times=None), dim=24, clock=clock)


def test_contract():
    check_tokenizer(vectors())


def test_every_reading_hears_every_other_and_their_order_says_nothing():
    spec = series_spec(num_times=None)
    whole = model({"radar": vectors(spec)}, backbone())
    batch = fake_batch({"radar": spec}, 3, ragged=False)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = batch.with_name("radar", {"values": batch["radar"]["values"][:, order]}, batch.lengths["radar"], True)
    hidden = whole(batch).tokens("radar")
    torch.testing.assert_close(whole(shuffled).tokens("radar"), hidden[:, order], atol=1e-5, rtol=1e-5)
    other = batch["radar"]["values"].clone()
    other[:, -1] += 1
    changed = whole(batch.with_name("radar", {"values": other}, batch.lengths["radar"], True)).tokens("radar")
    assert not torch.allclose(changed[:, 0], hidden[:, 0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": Field((None,), torch.long, 5, 3)}, "a tokenizer 'vectors' reads the field 'values'"),
        ({"values": Field((3,), torch.float32)}, "reads any number of vectors; the data's values are"),
        ({"values": Field((None, 3, 2), torch.float32, max_length=4)}, "reads any number of vectors"),
    ],
)
def test_what_it_cannot_read_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        vectors(Spec(fields))
