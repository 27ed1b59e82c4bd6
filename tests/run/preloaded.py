"""What every command imports, with Hydra set up and the usual files read: commands of tests are forked from a process
that has imported this. It must not start a thread."""

import gc
import importlib

import packaged_files

for name in (
    *("lightning.pytorch", "matplotlib.pyplot", "sklearn.datasets", "sklearn.model_selection", "torch._dynamo"),
    *("torch.distributed", "wandb", "mmtx.commands.main", "mmtx.experiment", "mmtx.run.job", "mmtx.sweep.run_sweep"),
    *("mmtx.training.lightning_module", "kills"),
):
    importlib.import_module(name)

from mmtx.config.compose import compose  # noqa: E402

FILES = packaged_files.read_once()
FILES.__enter__()
compose(["data=digits"])
gc.freeze()  # what is here stays: to look through it again would copy its memory into every fork
