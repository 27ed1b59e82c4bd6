"""Why a run failed, as a user can read it."""

import torch

from mmtx.errors import ProcessDied, UserError
from mmtx.experiment import Experiment
from mmtx.process.launch import MAKES_RANKS, launch
from mmtx.process.peak_memory import peak_memory


def explained(error: RuntimeError, experiment: Experiment) -> Exception:
    """The error as a user can read it, if its cause is memory that is exhausted, a worker that died or hangs, or a rank
    that has gone or never came."""
    if str(error).startswith("DataLoader "):
        line, current = str(error).splitlines()[0], experiment.data.current
        samples = current.samples(line) if current is not None else []
        where = f"it was on sample {' and '.join(map(str, samples))}; " if samples else ""
        hint = "look at what reads the data, and at memory; loader.num_workers=0 shows the error itself"
        return ProcessDied(f"{line} (trainer.data_timeout_s bounds the wait); {where}{hint}")
    if "by peer" in str(error):
        return ProcessDied("another rank has ended")
    here = launch()
    if here.by is not None and isinstance(error, torch.distributed.DistStoreError | torch.distributed.DistNetworkError):
        problem = f"{here.num_ranks} ranks of {here.by} have not met at {here.address}:{here.port}"
        hint = f"start all of them or, if nothing has started ranks, unset {MAKES_RANKS[here.by]}"
        return ProcessDied(f"{problem} ({str(error).splitlines()[0]}); {hint}")
    if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
        return error
    return _out_of_memory(experiment)


def _out_of_memory(experiment: Experiment) -> UserError:
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory()
    model, size = experiment.learner.model, experiment.data.batch_size
    tokens = size * sum(model.tokenizer(name).max_tokens for name in model.names)
    return UserError(
        f"out of memory: {peak / 2**30:.1f} GiB at the peak, with up to {tokens:,} tokens in a batch; lower "
        f"loader.batch_size={size} (and raise trainer.accumulate_grad_batches to learn the same), the context, or "
        f"backbone.dim; trainer.precision=bf16-mixed halves activations"
    )
