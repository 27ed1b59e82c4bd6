"""Frames of three points and of a trace, and what they do to points."""

import numpy
import torch
from scipy.spatial.transform import Rotation
from test_superposition import chains

from mmtx.structure.frames import Frames, random_rotations, rotation_of


def test_a_frame_by_hand():
    points = [torch.tensor(p).double() for p in ([1.0, 3, 0], [1.0, 1, 0], [5.0, 1, 0])]
    frames = Frames.from_points(*points)
    torch.testing.assert_close(frames.rotation, torch.eye(3).double())
    assert frames.to_local(points[2]).tolist() == [4, 0, 0] and frames.to_local(points[0]).tolist() == [0, 2, 0]


def test_local_points_do_not_change_when_everything_moves():
    trace, real = chains(8, 5)
    turn = random_rotations(1, torch.Generator().manual_seed(0)).double()
    frames, framed = Frames.from_trace(trace, real)
    moved, _ = Frames.from_trace(trace @ turn.mT + 7, real)
    seen = frames.spread(1).to_local(trace[:, None])
    after = moved.spread(1).to_local((trace @ turn.mT + 7)[:, None])
    torch.testing.assert_close(after[framed], seen[framed], atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.spread(1).to_global(seen)[framed], trace[:, None].expand_as(seen)[framed])


def test_who_has_a_frame():
    trace, real = chains(6, 3, 2)
    trace[0, 2] = (trace[0, 1] + trace[0, 3]) / 2  # on a line
    _, framed = Frames.from_trace(trace, real)
    assert framed.int().tolist() == [[0, 1, 0, 1, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    for count in (1, 2):
        frames, framed = Frames.from_trace(trace[:, :count], real[:, :count])
        assert not framed.any() and frames.rotation.shape == (3, count, 3, 3)


def test_quaternions_as_scipy():
    numbers = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    expected = Rotation.from_quat(numpy.roll(numbers.numpy(), -1, axis=1)).as_matrix()  # which has a last
    torch.testing.assert_close(rotation_of(numbers), torch.tensor(expected))


def test_a_step_is_taken_in_the_axes_of_the_frame():
    turn = random_rotations(3, torch.Generator().manual_seed(0)).double()
    frames = Frames(turn, torch.ones(3, 3).double())
    update = torch.tensor([[0.0, 0, 1, 2, 0, 0]]).double().expand(3, 6)  # a quarter turn about the third axis
    moved = frames.moved(update)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    torch.testing.assert_close(moved.rotation, turn @ quarter)
    torch.testing.assert_close(moved.origin, 1 + 2 * turn[..., 0])
