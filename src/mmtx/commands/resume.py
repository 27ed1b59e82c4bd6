"""``mmtx resume``."""

from pathlib import Path

from mmtx.commands.arguments import Paths, parse
from mmtx.commands.printed import print_results

HELP = """\
usage: mmtx resume DIR [key=value ...]

Continues a run from its newest valid checkpoint, with nothing but its directory: every later step is what it would
have been. Only how it runs may be changed: trainer.devices=2 loader.num_workers=4 checkpoint.every_minutes=5
A sweep: jobs that are finished stay, half-done ones continue, failed ones run again, each from its frozen config;
hydra.launcher.key=value and hydra.sweeper.n_trials=N may be changed.
"""

PATHS = Paths(1, 1, "name the directory of one run or sweep, and then key=value")


def run(arguments: list[str]) -> int:
    (path,), _, overrides = parse(arguments, PATHS, ())
    if (Path(path) / "sweep.json").is_file():
        from mmtx.sweep.run_sweep import resume_sweep

        return resume_sweep(path, overrides)
    from mmtx.run.directory import RunDirectory
    from mmtx.run.resume import resume

    directory = RunDirectory(path)
    if directory.config.is_file():
        print(f"run directory: {directory.path}", flush=True)
    code = resume(Path(path), overrides)
    if code == 0:
        print_results(directory)
    print(f"run directory: {directory.path}", flush=True)
    return code
