"""Runs and kills mmtx, case after case, each in a process forked from one that has imported everything and computed
nothing. What is compiled is traced, and computed operation by operation.

A case: ``words`` of ``mmtx``, and perhaps ``at`` (a name of `POINTS`), ``nth`` (which time it is reached), ``do``
(what then happens), ``rank`` (to whom), and ``at_most`` (how often the point may still be reached after that, or the
process ends with `TOO_LATE`).
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import sys
import time
import types

import lightning.pytorch  # noqa: F401  before the first fork, so that it is imported once
import torch
from torch.distributed.tensor import DTensor

import mmtx.commands.main
import mmtx.decoding.history
import mmtx.experiment
import mmtx.nn.compilation
from mmtx.data import loaders as data_module
from mmtx.data.episodes import rollouts
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.process import child_processes
from mmtx.process.stopping import SIGNALS
from mmtx.process.streams import outlast_readers
from mmtx.run import checkpoint_file, checkpoint_schedule, checkpoint_shards, job, worker
from mmtx.run.checkpoint_file import _Hashed
from mmtx.run.checkpoint_schedule import Checkpoints
from mmtx.run.directory import RunDirectory
from mmtx.training.lightning_module import MultimodalModule
from mmtx.training.samples import callback as samples

TOO_LATE = 99

POINTS = {
    "step.start": (MultimodalModule, "training_step"),
    "step.after_backward": (MultimodalModule, "_judged"),
    "step.before_update": (MultimodalModule, "_update"),
    "val.step": (MultimodalModule, "validation_step"),
    "test.step": (MultimodalModule, "test_step"),
    "ckpt.begin": (checkpoint_schedule, "capture"),
    "shards.begin": (checkpoint_schedule, "write_shards"),
    "shards.written": (checkpoint_shards, "hash_of"),
    "ckpt.open": (checkpoint_file.torch, "save"),
    "ckpt.half": (_Hashed, "_take"),
    "ckpt.synced": (checkpoint_file, "_put_in_place"),
    "ckpt.renamed": (checkpoint_file, "sync_directory"),
    "ckpt.before_link": (checkpoint_file, "link"),
    "ckpt.before_prune": (Checkpoints, "_prune"),
    "data.batch": (data_module._Fetch, "_batch"),
    "data.sample": (data_module._Fetch, "_sample"),
    "data.episode": (rollouts._Generator, "_episode"),
    "act.step": (mmtx.decoding.history.History, "observe"),
    "write.token": (TextDecoder, "append"),
    "draw": (samples, "show_examples"),
    "start.assemble": (mmtx.experiment, "assemble"),
    "start.train": (job, "fit"),
    "start.fit": (lightning.pytorch.Trainer, "fit"),
    "status": (RunDirectory, "set_status"),
    "end.acting": (MultimodalModule, "test_by_acting"),
    "ranks.start": (child_processes.ChildProcesses, "start"),
    "ranks.wait": (child_processes.ChildProcesses, "wait"),
}


def no_space(*_):
    raise OSError(28, "No space left on device")


def term_all():
    """The run and all of its ranks, each of which leads a session of its own."""
    if "RANK" in os.environ:
        os.killpg(os.getpgid(os.getppid()), signal.SIGTERM)
    os.killpg(0, signal.SIGTERM)


def term_twice(pid=None):
    """And the second comes while the first is not obeyed yet."""
    os.kill(pid or os.getpid(), signal.SIGTERM)
    time.sleep(1.2)
    os.kill(pid or os.getpid(), signal.SIGTERM)
    time.sleep(10)


def term_rank_1():
    """From rank 0, for which rank 1 waits."""
    with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children", encoding="utf-8") as file:
        (other,) = {int(rank) for rank in file.read().split()} - {os.getpid()}
    os.kill(other, signal.SIGTERM)
    time.sleep(1)


def close_output():
    """As if whoever reads what is printed had gone: pipes without a reader."""
    for descriptor in (1, 2):
        read, write = os.pipe()
        os.dup2(write, descriptor)
        os.close(write)
        os.close(read)


def overflow(module):
    """In the gradients of this rank, which are its shards."""
    with torch.no_grad():
        for parameter in module.learner.parameters():
            if parameter.grad is not None:
                local = parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
                local.fill_(float("inf"))


DEEDS = {
    "kill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda *_: os.kill(os.getpid(), signal.SIGTERM),
    "term_all": lambda *_: term_all(),
    "interrupt": lambda *_: os.kill(os.getpid(), signal.SIGINT),
    "requeue": lambda *_: os.kill(os.getpid(), signal.SIGUSR1),
    "hang_up": lambda *_: os.kill(os.getpid(), signal.SIGHUP),
    "term_twice": lambda *_: term_twice(),
    "close_output": lambda *_: close_output(),
    "kill_parent": lambda *_: os.kill(os.getppid(), signal.SIGKILL),  # of a rank
    "term_parent_twice": lambda *_: term_twice(os.getppid()),
    "term_rank_1": lambda *_: term_rank_1(),
    "no_space": no_space,
    "hang": lambda *_: time.sleep(1000),
    "out_of_memory": lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
    "wait": lambda *_: time.sleep(1.5),
    "overflow": lambda module, *_: overflow(module),
    "nan": lambda module, losses, *_: losses.fill_(float("nan")),
}


def arm(at, nth=1, do="kill", rank=0, times=1, at_most=None):
    """Has something happen when a point is reached for the nth time, and `times` more times."""
    owner, name = POINTS[at]
    original, count = getattr(owner, name), 0

    def armed(*arguments, **keywords):
        nonlocal count
        count += 1
        if nth <= count < nth + times and os.environ.get("RANK", "0") == str(rank):
            DEEDS[do](*arguments)
        if at_most is not None and count > nth + at_most and os.environ.get("RANK", "0") == str(rank):
            os._exit(TOO_LATE)
        return original(*arguments, **keywords)

    setattr(owner, name, armed)


class Forked:
    """Stands in for the `Popen` of a rank or a job: a fork of this process, which is armed as it is."""

    def __init__(self, command, *, env, pass_fds, stdout=None, **_):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # as Popen does: none reaches the fork before it is set up
        self.pid = os.fork()
        if self.pid == 0:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self.pid == 0:
            os.setsid()
            for descriptor in (1, 2) if stdout is not None else ():
                os.dup2(stdout.fileno(), descriptor)
            for descriptor in range(3, 1024):
                with contextlib.suppress(OSError):
                    if descriptor not in pass_fds and not os.get_inheritable(descriptor):
                        os.close(descriptor)  # as a new program would: the pipe's other end is the parent's alone
            os.environ.clear()
            os.environ.update(env)
            sys.argv = command[command.index("-m") + 1 :]
            leave(worker.main)

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def fork_children():
    """From now on ranks, jobs and workers are forks of the process that starts them: there in a moment.

    OMP_NUM_THREADS was 1 when torch was imported: a fork of a process whose OpenMP has threads would hang.
    """
    child_processes.subprocess = types.SimpleNamespace(Popen=Forked, DEVNULL=None, STDOUT=None)
    multiprocessing.set_start_method("fork", force=True)  # as a new process has it; the server sets its own


def leave(call):
    """Ends this process with the exit code that a call gives, as a process of its own would end."""
    code = 1
    try:
        code = call()
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # nobody reads what is printed
            sys.stdout.flush()
            sys.stderr.flush()
        for child in __import__("multiprocessing").active_children():
            child.terminate()
        os._exit(code if isinstance(code, int) else 1)


def run(words, cwd, **point):
    """What became of ``mmtx words``: its exit code, seconds, and what it printed."""
    begin, log = time.monotonic(), os.path.join(cwd, "out.txt")
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.chdir(cwd)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        fork_children()
        if point:
            arm(**point)
        outlast_readers()  # as the command does in a process of its own
        leave(lambda: mmtx.commands.main.main(words))
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # nobody is left; tests check it where it matters
    if point.get("do") == "kill_parent":
        wait_for_ranks(cwd, words[-1].removeprefix("run_dir="))
    with open(log, encoding="utf-8") as file:
        output = file.read()
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begin, "output": output}


def wait_for_ranks(cwd, run_dir):
    """Until those whose parent was killed have recorded their end, and let go of the run."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with open(os.path.join(cwd, run_dir, "status.json"), encoding="utf-8") as file:
            if json.load(file)["state"] != "running":
                break
        time.sleep(0.05)
    with open(os.path.join(cwd, run_dir, ".lock"), encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def run_all(cases, environment, results):
    """Runs cases one after the other, in an environment, and sends a list of what became of them."""
    os.environ.clear()
    os.environ.update(environment)
    mmtx.nn.compilation.BACKEND = "eager"  # traced, and run as without: it would take a compiler's minutes
    results.send([run(**case) for case in cases])
