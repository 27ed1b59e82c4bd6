"""A learned bias of pairs: by hand, through the whole set, and where it is refused."""

import pytest
import torch
from builders import POSITIONS, attention, backbone, chain, chain_spec, layer_context, model, text

from mmtx.batch import fake_batch
from mmtx.copies import Copy
from mmtx.errors import InvalidValue
from mmtx.kept import keep


def made(**keys):
    torch.manual_seed(0)
    return attention(pair_bias=True, bias=[], **keys)(12, 3).double()


def test_by_hand():
    module, x = made(), torch.randn(2, 5, 12, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    pairs = torch.rand(2, 5, 5, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in module.qkv(x).chunk(3, dim=-1))
    scores = q @ k.mT / 2
    for head, slope in enumerate(module.pair_slopes.tolist()):
        assert slope == 2 * head
        scores[:, head] += slope * pairs
    expected = module.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x, layer_context(pairs=pairs)), expected)


def test_without_pairs_it_is_attention_and_slopes_stay_in_the_graph():
    module, x = made(), torch.randn(2, 5, 12, dtype=torch.double)
    plain = attention(bias=[])(12, 3).double()
    plain.load_state_dict({key: value for key, value in module.state_dict().items() if key != "pair_slopes"})
    out = module(x, layer_context())
    torch.testing.assert_close(out, plain(x, layer_context()))
    out.sum().backward()
    assert module.pair_slopes.grad is not None


def folding(**keys):
    keys = {"attention": attention(pair_bias=True), "positions": POSITIONS["rotary"], **keys}
    return model({"chain": chain()}, backbone(**keys))


def test_contacts_change_what_is_attended_to():
    whole, batch = folding(), fake_batch({"chain": chain_spec()}, 3)
    contacts = batch["chain"]["contacts"]
    before = whole(batch).tokens("chain")
    assert (whole(batch.with_values("chain", contacts=contacts.flip(0))).tokens("chain") - before).abs().max() > 1e-3
    filled = contacts.clone()
    for sample, length in enumerate(batch.lengths["chain"].tolist()):
        filled[sample, length:] = filled[sample, :, length:] = 9
    torch.testing.assert_close(whole(batch.with_values("chain", contacts=filled)).tokens("chain"), before)


def test_a_token_in_front_and_tokens_that_are_left_out():
    """Pairs stay with their tokens."""
    whole, batch = folding(), fake_batch({"chain": chain_spec()}, 2, ragged=False)
    contacts = batch["chain"]["contacts"]
    scratch = whole.tokenize(batch, copies={"chain": Copy("chain", in_front=torch.zeros(2, 2, 24))}).pairs
    assert scratch[:, 2:, 2:].equal(contacts) and not scratch[:, :2].any() and not scratch[:, :, :2].any()
    masked = torch.zeros(2, 7, dtype=torch.bool)
    masked[0, [1, 4]] = masked[1, [0, 2]] = True
    kept = keep(whole.tokenize(batch), {"chain": masked}, {"chain": 5}).token_set.pairs
    for sample, stay in enumerate(([0, 2, 3, 5, 6], [1, 3, 4, 5, 6])):
        assert kept[sample].equal(contacts[sample][stay][:, stay])


def test_where_it_is_refused():
    with pytest.raises(InvalidValue, match="no name of the set has any"):
        model({"text": text()}, backbone(attention=attention(pair_bias=True)))
    with pytest.raises(InvalidValue, match="no name of the set has any"):
        model({"chain": chain(contacts=False)}, backbone(attention=attention(pair_bias=True)))
    with pytest.raises(InvalidValue, match="window=3 is not for attention"):
        folding(window=3, layers="L")
    with pytest.raises(InvalidValue, match="pair_bias"):
        backbone(cross_attention=True, attention=attention(pair_bias=True))
    with pytest.raises(InvalidValue, match="packing"):
        folding().backbone.check_packing("cpu")
    assert folding().backbone.new_cache(8) is None
