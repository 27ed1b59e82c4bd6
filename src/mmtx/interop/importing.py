"""Imports the files of a public model as a learner."""

import copy
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mmtx.config.compose import compose
from mmtx.config.schema import Config
from mmtx.data.files.supported_keys import refusals, refuse
from mmtx.data.text.tokenizer_files import find_chat, find_tokenizer, spelt_tokens
from mmtx.errors import UserError
from mmtx.experiment import rebuild
from mmtx.hub.model_files import WEIGHTS
from mmtx.interop.common_keys import GENERATION, SUPPRESSED
from mmtx.interop.differences import differences, table
from mmtx.interop.families import FAMILIES
from mmtx.interop.family import Described, Family, Files, declared_kinds
from mmtx.interop.hub_model import local
from mmtx.interop.links import Weights, lost, read
from mmtx.interop.timm_vit import from_timm
from mmtx.interop.weights import model_file, read_weights
from mmtx.interop.whisper_checkpoints import from_ctranslate2, from_openai
from mmtx.interop.whisper_prompt import ENGLISH, MANY, V3
from mmtx.learner import Learner

CONFIG_ERRORS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError, MemoryError)
"""Errors that a meaningless config.json causes, or impossible sizes."""
SIDE_FILES = ("generation_config", "preprocessor_config")


def from_pretrained(path: Path | str, more: Mapping[str, Any] | None = None) -> Learner:
    """The model of a public folder or file, in eval mode; its ``config`` is an ordinary one of mmtx.

    Reads Hugging Face's ``config.json`` with safetensors (one file or shards) or ``pytorch_model.bin``,
    openai-whisper's ``.pt``, states of timm's ViT, and Whisper's ``model.bin`` of CTranslate2. Nothing in a file is
    executed, and no parameter is copied before all of them fit.

    Args:
        path: folder, or file of weights, beside which config files are read; or an address on a hub.
        more: overrides the model's config (``num_attention_heads``, which a timm state lacks), or a file beside it
            (``generation_config.num_beams``).

    Raises:
        UserError: with every difference between the file and its config, or every key that mmtx does not know or
            cannot follow.
    """
    file = model_file(local(path))
    weights, rest = read_weights(file)
    side_overrides, given = _given(dict(more or {}))
    config, weights, side = _config(file, weights, rest, given)
    family = _family(config, file)
    try:
        side = {name: content | side_overrides[name] for name, content in side.items()}
        _check_keys(family, config, side, str(file.parent))
        config = _with_generation(family, config, side["generation_config"]) | given
        files = _files(file, int(config.get("vocab_size") or 0), side)
        return _learner(family, family.canonical(weights), config, files, str(file))
    except UserError:
        raise
    except CONFIG_ERRORS as error:
        raise UserError(
            f"the config of {file} cannot be one of {family.name}: {type(error).__name__}: {error}"
        ) from None


def check_public(path: Path | str) -> None:
    """Raises UserError where a path is no public model that mmtx reads, as far as shows before its weights are read."""
    file = model_file(path)
    if file.suffix == ".safetensors" or file.name in WEIGHTS[:-1]:  # other files hold what their config.json may not
        config = _json(file.with_name("config.json"))
        if config.get("model_type") is not None:  # which states of timm lack
            _family(config, file)


def _family(config: Config, file: Path) -> Family:
    """The family that a config declares, by its ``model_type`` and by its ``architectures``.

    Raises:
        UserError: mmtx does not read it, or the two are of different families.
    """
    kinds, name = declared_kinds(config), config.get("model_type")
    of_kind = next((family for family in FAMILIES.values() if {*kinds} & {*family.kinds}), None)
    family = of_kind if name is None else FAMILIES.get(str(name))
    if family is None:
        known = ", ".join(FAMILIES)
        raise UserError(f"{file} is a model of the family '{name}'; mmtx reads {known}")
    if of_kind not in (None, family):
        assert of_kind is not None
        rows = [("model_type", family.name, family.name), ("architectures", ", ".join(kinds), of_kind.name)]
        raise UserError(
            f"the config of {file} declares two families; give the one that it is, "
            f"model_type={of_kind.name} or architectures={family.kinds[0]}:\n"
            + table(("key", "in the file", "of the family"), rows)
        )
    return family


def _given(more: dict[str, Any]) -> tuple[dict[str, Config], Config]:
    """Overrides of the files beside the config, by their names; and those of the config."""
    side: dict[str, Config] = {name: {} for name in SIDE_FILES}
    config: Config = {}
    for key, value in more.items():
        name, dot, own = key.partition(".")
        if dot and name not in side:
            raise UserError(f"{key}={value}: a value overrides one of config.json, or of {' or '.join(SIDE_FILES)}")
        (side[name] if dot else config)[own or key] = value
    return side, config


def _check_keys(family: Family, config: Config, side: Mapping[str, Config], folder: str) -> None:
    """Raises UserError with every key that is unknown or cannot be followed."""
    tables = {"generation_config": {**GENERATION, **family.generation}, "preprocessor_config": family.preprocessor}
    found = [*refusals(config, family.config_keys(), "config.json")]
    found += [line for name, content in side.items() for line in refusals(content, tables[name], f"{name}.json")]
    refuse(found, folder)


