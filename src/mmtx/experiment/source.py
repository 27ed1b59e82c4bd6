"""From a config to its dataset and the loaders over it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtx.config.check import node_findings
from mmtx.config.construct import construct_as
from mmtx.config.schema import Config
from mmtx.config.targets import packages, resolve
from mmtx.data.base import Source
from mmtx.data.fitted import FittedState, nested_source
from mmtx.data.loaders import DataModule
from mmtx.data.modality_dropout import ModalityDropout
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.learner import Learner


def data_part(config: Config) -> Config:
    """What of a config the dataset is made from."""
    return {key: config[key] for key in ("plugins", "data", "init_from")}


def construct_source(config: Config, fitted: FittedState | None = None) -> Source:
    """The dataset of a config.

    Args:
        config: resolved.
        fitted: what a run fitted to its data; None: nothing yet.

    Raises:
        UserError: it cannot be made, or the run does not know what it holds.
    """
    node, plugins = config["data"], packages(config)
    found = [finding.message for finding in node_findings(node, "data", set(), plugins)]
    if found:
        raise ConfigErrors(found)
    return _source(node, "data", plugins, fitted or FittedState())


def _source(node: Any, path: str, plugins: Sequence[str], fitted: FittedState) -> Source:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InvalidValue(path, node, "is no dataset")
    kind = resolve(str(node["_target_"]), plugins)
    if not issubclass(kind, Source):
        raise UserError(f"{path}._target_={node['_target_']} is no dataset")
    if node.get("path") == "":  # which would be the working directory
        raise InvalidValue(f"{path}.path", "''", "is empty: name what is to be read")
    if isinstance(node.get("parts"), Mapping):
        names = node["names"] if isinstance(node.get("names"), Mapping) else {}
        parts = {
            part: _source(child, f"{path}.parts.{part}", plugins, fitted.nested(f"parts.{part}", names.get(part) or {}))
            for part, child in node["parts"].items()
        }
        node = {**node, "parts": parts}
    if kind.reads_columns:
        node = {**node, **{key: _column_kinds(node[key], plugins) for key in ("tokenizers", "objectives")}}
    try:
        with fitted.active():
            return construct_as(Source, node, plugins, nested_source)  # type: ignore[type-abstract]
    except InvalidValue as error:
        raise error.under(path) from None


def _column_kinds(readers: Mapping[str, str], plugins: Sequence[str]) -> dict[str, str | None]:
    """Kinds of columns that classes read, by the names that these read."""
    return {name: getattr(resolve(target, plugins), "column_kind", None) for name, target in readers.items()}


def data_module(
    config: Config, source: Source, names: list[str], dropout: ModalityDropout | None = None, free_cores: int = 0
) -> DataModule:
    """The loaders of a config over a source; `free_cores` are those that may prepare batches."""
    given = {"source": source, "names": names, "seed": config["seed"], "cores": free_cores}
    return construct_as(DataModule, config["loader"], packages(config), modality_dropout=dropout, **given)


def modality_dropout(config: Config, learner: Learner | None) -> ModalityDropout:
    """What samples lose in training.

    Raises:
        InvalidValue: a share is none, or of a name that is no modality or that is predicted.
    """
    shares = config["modality_dropout"]
    dropout = ModalityDropout(shares=shares, names=list(config["modality"]), seed=config["seed"])
    for name in shares:
        if learner is not None and learner.predicts(name):
            raise InvalidValue(f"modality_dropout.{name}", shares[name], "would leave out what is to be predicted")
    return dropout
