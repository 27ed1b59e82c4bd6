"""The file in which ``mmtx generate`` leaves what it made."""

from pathlib import Path

from mmtx.errors import InvalidValue


def out_file(out: str, suffix: str) -> Path:
    """The file of such a name. Raises InvalidValue where it has another suffix, or no folder."""
    file = Path(out).expanduser()
    if file.suffix.lower() != suffix or not file.parent.is_dir():
        raise InvalidValue("out", out, f"must be a {suffix} file in a folder that exists")
    return file
