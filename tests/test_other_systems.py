"""Every module can be imported where the system is not Linux. Nothing is run there: what is promised is in
docs/install.md.

What other packages do there is their own matter, so they are imported before anything is hidden.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmtx

WINDOWS = {
    "modules": ["fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"],
    "os": [
        *("EX_OK", "O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "WNOHANG", "chown", "fchmod", "fchown", "fork", "forkpty"),
        *("geteuid", "getgid", "getloadavg", "getpgid", "getpgrp", "getsid", "getuid", "killpg", "mkfifo", "nice"),
        *("posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "pwrite", "register_at_fork"),
        *("sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile", "setpgid", "setsid", "statvfs", "sync"),
        *("sysconf", "uname", "wait"),
    ],
    "signal": [
        *("SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT", "SIGSTOP"),
        *("SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pthread_kill", "pthread_sigmask", "setitimer"),
        *("sigpending", "sigwait"),
    ],
}
"""What Python's documentation has as of Unix alone."""
MACOS = {
    "modules": ["spwd"],
    "os": ["O_TMPFILE", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "memfd_create"],
    "signal": ["SIGCLD", "SIGPOLL", "SIGPWR", "SIGRTMAX", "SIGRTMIN", "SIGSTKFLT", "sigtimedwait", "sigwaitinfo"],
}
"""What it has as of Linux, and not of macOS."""

PROGRAM = """
import importlib, os, pkgutil, signal, sys

hidden = set()


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(name, name=name)


def import_all():
    import mmtx
    names = [module.name for module in pkgutil.walk_packages(mmtx.__path__, "mmtx.")]
    for name in names:
        importlib.import_module(name)
    return names


def hide(modules, names):
    hidden.update(modules)
    for name in [name for name in sys.modules if name in hidden or name.partition(".")[0] == "mmtx"]:
        del sys.modules[name]
    for module, of in names.items():
        for name in of:
            vars(sys.modules[module]).pop(name, None)


import_all()
sys.meta_path.insert(0, Hidden())
for sys.platform, system in {systems!r}.items():
    hide(system.pop("modules"), system)
    print(sys.platform, len(import_all()))
"""


@pytest.mark.slow
def test_every_module_can_be_imported():
    """On macOS, and then, with more that is missing, on Windows."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mmtx.__file__).parents[1])}
    program = PROGRAM.replace("{systems!r}", repr({"darwin": MACOS, "win32": WINDOWS}))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    imported = dict(line.split() for line in done.stdout.splitlines())
    assert imported.keys() == {"darwin", "win32"} and min(map(int, imported.values())) > 300
