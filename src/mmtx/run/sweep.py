"""A sweep: every combination, one fresh process each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mmtx.compose import expand_sweep, read_or_compose
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment import assemble
from mmtx.run.directory import fresh_directory


def run_sweep(config_file: str | None, overrides: list[str], run_dir: str | None) -> int:
    """Composes and checks every job first; then runs one after the other, each in a folder named by its overrides.

    Returns:
        0, or 1 if any job failed. A job that fails does not stop the others.

    Raises:
        ConfigErrors: any job's config is wrong; nothing is then started.
    """
    jobs, failed, name = expand_sweep(overrides), [], "sweep"
    for job in jobs:
        try:
            name = assemble(read_or_compose(config_file, job)).config["name"]
        except UserError as error:
            failed.append(f"{' '.join(job)}: {error}")
    if failed:
        raise ConfigErrors(failed)
    swept = [i for i in range(len(overrides)) if len({job[i] for job in jobs}) > 1]
    folder = Path(run_dir or fresh_directory(name))
    print(f"sweep directory: {folder.absolute()}  ({len(jobs)} jobs)", flush=True)
    failures = 0
    for job in jobs:
        slug = ",".join(job[i] for i in swept).replace("/", "_").replace(" ", "") or "job"
        command = [sys.executable, "-m", "mmtx.cli", "train", *job, f"run_dir='{folder / slug}'"]
        command += ["--config", config_file] if config_file else []
        failures += subprocess.run(command, check=False).returncode != 0
    print(f"sweep directory: {folder.absolute()}  ({len(jobs) - failures} finished, {failures} failed)")
    return 1 if failures else 0
