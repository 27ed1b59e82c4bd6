"""Where Lightning's loop is."""

import lightning.pytorch as pl


def place_loop(trainer: pl.Trainer, step: int) -> None:
    """Has the loop stand between two steps, `step` of which are done. Lightning's own restart replays what it thinks
    was half done; ours never is."""
    loop = trainer.fit_loop.epoch_loop
    steps, batches = loop.manual_optimization.optim_step_progress, loop.batch_progress
    loop._batches_that_stepped = step  # the step that Lightning's callbacks log
    for count in (steps.total, batches.total):
        for name in vars(count):  # ready, started, processed, completed
            setattr(count, name, step)
