"""Losses that are not finite, and losses that jump."""

import pytest
import torch

from mmtx.batch import Batch
from mmtx.training.nonfinite import NotFinite, Watch, keep_batches


def test_the_first_bad_step_ends_a_run_that_skips_none():
    with pytest.raises(NotFinite, match="not finite at step 3: loss nan; .*trainer.nonfinite=skip"):
        Watch(max_skips=0).bad("loss nan", 3)


def test_bad_steps_are_skipped_up_to_a_limit_in_a_row():
    watch = Watch(max_skips=2)
    for step in (1, 2):
        watch.bad("loss nan", step)
    watch.good(1.0, 3)
    watch.bad("loss nan", 4)
    again = Watch(max_skips=2)
    again.load_state_dict(watch.state_dict())
    again.bad("loss nan", 5)
    with pytest.raises(NotFinite, match="2 steps before it were skipped"):
        again.bad("loss nan", 6)
    assert again.skipped == 4


def test_a_warning_follows_a_jump_of_the_loss():
    watch = Watch(max_skips=0)
    assert not any(watch.good(1.0 + 0.1 * (step % 2), step) for step in range(40)) and watch.counts() == {}
    again = Watch(max_skips=0)
    again.load_state_dict(watch.state_dict())
    assert "step 41: the loss jumped to 9" in again.good(9.0, 41)
    assert again.counts() == {"train/loss_spikes": 1.0}


def test_a_jump_is_six_standard_deviations_of_the_last_128():
    """Losses of 1.0 and 1.1 in turn have the mean 1.05 and the standard deviation 0.05."""
    for before, loss, is_warned in ((0, 1.34, False), (0, 1.36, True), (1, 1.36, False)):
        watch = Watch(max_skips=0)
        for step in range(50):
            watch.good(50.0, step)
        for step in range(128 - before):
            watch.good(1.0 + 0.1 * (step % 2), step)
        assert (watch.good(loss, 200) is not None) is is_warned


def batch(*ids):
    return Batch(
        {"x": {"v": torch.ones(len(ids))}}, {"x": torch.ones(len(ids), dtype=torch.long)}, {}, torch.tensor(ids)
    )


def test_the_bad_batch_is_kept_and_its_samples_are_named(tmp_path):
    file = tmp_path / "not_finite" / "step1.pt"
    assert keep_batches([batch(3, 4), batch(7, -1)], [1.0, float("nan")], file) == [7]
    assert len(torch.load(file, weights_only=True)) == 1
    assert keep_batches([batch(3, 4), batch(7, -1)], [1.0, 2.0], file) == [3, 4, 7]  # only the gradient is bad
