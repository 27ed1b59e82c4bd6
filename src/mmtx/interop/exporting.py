"""Exports a learner to the files of its public family."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmtx.config.schema import stack_node
from mmtx.data.files.supported_keys import defaults
from mmtx.data.text.character_tokenizer import spelt_by_characters
from mmtx.data.text.chat_template import ChatTemplates
from mmtx.data.text.sentence_pieces import SentencePieces
from mmtx.errors import UserError
from mmtx.hub.model_files import OWN, SIDE_FILES, WEIGHTS
from mmtx.interop.atomic_output import atomic_folder
from mmtx.interop.families import FAMILIES
from mmtx.interop.family import Config, Family, Files
from mmtx.interop.feed_forward import hidden_width
from mmtx.interop.importing import full_config
from mmtx.interop.links import Link, Weights, write
from mmtx.interop.weights import write_safetensors
from mmtx.learner import Learner

CHARACTERS = "Wav2Vec2CTCTokenizer"
COMPARED = ("backbone", "encoder", "encode", "modality", "objective")
STACKS = ("backbone", "encoder")
FREE = {
    *("dropout", "drop_path", "init_std", "compile", "flex", "activation_checkpointing", "multiple_of"),
    *("weight", "label_smoothing", "mixup", "metrics", "beam_size", "length_penalty", "augment", "context"),
    *("val_share", "val_episodes", "test_episodes", "target_returns", "temperature", "prompt"),
    *("suppress", "suppress_first", "references", "class_weights", "slices", "blank"),
    *("objective.masked_token.share", "objective.experts", "objective.contrastive.loss.bias"),
    *("backbone.window", "encoder.window"),
}
"""Keys, or paths, that do not change what the weights compute."""


def write_public(learner: Learner, folder: Path | str) -> None:
    """Writes ``config.json``, ``model.safetensors`` and, where there is one, ``tokenizer.json`` with
    ``tokenizer_config.json``; of pictures ``preprocessor_config.json``.

    Raises:
        UserError: the model is of no public family, with the reasons; or has weights that the family lacks.
    """
    family, config = family_of(learner)
    links, state = family.links(config), _folded(family, learner)
    check_all_linked(family, links, state)
    rest = (learner.origin or {}).get("rest")
    weights = write(links, state, rest)
    if config["architectures"] == [family.body]:
        weights = {key.removeprefix(family.prefix): value for key, value in weights.items()}
    with atomic_folder(Path(folder).expanduser(), conflicting=(*OWN, *SIDE_FILES, *WEIGHTS)) as target:
        _write_files(family, config, weights, learner, target)


def _write_files(
    family: Family, config: Config, weights: Mapping[str, torch.Tensor], learner: Learner, target: Path
) -> None:
    write_safetensors(weights, target / "model.safetensors")
    assert learner.config is not None
    side_files = family.side_files(learner.config, learner.specs)
    side_files["config"] = {"model_type": family.name, "dtype": "float32", **config, **side_files.get("config", {})}
    for name, content in side_files.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (target / f"{name}.json").write_text(text, encoding="utf-8")
    for spec in learner.specs.values():
        vocabulary = spec.vocabulary
        tokenizer = (vocabulary.state() if vocabulary is not None else {}).get("tokenizer")
        if vocabulary is not None and isinstance(tokenizer, str):
            roles = family.roles({**config, **side_files["config"]}, vocabulary, learner)
            _write_tokenizer(tokenizer, roles, getattr(vocabulary, "chat", None), family, target)


def _write_tokenizer(
    tokenizer: str, roles: Mapping[str, int | None], chat: ChatTemplates | None, family: Family, target: Path
) -> None:
    """Writes the tokenizer, and ``tokenizer_config.json``, which keeps `transformers` from applying the defaults of the
    family: lower case, a space in front, other tokens. Chat templates go with it, and the tokens that they write."""
    config: Config
    characters = None if SentencePieces.wrote(tokenizer) else spelt_by_characters(tokenizer)
    if characters is not None:
        config = _write_characters(*characters, roles, target)
    elif SentencePieces.wrote(tokenizer):
        pieces = SentencePieces.from_str(tokenizer)
        count = len(pieces.sentinels)
        (target / ("spiece.model" if count or pieces.canonical else "tokenizer.model")).write_bytes(pieces.model)
        config = {"tokenizer_class": "SiglipTokenizer"} if pieces.canonical else {"extra_ids": count} if count else {}
    else:
        (target / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        before = json.loads(tokenizer)["pre_tokenizer"] or {}
        own = family.byte_level_class if before.get("type") == "ByteLevel" else ""
        config = {"tokenizer_class": own or "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        config |= {"add_prefix_space": before["add_prefix_space"]} if own else {}
        config |= {"model_input_names": list(family.text_inputs), **_spelt(tokenizer, roles)}
        config |= {**chat.tokens, "chat_template": chat.stored()} if chat is not None else {}
    if config:
        (target / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_characters(
    vocabulary: Mapping[str, int], unknown: str, delimiter: str, roles: Mapping[str, int | None], target: Path
) -> Config:
    """Writes the vocabulary of a `character_tokenizer`, and gives its config."""
    text = json.dumps(vocabulary, indent=2, ensure_ascii=False) + "\n"
    (target / "vocab.json").write_text(text, encoding="utf-8")
    token_of = {number: token for token, number in vocabulary.items()}
    spelt = {role: token_of[number] for role, number in roles.items() if number in token_of}
    return {"tokenizer_class": CHARACTERS, "unk_token": unknown, "word_delimiter_token": delimiter, **spelt}


def _spelt(tokenizer: str, roles: Mapping[str, int | None]) -> dict[str, str]:
    """The tokens of roles, of those that are special tokens of the tokenizer."""
    from tokenizers import Tokenizer

    model = json.loads(tokenizer)["model"]
    added = Tokenizer.from_str(tokenizer).get_added_tokens_decoder()
    special = {number: token.content for number, token in added.items() if token.special}
    unknown = model.get("unk_token") if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
    spelt = {role: special[number] for role, number in roles.items() if number in special}
    return ({} if unknown is None else {"unk_token": unknown}) | spelt


def _folded(family: Family, learner: Learner) -> Weights:
    """A learner's state, with the type embeddings folded into the family's weights that are added to the same
    tokens."""
    of_losses = tuple(f"objectives.{name}.class_weights" for name in learner.objectives)
    state = {key: value for key, value in learner.state_dict().items() if key not in of_losses}
    dim = learner.model.backbone.dim
    for name in learner.model.names:
        key, tables = f"model.type_embeddings.{name}", family.added.get(name, ())
        kind = state.setdefault(key, next(learner.parameters()).new_zeros(dim))
        if tables and kind.any():
            state |= {table: state[table] + kind for table in tables}
            state[key] = torch.zeros_like(kind)
    return state


def check_all_linked(family: Family, links: Sequence[Link], state: Weights) -> None:
    """Raises UserError if the family lacks non-zero weights of the model."""
    linked = {key for link in links for key in link.ours}
    unlinked = [key for key, value in state.items() if key not in linked and value.any()]
    if not unlinked:
        return
    lines = [f"{family.name} has no place for {', '.join(unlinked)}; without that it would be another model"]
    if any(key.startswith("model.type_embeddings.") for key in unlinked):
        lines.append("  - a model that is trained with type_embeddings=false has no embeddings of types")
    lines.append("  - --format safetensors writes everything, under the names of mmtx")
    raise UserError("\n".join(lines))


def family_of(learner: Learner) -> tuple[Family, Config]:
    """The family of a learner, and its config there.

    Raises:
        UserError: it is of none, with the reasons.
    """
    if learner.origin is not None:
        return FAMILIES[learner.origin["family"]], dict(learner.origin["config"])
    if learner.config is None:
        raise UserError("this learner was not loaded, so its config is not known")
    reasons = []
    for family in FAMILIES.values():
        try:
            return family, _config_of(family, learner)
        except KeyError as error:
            reasons.append(f"{family.name}: there is no {str(error.args[0])}")
        except (UserError, AssertionError, IndexError, AttributeError, TypeError, ValueError) as error:
            reasons.append(f"{family.name}: {error}")
    raise UserError("\n".join(["this model is of no public family:", *(f"  - {reason}" for reason in reasons)]))


def _config_of(family: Family, learner: Learner) -> Config:
    """The family's config whose import gives the config of the learner."""
    assert learner.config is not None
    own = family.config(learner.config, learner.specs)
    config = {**defaults(family.keys), "architectures": [family.kinds[0]], **own}
    side_files = family.side_files(learner.config, learner.specs)
    again = full_config(
        family, family.describe({**config, **side_files.get("generation_config", {})}, Files(None, "", side_files))
    )
    pairs = [(key, _settled(learner.config, key), _settled(again, key)) for key in COMPARED]
    pairs.append(("towers", bool(learner.config.get("towers")), again["towers"]))
    pairs += [("clocks", _clocks(learner.config), _clocks(again)), ("modality", _order(learner.config), _order(again))]
    found = [line for key, ours, theirs in pairs for line in _unlike(ours, theirs, key)]
    if found:
        raise UserError("; ".join(found))
    return config


