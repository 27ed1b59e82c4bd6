"""Where the yaml files of configs lie."""

from pathlib import Path


def config_directory() -> Path:
    """Where the packaged configs are: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "conf"


def config_folders() -> tuple[Path, Path]:
    """Where configs lie: a user's file of the same name wins."""
    return Path.cwd() / "conf", config_directory()
