"""Residues as tokens, and what is known of every two."""

import pytest
import torch
from builders import backbone, chain, chain_spec, model, text
from contracts import check_tokenizer

from mmtx.batch import Field, Spec, fake_batch
from mmtx.errors import InvalidValue


@pytest.mark.parametrize("keys", [{}, {"sequence": False}, {"contacts": False}], ids=str)
def test_contract(keys):
    check_tokenizer(chain(**keys))


def test_pairs_are_those_of_real_residues():
    tokenizer, batch = chain(), fake_batch({"chain": chain_spec()}, 3)
    lengths = batch.lengths["chain"]
    pairs = tokenizer(batch["chain"], lengths, False).pairs
    assert len(set(lengths.tolist())) > 1, "some are padded"
    for sample, length in enumerate(lengths.tolist()):
        assert pairs[sample, :length, :length].equal(batch["chain"]["contacts"][sample, :length, :length])
        assert not pairs[sample, length:].any() and not pairs[sample, :, length:].any()
    assert chain(contacts=False)(batch["chain"], lengths, False).pairs is None


def test_places_come_back_in_angstroms():
    tokenizer, batch = chain(angstroms=4.0), fake_batch({"chain": chain_spec()}, 3)
    numbers = tokenizer.numbers(batch["chain"], batch.lengths["chain"])
    torch.testing.assert_close(numbers * 4, batch["chain"]["values"])
    torch.testing.assert_close(tokenizer.fields_of(numbers)["values"], batch["chain"]["values"])


def test_a_set_has_pairs_where_its_chain_has_them():
    """Beside a text, whose tokens have nothing with any other."""
    whole = model({"text": text(), "chain": chain()}, backbone())
    specs = {name: whole.tokenizer(name).spec for name in whole.names}
    batch = fake_batch(specs, 2, ragged=False)
    pairs, span = whole.tokenize(batch).pairs, whole.tokenize(batch).spans["chain"]
    assert pairs[:, span.start : span.stop, span.start : span.stop].equal(batch["chain"]["contacts"])
    assert not pairs[:, : span.start].any() and not pairs[:, :, : span.start].any()


@pytest.mark.parametrize(
    ("spec", "keys", "problem"),
    [
        (chain_spec(), {"angstroms": 0.0}, "angstroms"),
        (Spec({"values": Field((None, 2), torch.float32, max_length=5)}), {"sequence": False}, "reads the field 'cont"),
        (
            Spec({"values": Field((None, 2), torch.float32, max_length=5)}),
            {"sequence": False, "contacts": False},
            "x, y, z",
        ),
    ],
)
def test_refusals(spec, keys, problem):
    with pytest.raises((ValueError, InvalidValue), match=problem):
        chain(spec, **keys)
