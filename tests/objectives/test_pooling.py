"""From tokens to one vector."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import image, image_batch, merge, model, text, text_batch

from mmtx.errors import InvalidValue
from mmtx.objectives.pooling import FirstPool, LastPool, MeanPool, SummaryMeanPool, SummaryPool
from mmtx.objectives.probe_pool import ProbePool
from mmtx.tokens import HiddenStates, Span, pack


def test_mean_over_real_tokens_that_are_nobodys_readout() -> None:
    hidden = torch.randn(2, 5, 3)
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]])
    states = HiddenStates(hidden, valid, {"image": Span(0, 3, 1, 0), "text": Span(3, 5, 0, 0)})
    pooled = MeanPool()(states)
    torch.testing.assert_close(pooled[0], hidden[0, 1:].mean(0))
    torch.testing.assert_close(pooled[1], hidden[1, 1:3].mean(0))


def test_the_mean_of_nothing_is_zero() -> None:
    states = HiddenStates(torch.randn(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool), {"image": Span(0, 2, 0, 0)})
    assert not MeanPool()(states).any()


def test_summary_is_the_first_token_of_its_name() -> None:
    hidden = torch.randn(2, 6, 3)
    places = {"text": Span(0, 2, 0, 0), "image": Span(2, 6, 1, 1)}
    states = HiddenStates(hidden, torch.ones(1, 6, dtype=torch.bool), places)
    assert SummaryPool(name="image")(states).equal(hidden[:, 2])


def test_summary_beside_the_mean_of_the_real_tokens_of_its_name() -> None:
    hidden, valid = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    valid[1, 5] = False
    states = HiddenStates(hidden, valid, {"text": Span(0, 2, 0, 0), "image": Span(2, 6, 1, 1)})
    pool = SummaryMeanPool(name="image")
    pooled = pool(states)
    assert pool.width(3) == pooled.shape[1] == 6
    torch.testing.assert_close(pooled[0], torch.cat([hidden[0, 2], hidden[0, 4:].mean(0)]))
    torch.testing.assert_close(pooled[1], torch.cat([hidden[1, 2], hidden[1, 4]]))


def test_first_is_the_first_token_of_its_name_after_its_readouts() -> None:
    hidden = torch.randn(2, 6, 3)
    places = {"text": Span(0, 2, 0, 0), "image": Span(2, 6, 1, 1)}
    states = HiddenStates(hidden, torch.ones(1, 6, dtype=torch.bool), places)
    assert FirstPool(name="text")(states).equal(hidden[:, 0])
    assert FirstPool(name="image")(states).equal(hidden[:, 4])


def test_last_is_the_last_real_token_of_its_name() -> None:
    hidden, valid = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    valid[1, 3:] = False
    states = HiddenStates(hidden, valid, {"image": Span(0, 1, 1, 0), "text": Span(1, 6, 0, 0)})
    assert LastPool(name="text")(states).equal(torch.stack([hidden[0, 5], hidden[1, 2]]))


def test_pooling_does_not_see_how_rows_are_packed() -> None:
    """Also where the picture that is summed up is absent."""
    whole = model({"image": image(summary=True, num_registers=1), "text": text()})
    batch = merge(image_batch([1, 0, 1]), text_batch([3, 4, 0]))
    token_set = whole.tokenize(batch)
    packed = pack(replace(token_set, lengths=(9, 4, 6)))
    for pool in (MeanPool(), SummaryPool(name="image")):
        expected = pool(whole.run(token_set))
        torch.testing.assert_close(pool(whole.run(packed)), expected, atol=1e-5, rtol=1e-5)
        assert expected.abs().sum(1).gt(0).tolist() == [True, isinstance(pool, MeanPool), True]


def test_a_probe_attends_to_the_real_tokens() -> None:
    """As torch's own attention; of nothing, it is finite."""
    keys = {"num_heads": 2, "activation": torch.nn.GELU(), "expansion": 2.0, "eps": 1e-5}
    pool, theirs = ProbePool(name="image", dim=6, **keys), torch.nn.MultiheadAttention(6, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": pool.qkv.weight,
            "in_proj_bias": pool.qkv.bias,
            "out_proj.weight": pool.out.weight,
            "out_proj.bias": pool.out.bias,
        }
    )
    hidden, valid = torch.randn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    valid[1, 3:], valid[2] = False, False
    pooled = pool(HiddenStates(hidden, valid, {"image": Span(0, 5, 0, 0)}))
    read = theirs(pool.probe.expand(2, 1, -1), hidden[:2], hidden[:2], key_padding_mask=~valid[:2])[0]
    torch.testing.assert_close(pooled[:2], (read + pool.mlp(pool.norm(read)))[:, 0])
    assert pooled.isfinite().all()
    with pytest.raises(InvalidValue, match="pool.dim=6 is not the width of the stack"):
        pool.check(model({"image": image()}))
    with pytest.raises(InvalidValue, match="pool.dim=6 is not a multiple of pool.num_heads=4"):
        ProbePool(name="image", dim=6, **{**keys, "num_heads": 4})