def _settled(config: Mapping[str, Any], key: str) -> Any:
    """What a stack is made of, whatever the words: widths, heads, and the kind of each layer."""
    if key not in STACKS or (key == "encoder" and not config["encode"]):
        return config[key]
    node = stack_node(config, key)
    count, heads, attention = node["num_layers"], node["num_heads"], node["attention"]
    own = {"head_dim": node["dim"] // heads, "num_kv_heads": heads}
    attention = {**attention, **{name: attention[name] or own[name] for name in own if name in attention}}
    kinds = {letter: {**kind, "mlp": _settled_half(kind["mlp"], node["dim"])} for letter, kind in node["kinds"].items()}
    settled = {"mlp": _settled_half(node["mlp"], node["dim"]), "kinds": kinds}
    return {**node, **settled, "attention": attention, "layers": (node["layers"] * count)[:count]}


def _settled_half(half: Any, dim: int) -> Any:
    """A feed-forward half with the width that it is rounded to."""
    return {**half, "expansion": hidden_width(half, dim) / dim} if half and "expansion" in half else half


def _clocks(config: Mapping[str, Any]) -> Config:
    """The clocks that are used."""
    on = {node["clock"] or name for name, node in config["modality"].items()}
    return {clock: node for clock, node in config["clocks"].items() if clock in on}


def _order(config: Mapping[str, Any]) -> list[str]:
    """The order of the names in one stack, which breaks ties on a clock; those of the encoder have none."""
    return [name for name in config["modality"] if name not in config["encode"]]


def _unlike(ours: Any, again: Any, path: str) -> list[str]:
    """Where two trees differ, except in what is `FREE`."""
    if path in FREE or path.rpartition(".")[2] in FREE:
        return []
    if isinstance(ours, Mapping) and isinstance(again, Mapping):
        return [line for key in {**ours, **again} for line in _unlike(ours.get(key), again.get(key), f"{path}.{key}")]
    if isinstance(ours, float | int) and isinstance(again, list):  # one value for each channel
        return [] if again and all(ours == each for each in again) else [f"{path}={ours}, there {again}"]
    if ours in (None, False) and again in (None, False):  # configs of earlier versions lack the newer switches
        return []
    is_near = isinstance(ours, float | int) and isinstance(again, float | int) and abs(ours - again) < 1e-9
    return [] if ours == again or is_near else [f"{path}={ours}, there {again}"]
