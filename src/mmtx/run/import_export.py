"""Runs from public models, and public models from runs."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmtx.codes.codec import Codec
from mmtx.codes.stored_codec import codec_bytes
from mmtx.config.compose import compose
from mmtx.config.groups import group_options
from mmtx.config.overrides import written
from mmtx.config.schema import OWN_ENCODER
from mmtx.errors import InvalidValue, UserError
from mmtx.interop.atomic_output import atomic_file
from mmtx.interop.exporting import write_public
from mmtx.interop.families import FAMILIES
from mmtx.interop.peft_write import write_adapters
from mmtx.interop.weights import write_safetensors
from mmtx.learner import Learner
from mmtx.nn.low_rank_update import merge_updates
from mmtx.run.card.facts import record_of
from mmtx.run.card.write import write_card
from mmtx.run.checkpoint_content import described, load, read_checkpoint, weights_of
from mmtx.run.checkpoint_file import write_checkpoint
from mmtx.run.directory import RunDirectory, is_run, newest_checkpoint
from mmtx.run.model_folder import write_model_folder
from mmtx.run.program_export import batches_of, export_program
from mmtx.run.provenance import describe


def save_as_run(learner: Learner, path: Path | str) -> RunDirectory:
    """A run directory that `load`, ``mmtx evaluate`` and ``mmtx generate`` understand.

    Raises:
        UserError: it cannot be made, or holds a run.
    """
    assert learner.config is not None
    config = dict(learner.config)
    state = {f"learner.{key}": value for key, value in learner.state_dict().items()}
    held = {"mmtx": {**described(config, learner), "step": 0, "metrics": {}}, "state_dict": state}
    return _write_run(path, held, describe(config["seed"]), {})


def unpack(place: Path | str, path: Path | str) -> RunDirectory:
    """The run directory of a model folder, with all that the folder holds.

    Raises:
        UserError: it cannot be made, or holds a run.
    """
    held = read_checkpoint(newest_checkpoint(place))
    record = held["mmtx"].pop("record", {})
    return _write_run(path, held, record.get("environment", {}), record.get("metrics", {}))


def _write_run(
    path: Path | str, held: dict[str, Any], environment: dict[str, Any], metrics: dict[str, Any]
) -> RunDirectory:
    """A finished run of one checkpoint."""
    run = RunDirectory(path)
    run.create()
    run.write_config(held["mmtx"]["config"])
    run.write_json(run.environment, environment)
    run.write_json(run.metrics, metrics)
    write_checkpoint(run.last, held)
    run.set_status("finished")
    return run


def to_pretrained(run: Learner | Path | str, path: Path | str) -> None:
    """Writes a run, checkpoint or learner in its public family's own format. ``mmtx export`` adds its card.

    Raises:
        UserError: it is of no public family, with what stands in the way.
    """
    if is_run(path):
        raise InvalidValue("OUT", path, "is of a run, which stays as it is; name another folder")
    write_public(_merged(run), path)


def to_adapters(run: Learner | Path | str, path: Path | str) -> None:
    """Writes the low-rank updates of a run, checkpoint or learner as the library peft has them.

    Raises:
        UserError: it has none, is of no public family, or has learnt what peft has no place for.
    """
    if is_run(path):
        raise InvalidValue("OUT", path, "is of a run, which stays as it is; name another folder")
    write_adapters(run if isinstance(run, Learner) else load(run), path)


def to_model_folder(run: Path | str, path: Path | str) -> None:
    """Writes a run or checkpoint as a model folder, see `mmtx.run.model_folder`: everything that mmtx has of the model,
    to the bit.

    Raises:
        UserError: there is none, or the folder holds another.
    """
    folder = Path(path).expanduser()
    if (folder / "checkpoints").is_dir():
        raise InvalidValue("OUT", path, "is of a run, which stays as it is; name another folder")
    file = newest_checkpoint(run)
    checkpoint = read_checkpoint(file)
    description = {key: value for key, value in checkpoint["mmtx"].items() if key in DESCRIBED}
    record = record_of(file, checkpoint["mmtx"])
    write_model_folder(weights_of(checkpoint), {**description, **({"record": record} if record else {})}, folder)


def to_safetensors(run: Learner | Path | str, path: Path | str) -> None:
    """Writes the weights by the names that mmtx has for them."""
    learner = _merged(run)
    shared = {id(value): key for key, value in reversed(learner.state_dict(keep_vars=True).items())}
    state = {key: value for key, value in learner.state_dict(keep_vars=True).items() if shared[id(value)] == key}
    with atomic_file(_file(path)) as file:
        write_safetensors(state, file)


def to_codes(run: Learner | Path | str, path: Path | str) -> None:
    """Writes the codec that a run has learnt, for ``data=coded_pictures``, ``coded_films`` or ``coded_sounds``.

    Raises:
        UserError: it has learnt none, or several.
    """
    learner = run if isinstance(run, Learner) else load(run)
    codecs = {name: each for name, each in learner.model.named_modules() if isinstance(each, Codec)}
    if len(codecs) != 1:
        problem = (
            f"has {len(codecs)} names whose codes are learnt (such as modality=[coded_image]), and a file holds one"
        )
        raise UserError(f"{run if not isinstance(run, Learner) else 'the learner'} {problem}")
    with atomic_file(_file(path)) as file:
        file.write_bytes(codec_bytes(next(iter(codecs.values()))))


def to_program(run: Learner | Path | str, path: Path | str, kind: str) -> str:
    """Writes a program, and gives a line about it, see `export_program`. That of a run or checkpoint is compared with
    it on its data."""
    learner = _merged(run)
    batches = batches_of(run) if not isinstance(run, Learner) and learner.origin is None else []
    with atomic_file(_file(path)) as file:
        return export_program(learner, file, kind, batches)


DESCRIBED = ("config", "specs", "fitted", "fingerprint", "origin", "samples_per_step", "step", "metrics", "record")
"""What a model folder has of what a checkpoint holds beside the state."""

FORMATS: dict[str, Callable[[Path | str, Path | str], str | None]] = {
    "hf": to_pretrained,
    "peft": to_adapters,
    "mmtx": to_model_folder,
    "safetensors": to_safetensors,
    "codes": to_codes,
    "torch_export": partial(to_program, kind="torch_export"),
    "onnx": partial(to_program, kind="onnx"),
}


def export(run: Path | str, path: Path | str, form: str, license: str | None = None) -> str | None:
    """Writes a run in one of `FORMATS`, and its model card beside it. Gives a line about it, if there is one to give.

    Args:
        run: run directory, checkpoint, model folder, or an address on a hub.
        path: where to.
        form: the format.
        license: of the weights, by its name on the hub.
    """
    about = FORMATS[form](run, path)
    write_card(run, path, form, license)
    return about


OF_TOKENIZERS = ("patch_size", "cut", "side", "mean", "std", "embedding_scale")
"""Keys of tokenizers that follow a model."""


def shape_of(learner: Learner) -> list[str]:
    """The overrides that give another run stacks of the same shape: all that differs from the family's own choice;
    pictures and sound prepared, and ids embedded and scored, as the model's were."""
    assert learner.config is not None
    config = _leaves(learner.config["backbone"])
    choice, usual = _nearest_backbone(learner.config["name"], config)
    size = {key: config[key] for key in ("dim", "num_layers", "num_heads")}
    unusual = {key: value for key, value in config.items() if key not in usual or usual[key] != value}
    words = [choice, *(f"backbone.{key}={written(value)}" for key, value in {**size, **unusual}.items())]
    gone = [key for key in usual if not any(own == key or _within(own, key) or _within(key, own) for own in config)]
    words += [f"~backbone.{key}" for key in gone]
    if learner.config.get("towers"):
        words.append("towers=true")
    if learner.config["encode"]:
        words.append(f"encode={written(learner.config['encode'])}")
        words += [f"encoder.{key}={written(value)}" for key, value in _leaves(learner.config["encoder"]).items()]
    for name, node in learner.config["modality"].items():
        keys = [key for key in OF_TOKENIZERS if node.get(key) not in (None, False)]
        words += [f"modality.{name}.{key}={written(node[key])}" for key in keys]
        words += _of_samples(name, node) + _own_encoder(name, node)
    for name, node in learner.config["objective"].items():
        words += [f"objective.{name}.softcap={written(node['softcap'])}"] if node.get("softcap") is not None else []
    if not learner.config["type_embeddings"]:
        words.append("type_embeddings=false")
    fit = learner.config["data"].get("fit") or {}
    words += ["data/fit=native"] if fit.get("_target_") == "mmtx.data.NativeFit" else []
    words += [f"data.fit.{key}={written(value)}" for key, value in fit.items() if key != "_target_"]
    return words


