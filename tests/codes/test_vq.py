"""Vector quantisation, against brute force and vector-quantize-pytorch."""

import pytest
import torch
from torch import Tensor

from mmtx.codes.vq import VQ
from mmtx.errors import InvalidValue

COUNTS = torch.zeros(())
"""A step that counts leaves nothing out."""


def made(**changed: object) -> VQ:
    torch.manual_seed(0)
    return VQ(**{"dim": 3, "num_codes": 8, "decay": 0.9, "commitment": 0.25, "dead_below": 0.0, **changed})


def step(vq: VQ, *parts: Tensor, left_out: Tensor = COUNTS) -> None:
    """A step of training, over micro-batches."""
    sums = [vq.sums(part, (ids := vq(part).ids), torch.ones_like(ids, dtype=torch.bool)) for part in parts]
    vq.follow({key: torch.stack([each[key].double() for each in sums]).sum(0) for key in vq.follows}, left_out)


def test_the_nearest_code_is_taken() -> None:
    vq, x = made(), torch.randn(5, 4, 3)
    distances = [[[float((v - code).norm()) for code in vq.codebook] for v in row] for row in x]
    nearest = torch.tensor([[min(range(8), key=own.__getitem__) for own in row] for row in distances])
    found = vq(x)
    assert found.ids.equal(nearest)
    torch.testing.assert_close(found.vectors, vq.codebook[nearest])
    assert vq.vectors_of(found.ids).equal(vq.codebook[nearest])


def test_gradients_pass_straight_through() -> None:
    vq, x, weight = made(), torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    (vq(x).vectors * weight).sum().backward()
    assert x.grad is not None and x.grad.equal(weight)


def test_equal_to_vector_quantize_pytorch() -> None:
    """Codes, commitment with its gradient, and the codebook over ten steps."""
    peer_module = pytest.importorskip("vector_quantize_pytorch", reason="needs vector-quantize-pytorch (extra dev)")
    vq = made()
    peer = peer_module.VectorQuantize(
        dim=3, codebook_size=8, decay=0.9, commitment_weight=0.25, rotation_trick=False, kmeans_init=False
    )
    with torch.no_grad():
        vq.codebook.copy_(peer._codebook.embed[0])
        vq.count.copy_(peer._codebook.cluster_size[0])
        vq.total.copy_(peer._codebook.embed_avg[0])
    for _ in range(10):
        own = torch.randn(2, 20, 3, requires_grad=True)
        theirs = own.detach().clone().requires_grad_()
        found = vq(own)
        vectors, ids, loss = peer(theirs)
        assert found.ids.equal(ids)
        torch.testing.assert_close(found.vectors, vectors)
        torch.testing.assert_close(found.commitment.mean(), loss.squeeze())
        (found.vectors.sum() + found.commitment.mean()).backward()
        (vectors.sum() + loss.sum()).backward()
        torch.testing.assert_close(own.grad, theirs.grad)
        step(vq, own.detach()[:1], own.detach()[1:])
        torch.testing.assert_close(vq.codebook.data, peer._codebook.embed[0])


def test_a_step_that_does_not_count_changes_nothing() -> None:
    vq = made(dead_below=1.0)
    before = {key: value.clone() for key, value in vq.state_dict().items()}
    step(vq, torch.randn(50, 3), left_out=torch.ones(()))
    assert all(value.equal(before[key]) for key, value in vq.state_dict().items())


def test_dead_codes_are_put_where_the_error_is() -> None:
    """Data far from all codes but one: without replacement one code stands for all of them, with it all are used."""
    centres = 5 + torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) * 2
    used = {}
    for dead_below in (0.0, 0.5):
        vq, generator = made(dead_below=dead_below, decay=0.8), torch.Generator().manual_seed(1)
        for _ in range(100):
            which = torch.randint(8, (200,), generator=generator)
            step(vq, centres[which] + 0.05 * torch.randn(200, 3, generator=generator))
        found = vq(centres)
        used[dead_below] = len(found.ids.unique()), float((found.vectors - centres).norm(dim=1).max())
    assert used[0.0][0] < 4 and used[0.5] == (8, pytest.approx(0.0, abs=0.1))


def test_padding_is_not_counted() -> None:
    vq, x = made(), torch.randn(4, 3)
    real = torch.tensor([True, False, True, False])
    own, alone = vq.sums(x, vq(x).ids, real), vq.sums(x[real], vq(x[real]).ids, torch.ones(2, dtype=torch.bool))
    assert all(own[key].equal(alone[key]) for key in vq.follows)


@pytest.mark.parametrize(
    ("key", "value"), [("dim", 0), ("num_codes", 1), ("decay", 1.0), ("commitment", -1.0), ("dead_below", -0.1)]
)
def test_what_cannot_be_is_refused(key: str, value: float) -> None:
    with pytest.raises(InvalidValue, match=f"{key}={value}"):
        made(**{key: value})
