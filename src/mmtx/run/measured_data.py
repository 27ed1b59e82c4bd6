"""The config of data that are measured rather than learnt from."""

from collections.abc import Collection, Mapping
from typing import Any

NO_AUGMENTATION = {"_target_": "torch.nn.Identity"}
"""What ``data/augment=none`` is."""

HELD_OUT = {"val_fraction": 0.0, "test_fraction": 0.0, "val_path": None, "test_path": None}
"""Keys by which data are divided, and their values where they are not."""


def not_augmented(node: Any) -> Any:
    """The config of data whose training part is not augmented: augmentation is for training, not for measuring."""
    if not isinstance(node, Mapping):
        return node
    return {
        key: NO_AUGMENTATION if key == "augment" and isinstance(value, Mapping) else not_augmented(value)
        for key, value in node.items()
    }


def not_divided(node: Any, before: Any, path: str, given: Collection[str]) -> Any:
    """The config of tables and folders of another path than that of the run: nothing is held out of them, and no other
    file is read beside them, unless `given` overrides say so."""
    if not isinstance(node, Mapping):
        return node
    known = before if isinstance(before, Mapping) else {}
    made = {key: not_divided(value, known.get(key), f"{path}.{key}", given) for key, value in node.items()}
    if "test_fraction" not in made or made.get("path") == known.get("path"):
        return made
    return made | {key: value for key, value in HELD_OUT.items() if key in made and f"{path}.{key}" not in given}