def _within(key: str, other: str) -> bool:
    return key.startswith(f"{other}.")


def _of_samples(name: str, node: Mapping[str, Any]) -> list[str]:
    """The overrides of a name whose tokens are made of the samples of sound; none for any other."""
    if node.get("stem", {}).get("_target_") != "mmtx.modalities.WaveConvolutions":
        return []
    chosen = {"spectrogram": "samples", "stem": "waveform"}
    choices = [f"modality/{group}@modality.{name}.{group}={option}" for group, option in chosen.items()]
    usual = compose(["data=audio_manifest", f"modality=[{name}]", *choices])["modality"][name]
    unusual = {
        f"{group}.{key}": value
        for group in chosen
        for key, value in node[group].items()
        if value != usual[group].get(key)
    }
    return choices + [f"modality.{name}.{key}={written(value)}" for key, value in unusual.items()]


def _own_encoder(name: str, node: Mapping[str, Any]) -> list[str]:
    """The overrides of the encoder that a name has to itself, and of its projector; none for any other."""
    words = []
    for key, group in zip(OWN_ENCODER, ("backbone", "modality/projector"), strict=True):
        if node.get(key):
            leaves, path = _leaves(node[key]), f"modality.{name}.{key}"
            of_class = [f"+{group}@{path}={option}" for option in group_options(group)]
            option, usual = _nearest(of_class, leaves, partial(_of_name, name, key))
            words += [option, *(f"{path}.{k}={written(v)}" for k, v in leaves.items() if usual.get(k, v) != v)]
            words += [f"+{path}.{k}={written(v)}" for k, v in leaves.items() if k not in usual]
    return words


