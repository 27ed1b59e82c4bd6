"""The model on a hub that a run begins with (``init_from=hub://owner/name``): at one commit, whenever it is read again.

The commit is looked up before there is a run, so that its config names it; the SHA-256 of each file stands in its
``init_from.json``.
"""

import json

from mmtx.config.schema import Config
from mmtx.errors import UserError
from mmtx.hub.address import is_address
from mmtx.process.agreement import from_rank_0
from mmtx.run.directory import RunDirectory

FILE = "init_from.json"


def pinned_config(config: Config) -> Config:
    """A config whose ``init_from`` is at a commit, and downloaded; any other as it is. Ranks that torchrun or srun has
    started take the commit that rank 0 has found.

    Raises:
        UserError: there is no such model, it cannot be downloaded, or mmtx does not read it.
    """
    place = config["init_from"]
    if not is_address(place):
        return config
    from mmtx.interop.hub_model import pinned

    try:
        return {**config, "init_from": from_rank_0("init_from", lambda: str(pinned(place).address))}
    except UserError as error:
        raise UserError(f"init_from={error}") from None


def record_files(config: Config, run: RunDirectory) -> None:
    """Writes down which files a new run begins with."""
    if is_address(config["init_from"]):
        from mmtx.interop.hub_model import pinned

        found = pinned(config["init_from"])
        run.write_json(run.path / FILE, {"address": str(found.address), "sha256": dict(found.files)})


def check_files(run: RunDirectory) -> None:
    """Raises UserError unless a run that begins again does so with the same files."""
    file = run.path / FILE
    if not file.is_file():
        return
    from mmtx.interop.hub_model import pinned

    known = json.loads(file.read_text())
    now = pinned(known["address"]).files
    changed = sorted(name for name, sha256 in known["sha256"].items() if now.get(name) != sha256)
    if changed:
        given = f"init_from={known['address']}: {', '.join(changed)} changed since this run began with it ({file})"
        raise UserError(f"{given}; put back what it was, or start a new run")
