"""The largest batch that fits into the memory of a GPU."""

from functools import partial

import pytest
import torch

from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.run.tuning.batch_size import _train, fits, tune_batch_size
from mmtx.run.tuning.short_training import shortened

WORDS = ["experiment=vit_digits", "backbone.dim=512", "backbone.num_layers=8", "trainer.accelerator=cuda"]
ROOM_BYTES = 1.5 * 2**30

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def test_the_size_fits_and_a_larger_one_does_not():
    torch.cuda.set_per_process_memory_fraction(ROOM_BYTES / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = int(tune_batch_size(compose(WORDS)).partition("=")[2])
        experiment = assemble(shortened(compose(WORDS), 2, {}))
        assert 8 <= found < 8192 and fits(partial(_train, experiment), found)
        assert not fits(partial(_train, experiment), int(1.2 * found) + 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
