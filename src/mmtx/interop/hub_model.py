"""Models on a hub, in the place of a folder: whatever takes a path takes ``hub://owner/name@revision`` too."""

import json
from pathlib import Path

from mmtx.errors import UserError
from mmtx.hub.address import is_address
from mmtx.hub.model_files import DESCRIPTION
from mmtx.hub.snapshot import Snapshot, snapshot
from mmtx.interop.families import FAMILIES


def local(place: Path | str) -> Path:
    """The folder of an address, downloaded where it is not there yet; any other place as a path.

    Raises:
        UserError: it cannot be downloaded, or is of no family that mmtx reads.
    """
    return pinned(str(place)).folder if is_address(place) else Path(place).expanduser()


def pinned(address: str) -> Snapshot:
    """What an address means now. Raises UserError as `local` does."""

    def check(folder: Path) -> None:
        _check_known(folder, address)

    return snapshot(address, check)


def _check_known(folder: Path, address: str) -> None:
    """Raises UserError where the config of a folder names a family that mmtx does not read."""
    config = folder / "config.json"
    if (folder / DESCRIPTION).is_file() or not config.is_file():
        return
    try:
        family = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise UserError(f"{address}: config.json holds no config") from None
    if family is not None and family not in FAMILIES:
        raise UserError(f"{address} is a model of the family '{family}'; mmtx reads {', '.join(FAMILIES)}")