def _of_name(name: str, key: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Mapping[str, Any] = config["modality"][name][key]
    return node


def _nearest_backbone(family: str, leaves: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The choice that is called like a family, else the one that differs least from these values; and its own."""
    options, own = group_options("backbone"), FAMILIES[family].backbone or family
    choices = [f"backbone={option}" for option in ([own] if own in options else options)]
    return _nearest(choices, leaves, lambda config: config["backbone"])


def _nearest(
    choices: Sequence[str], leaves: Mapping[str, Any], part: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """The choice whose part of the config differs least from these values; and its own."""
    usual = {choice: _leaves(part(compose([choice]))) for choice in choices}
    nearest = min(choices, key=lambda choice: _num_differences(leaves, usual[choice]))
    return nearest, usual[nearest]


def _num_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Keys that one of them lacks, or that have different values."""
    return sum(key not in one or key not in other or one[key] != other[key] for key in {*one, *other})


def _leaves(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``{path: value}`` of a tree."""
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= _leaves(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return leaves


def _merged(run: Learner | Path | str) -> Learner:
    """The learner, low-rank updates made part of its weights."""
    learner = copy.deepcopy(run) if isinstance(run, Learner) else load(run)
    merge_updates(learner)
    return learner


def _file(path: Path | str) -> Path:
    file = Path(path).expanduser()
    if file.is_dir():
        raise InvalidValue("OUT", path, "is a folder; name a file")
    if is_run(file):
        raise InvalidValue("OUT", path, "is a checkpoint of a run, which stays as it is; name another file")
    return file