def _with_generation(family: Family, config: Config, generation: Config) -> Config:
    """The config with the keys of ``generation_config.json``, which alone has the suppressed ids if it exists."""
    used = {key for key, entry in family.generation.items() if entry.status == "used"}
    if generation:
        config = {key: value for key, value in config.items() if key not in SUPPRESSED or key not in used}
    return config | {key: value for key, value in generation.items() if value is not None and key in used}


def _learner(family: Family, weights: Weights, config: Config, files: Files, where: str) -> Learner:
    config = family.complete(config, weights)
    described = family.describe(config, files)
    learner = rebuild(full_config(family, described, files), described.specs)
    links, state = family.links(config), learner.state_dict()
    left_out = [key for key in weights if re.search(family.left_out, key)]
    weights = {key: value for key, value in weights.items() if key not in left_out}
    found = list(differences(links, state, weights, family.unused, family.copies))
    if found:
        head = ("weight", "in the file", "by the config")
        raise UserError(f"{where} is not the {family.name} of its config:\n{table(head, found)}")
    read_state = read(links, weights)
    made = [key for key in state if key not in read_state]  # they must not change what the model computes
    read_state |= {key: torch.zeros_like(state[key]) for key in made}
    learner.load_state_dict(read_state)
    rest = lost(links, learner.state_dict(), weights)
    learner.origin = {"family": family.name, "config": config, "rest": rest, "made": made}
    learner.origin |= {"left_out": left_out} if left_out else {}
    return learner


def full_config(family: Family, described: Described, files: Files | None = None) -> Config:
    """The whole config of mmtx."""
    choices = [*described.choices]
    if files is not None and files.tokenizer is not None:
        choices += [f"{group}=pretrained" for group in family.vocabularies]
    config = copy.deepcopy(_composed(tuple(choices)))
    config["name"] = family.name
    for path, value in described.values.items():
        *parents, key = path.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    _leave_open(config["data"], files.folder if files is not None else "")
    return config


@cache
def _composed(choices: tuple[str, ...]) -> Config:
    return compose(list(choices))


def _leave_open(node: Config, tokenizer: str) -> None:
    """Empties the keys that only the user can give."""
    for key, value in node.items():
        if value == "???":
            node[key] = ""
    for key, vocabulary in node.items():
        if key.endswith("vocabulary") and "path" in vocabulary:
            vocabulary["path"] = tokenizer


def _config(
    file: Path, weights: Weights, rest: Mapping[str, Any], more: Config
) -> tuple[Config, Weights, dict[str, Config]]:
    """The model's config, from whichever file has it; weights by their public names; side files by name."""
    side = {name: _side_file(file, name) for name in SIDE_FILES}
    if "spec" in rest:
        config, weights = from_ctranslate2(weights, rest, _json(file.with_name("config.json")))
        return {**config, **more}, weights, side
    if isinstance(rest.get("dims"), dict):
        config, weights = from_openai(weights, rest["dims"])
        return {**config, **_openai_suppressed(config["vocab_size"]), **more}, weights, side
    config = _json(file.with_name("config.json"))
    if "patch_embed.proj.weight" in weights and config.get("model_type") is None:
        config, weights, prepared = from_timm(weights, config, more)
        return config, weights, side | {"preprocessor_config": prepared | side["preprocessor_config"]}
    if not config and not more:
        raise UserError(f"{file} has no config.json beside it, and its keys do not identify it")
    return {**config, **more}, weights, side


def _side_file(file: Path, name: str) -> Config:
    """The content of a file beside the config; newer versions have it in parts of processor_config.json."""
    config = _json(file.with_name(f"{name}.json"))
    if not config and name == "preprocessor_config":
        parts = _json(file.with_name("processor_config.json"))
        config = parts.get("image_processor") or parts.get("feature_extractor") or {}
    return config


def _files(file: Path, vocab_size: int, side: Mapping[str, Config]) -> Files:
    tokenizer = find_tokenizer(file.parent)
    if tokenizer is None and vocab_size in (ENGLISH, MANY, V3):
        tokenizer = _openai_tokenizer(vocab_size)
    return Files(tokenizer, str(file.parent.absolute()), side, spelt_tokens(file.parent), find_chat(file.parent))


def _openai_tokenizer(vocab_size: int) -> Any:
    """Whisper's tokenizer, if openai-whisper is installed."""
    try:
        from whisper.tokenizer import get_encoding
    except ImportError:
        return None
    from mmtx.interop.tiktoken import from_ranks

    name = "gpt2" if vocab_size == ENGLISH else "multilingual"
    encoding = get_encoding(name, num_languages=100 if vocab_size == V3 else 99)
    return from_ranks(encoding._mergeable_ranks, encoding._special_tokens)


def _openai_suppressed(vocab_size: int) -> Config:
    """Ids that openai-whisper suppresses by default, if it is installed."""
    try:
        from whisper.tokenizer import get_tokenizer
    except ImportError:
        return {}
    if vocab_size not in (ENGLISH, MANY, V3):
        return {}
    own = get_tokenizer(vocab_size != ENGLISH, num_languages=100 if vocab_size == V3 else 99)
    marks = {own.transcribe, own.translate, own.sot, own.sot_prev, own.sot_lm, own.no_speech}
    return {
        "suppress_tokens": sorted({*own.non_speech_tokens, *marks}),
        "begin_suppress_tokens": [*own.encode(" "), own.eot],
    }


def _json(file: Path) -> Config:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is not an object of JSON")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> Config:
    """Raises ValueError for an object with a repeated key, of which JSON readers drop the first."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return content
