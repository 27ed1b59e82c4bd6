"""The real command line, in a process of its own.

A process starts in a moment, because it is forked from one that has already imported what every command imports; so do
the ranks and jobs that it starts itself.
"""

import atexit
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

TINY = ["backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2", "data/augment=none", "log_every_steps=1"]
COMMAND = str(Path(sys.executable).parent / "mmtx")
ENVIRONMENT = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(
    [
        "hydra.core.override_parser.overrides_parser",
        "lightning.pytorch",
        "matplotlib.pyplot",
        "sklearn.datasets",
        "sklearn.model_selection",
        "torch._dynamo",
        "wandb",
        "mmtx.cli",
        "mmtx.experiment",
        "mmtx.run.job",
        "mmtx.sweep.command",
        "mmtx.training.module",
    ]
)


def mmtx(*arguments, cwd, timeout=180, env=None, interpreter=False):
    """Runs ``mmtx`` in `cwd`, with W&B off unless `env` says otherwise. Gives the finished process.

    With `interpreter` it begins with a new interpreter, and so do its ranks and jobs: for what libraries read from the
    environment as they are imported.
    """
    known = {**os.environ, **ENVIRONMENT, **(env or {})}
    known = {key: value for key, value in known.items() if value is not None}
    command = [COMMAND, *map(str, arguments)]
    if interpreter:
        return subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        process = forked.Process(target=_run, args=(command, str(cwd), known, [str(stream) for stream in streams]))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, process.exitcode, *(stream.read_text() for stream in streams))


def text_of(done):
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def _run(command, cwd, environment, streams):
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    random.seed()  # not as all that are forked
    from kills import fork_children

    from mmtx.cli import main

    fork_children()
    try:
        sys.exit(main())
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
