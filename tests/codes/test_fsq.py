"""Finite scalar quantisation, against brute force and vector-quantize-pytorch."""

import itertools

import pytest
import torch

from mmtx.codes.fsq import FSQ
from mmtx.errors import InvalidValue

LEVELS = [(8, 6, 5), (3,), (3, 4, 5, 7)]


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_are_all_combinations_of_levels(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels=levels)
    values = [[(i - n // 2) / (n // 2) for i in range(n)] for n in reversed(levels)]
    grid = torch.tensor([combination[::-1] for combination in itertools.product(*values)])
    assert fsq.num_codes == len(grid)
    torch.testing.assert_close(fsq.vectors_of(torch.arange(len(grid))), grid)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_and_found_again(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels=levels)
    found = fsq(torch.linspace(-9, 9, 181).repeat(4, 1)[: fsq.dim].T)
    assert found.vectors.min() == -1 and len(found.vectors[:, 0].unique()) == levels[0]
    torch.testing.assert_close(fsq.vectors_of(found.ids), found.vectors)
    assert not found.commitment.any()


@pytest.mark.parametrize("levels", LEVELS)
def test_equal_to_vector_quantize_pytorch(levels: tuple[int, ...]) -> None:
    peer_module = pytest.importorskip("vector_quantize_pytorch", reason="needs vector-quantize-pytorch (extra dev)")
    fsq, peer = FSQ(levels=levels), peer_module.FSQ(list(levels))
    own = torch.randn(3, 50, fsq.dim, generator=torch.Generator().manual_seed(0)).mul_(2).requires_grad_()
    theirs = own.detach().clone().requires_grad_()
    found, (vectors, ids) = fsq(own), peer(theirs)
    torch.testing.assert_close(found.vectors, vectors)
    assert found.ids.equal(ids.long())
    weight = torch.randn(vectors.shape)
    (found.vectors * weight).sum().backward()
    (vectors * weight).sum().backward()
    torch.testing.assert_close(own.grad, theirs.grad)


@pytest.mark.parametrize("levels", [[], [2, 3]])
def test_levels_that_cannot_be_are_refused(levels: list[int]) -> None:
    with pytest.raises(InvalidValue, match="levels"):
        FSQ(levels=levels)
