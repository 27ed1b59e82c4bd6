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
from unittest import mock

TINY = ["backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2", "data/augment=none", "log_every_steps=1"]
COMMAND = str(Path(sys.executable).parent / "mmtx")
ENVIRONMENT = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["preloaded"])
HERE = Path(__file__).parent
PATH = os.pathsep.join(filter(None, [str(HERE), str(HERE / "run"), os.environ.get("PYTHONPATH")]))
"""Of the server alone, so that it finds what it imports first."""


def mmtx(*arguments, cwd, timeout=180, env=None, interpreter=False):
    """Runs ``mmtx`` in `cwd`, with W&B off unless `env` says otherwise. Gives the finished process.

    With `interpreter` it begins with a new interpreter, and so do its ranks and jobs: for what libraries read from the
    environment as they are imported.
    """
    if interpreter:
        command, known = [COMMAND, *map(str, arguments)], _environment(env)
        return subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(*arguments, cwd=cwd, env=env, streams=streams)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["mmtx", *arguments], timeout)
        return subprocess.CompletedProcess(arguments, process.exitcode, *(stream.read_text() for stream in streams))


def start(*arguments, cwd, env=None, streams=(os.devnull, os.devnull)):
    """Starts ``mmtx`` in the same way, with files for its output and its errors. Gives the process."""
    command = [COMMAND, *map(str, arguments)]
    return fork(_run, command, str(cwd), _environment(env), [str(each) for each in streams])


def fork(function, *arguments):
    """A process that calls a function. The server, which the first call starts, must not have more threads than one."""
    process = _forkserver.Process(target=function, args=arguments)
    with mock.patch.dict(os.environ, {**ENVIRONMENT, "PYTHONPATH": PATH}):
        process.start()
    return process


def _environment(changes):
    known = {**os.environ, **ENVIRONMENT, **(changes or {})}
    return {key: value for key, value in known.items() if value is not None}


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
    from wandb.sdk.data_types._private import MEDIA_TMP

    from mmtx.commands.main import main

    fork_children()
    os.makedirs(MEDIA_TMP.name, exist_ok=True)  # made when W&B is imported, and removed as each process ends
    try:
        sys.exit(main())
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
