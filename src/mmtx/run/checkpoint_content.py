"""What a checkpoint holds, and how a model comes back from it with no other file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmtx.batch import Field, Spec
from mmtx.config.migrations import FORMAT, migrated_checkpoint
from mmtx.config.redaction import redacted
from mmtx.config.schema import Config
from mmtx.config.stored import completed
from mmtx.config.targets import resolve
from mmtx.data.text.vocabulary import TextVocabulary, describe_vocabulary
from mmtx.errors import UserError
from mmtx.experiment import Experiment, rebuild
from mmtx.hub.model_files import DESCRIPTION
from mmtx.learner import Learner
from mmtx.run.checkpoint_file import verify
from mmtx.run.checkpoint_shards import folder_of, verify_shards
from mmtx.run.directory import newest_checkpoint
from mmtx.run.model_folder import read_model_folder
from mmtx.run.named_plugins import named_plugins
from mmtx.training.stored_tensors import put_together, whole_tensors


class Checkpoint(NamedTuple):
    """A checkpoint and what `read_checkpoint` gives of it."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        return cls(path, read_checkpoint(path))


def contents(experiment: Experiment) -> dict[str, Any]:
    """What a checkpoint holds beside the state: everything that `load` needs, and by what a run that continues knows
    that it is the same, as plain values."""
    return {
        **described(redacted(experiment.config), experiment.learner),
        "fitted": experiment.data.source.fitted.state(),
        "samples_per_step": experiment.samples_per_step,
        "fingerprint": experiment.data.fingerprint(),
    }


def described(config: Config, learner: Learner) -> dict[str, Any]:
    """What `load` needs, also of a learner that was not trained here."""
    specs = {name: _spec_state(spec) for name, spec in learner.specs.items()}
    return {
        "format": FORMAT,
        "config": config,
        "specs": specs,
        "fitted": {},
        "fingerprint": {},
        "origin": learner.origin,
    }


def load(place: Path | str, plugins: Sequence[str] = ()) -> Learner:
    """The model of a run directory or checkpoint, with its objectives, in eval mode.

    Weights are the moving average where the run kept one.

    Args:
        place: run directory, checkpoint file, model folder, or an address on a hub.
        plugins: packages besides mmtx whose classes the config may name, beside those that this user named when the run
            began. A checkpoint cannot name them itself.

    Raises:
        UserError: there is no checkpoint, or it is not one of mmtx.
    """
    file = newest_checkpoint(place)
    plugins = plugins or named_plugins(place)
    checkpoint = read_checkpoint(file)
    with _as_written(file):
        learner = rebuild(checkpoint["mmtx"]["config"], specs_of(checkpoint, plugins), plugins)
        learner.origin = checkpoint["mmtx"].get("origin")
        learner.load_state_dict(weights_of(checkpoint))
    return learner


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The whole content of a checkpoint, its tensors not yet read from disk. Nothing in it is executed.

    Raises:
        UserError: the file is not a checkpoint of mmtx, or not what was written.
    """
    checkpoint = read_model_folder(file.parent) if file.name == DESCRIPTION else _archive(file)
    if not isinstance(checkpoint.get("mmtx"), dict):
        raise UserError(f"{file} is a checkpoint, but not one of mmtx")
    with _as_written(file):
        if (listed := checkpoint.pop("shards", None)) is not None:
            checkpoint = put_together(checkpoint, verify_shards(file, listed))
        checkpoint = migrated_checkpoint(checkpoint, str(file))
        described = ("config", "specs", "fitted", "fingerprint")
        parts = [checkpoint["state_dict"], *(checkpoint["mmtx"][part] for part in described)]
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError("a part of it is no dictionary")
        checkpoint["mmtx"]["config"] = completed(checkpoint["mmtx"]["config"])
    return checkpoint


def verify_all(file: Path) -> None:
    """Raises UserError unless a checkpoint and its shards are, byte for byte, what was written."""
    listed = _archive(file).get("shards")
    if listed is not None:
        with _as_written(file):
            verify_shards(file, listed)


def shards_of(file: Path) -> Path | None:
    """The folder in which a checkpoint has its tensors; None: it holds them itself.

    Raises:
        UserError: it cannot be read.
    """
    listed = _archive(file).get("shards")
    with _as_written(file):
        return folder_of(file, listed) if listed is not None else None


def _archive(file: Path) -> dict[str, Any]:
    """What is in the file, its tensors not yet read."""
    verify(file)
    try:
        _check_members(file)
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # many kinds, from the archive, the pickle and the tensors
        raise UserError(f"{file} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"{file} is a checkpoint, but not one of mmtx")
    return checkpoint


def _check_members(file: Path) -> None:
    """torch writes its archives unpacked, one member behind the other: nothing in them grows when it is read."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is a packed archive")
    if sum(member.file_size for member in members) > file.stat().st_size:
        raise ValueError("its members claim more than the file holds")


@contextmanager
def _as_written(file: Path) -> Iterator[None]:
    """What mmtx never wrote is an error of the file, wherever it comes to light."""
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{file} holds what mmtx does not write: {problem[:300]}") from error


def specs_of(checkpoint: dict[str, Any], plugins: Sequence[str]) -> dict[str, Spec]:
    """What the data declared of every name that the checkpoint knows."""
    return {name: _restore_spec(state, plugins) for name, state in checkpoint["mmtx"]["specs"].items()}


def weights_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Of a learner: their moving average where the run kept one."""
    prefix = "learner."
    weights = {key[len(prefix) :]: v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    average = {key: value for key, value in checkpoint.get("average", {}).items() if key != "updates"}
    return whole_tensors(weights | average)


def _spec_state(spec: Spec) -> dict[str, Any]:
    return {
        "fields": {
            key: {
                "shape": list(field.shape),
                "dtype": str(field.dtype).removeprefix("torch."),
                "num_classes": field.num_classes,
                "max_length": field.max_length,
                "rising": field.rising,
            }
            for key, field in spec.fields.items()
        },
        "class_names": list(spec.class_names) if spec.class_names else None,
        "vocabulary": describe_vocabulary(spec.vocabulary) if spec.vocabulary is not None else None,
        "sample_rate_hz": spec.sample_rate_hz,
        "trim_db": spec.trim_db,
    }


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UserError(f"the checkpoint's data are of {name}, which is no type of numbers")
    return found


def _restore_spec(state: dict[str, Any], plugins: Sequence[str]) -> Spec:
    fields = {
        key: Field(
            tuple(field["shape"]),
            _dtype(field["dtype"]),
            field["num_classes"],
            field["max_length"],
            field["rising"],
        )
        for key, field in state["fields"].items()
    }
    vocabulary = None
    if state["vocabulary"] is not None:
        kind = resolve(state["vocabulary"]["kind"], plugins)
        if not issubclass(kind, TextVocabulary):
            raise UserError(f"the checkpoint's vocabulary is a {kind.__name__}, which is none")
        vocabulary = kind.__new__(kind)
        vocabulary.load(state["vocabulary"]["state"])
    class_names = tuple(state["class_names"]) if state["class_names"] else None
    return Spec(fields, class_names, vocabulary, state["sample_rate_hz"], state["trim_db"])
