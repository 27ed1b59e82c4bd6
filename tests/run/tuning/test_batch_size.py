"""The largest batch that fits, of a memory that is made up."""

from functools import partial

import pytest
import torch
from run_cli import TINY

from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.run.tuning.batch_size import _train, fits, largest
from mmtx.run.tuning.short_training import shortened

WORDS = ["experiment=spell_digits", *TINY]


@pytest.mark.parametrize("highest", [1, 5, 64, 100])
@pytest.mark.parametrize("room", [0, 1, 2, 3, 5, 37, 63, 64, 99, 1000])
def test_the_largest_of_a_memory(room, highest, capsys, monkeypatch):
    monkeypatch.setattr("gc.collect", lambda: 0)
    tried = []

    def train(size):
        tried.append(size)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest(partial(fits, train), highest) == min(room, highest)
    assert len(tried) == len(set(tried)) <= 15 and all(1 <= size <= highest for size in tried)
    assert capsys.readouterr().out.count("\n") == len(tried)


def test_another_error_is_none_of_memory():
    with pytest.raises(RuntimeError, match="sizes"):
        fits(lambda size: (_ for _ in ()).throw(RuntimeError("sizes differ")), 3)


def test_an_attempt_trains_with_samples_as_long_as_they_may_be(monkeypatch):
    experiment = assemble(shortened(compose([*WORDS, "trainer.accelerator=cpu"]), 2, {}))
    seen, forward = [], type(experiment.learner).forward
    monkeypatch.setattr(
        type(experiment.learner), "forward", lambda self, b, *a: (seen.append(b), forward(self, b, *a))[1]
    )
    before = {name: value.clone() for name, value in experiment.learner.state_dict().items()}
    _train(experiment, 3)
    assert len(seen) == 2 and any(not value.equal(before[n]) for n, value in experiment.learner.state_dict().items())
