"""What every public family says of itself: how its config becomes ours, and which of its weights are which of ours."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch, Spec, Vocabulary
from mmtx.data.files.known_keys import Keys, defaults, used
from mmtx.data.text.pretrained_vocabulary import Numbers, Pretrained
from mmtx.errors import UserError
from mmtx.interop.common_keys import CONFIG
from mmtx.interop.links import Link, Weights
from mmtx.learner import Learner

Config = dict[str, Any]


@dataclass(frozen=True)
class Files:
    """What came with the weights.

    Attributes:
        tokenizer: of the `tokenizers` library, or None.
        place: where it was found.
        spelt: how its tokens of some roles are spelt (``cls_token``), as far as its files say.
        said: content of the small files beside (``generation_config``, ``preprocessor_config``), by name.
    """

    tokenizer: Any
    place: str
    said: Mapping[str, Config]
    spelt: Mapping[str, str] = field(default_factory=dict)

    def vocabulary(self, *, size: int, begin: int | None, end: int | None, prefix: Sequence[int] = ()) -> Vocabulary:
        if self.tokenizer is None:
            return Numbers(size=size, begin=begin, end=end)
        return Pretrained.of(self.tokenizer, begin=begin, end=end, prefix=prefix, size=size)

    def token(self, spelt: str, default: int | None = None) -> int | None:
        """Id of a token; the default where there is no tokenizer, or no such token in it."""
        found = self.tokenizer.token_to_id(spelt) if self.tokenizer is not None else None
        return default if found is None else found

    def in_front(self) -> list[int]:
        """Ids that the tokenizer puts in front of every text, where it puts none behind."""
        said = {} if self.tokenizer is None else json.loads(self.tokenizer.to_str()).get("post_processor") or {}
        steps = [step for step in [said, *said.get("processors", [])] if step.get("type") == "TemplateProcessing"]
        *marks, last = steps[0]["single"] if steps else [{}]
        if "Sequence" not in last:
            return []
        ids = {name: token["ids"] for name, token in steps[0]["special_tokens"].items()}
        return [i for mark in marks for i in ids[mark["SpecialToken"]["id"]]]

    def mark(self, role: str, usual: str) -> int | None:
        """Id of the token of a role, which is spelt as usual unless the files have it otherwise."""
        return self.token(self.spelt.get(role, usual))


@dataclass(frozen=True)
class Described:
    """A config of theirs as one of ours.

    Attributes:
        choices: options of groups, as on the command line.
        values: ``{path: value}``, laid over what the choices give.
        specs: what data would declare.
    """

    choices: list[str]
    values: dict[str, Any]
    specs: dict[str, Spec]


class Family(ABC):
    """One public family. All of its keys are those of the files that are public."""

    name: ClassVar[str]
    """The ``model_type`` of its config.json."""
    keys: ClassVar[Keys]
    """Of its config.json: every key that is known. An unknown one is refused."""
    generation: ClassVar[Keys]
    """Of its generation_config.json; its values go before those of config.json."""
    preprocessor: ClassVar[Keys] = {}
    """Of its preprocessor_config.json."""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names of keys in config.json."""
    kinds: ClassVar[Sequence[str]]
    """Architectures that mmtx reads, the usual one first."""
    same: ClassVar[Mapping[str, str]]
    """``{path of ours: key of theirs}`` where both have the same value."""
    renames: ClassVar[Sequence[tuple[str, str]]] = ()
    """Other names of keys, as patterns: of older files, of newer ones, of models without a head."""
    body: ClassVar[str] = ""
    """What its architecture without a head is called."""
    prefix: ClassVar[str] = ""
    """Of all keys of the body, where there is a head; files of a body alone go without."""
    copies: ClassVar[Mapping[str, str]] = {}
    """``{key: key of what it holds a second time}``; a file may lack them."""
    unused: ClassVar[str] = "(?!)"
    """Pattern of keys that hold nothing."""

    text_inputs: ClassVar[Sequence[str]] = ("input_ids", "attention_mask")
    """What its tokenizer gives."""
    byte_level_class: ClassVar[str] = ""
    """Its tokenizer of byte-level pairs, where that adds marks that no file holds."""

    added: ClassVar[Mapping[str, Sequence[str]]] = {}
    """``{name of the set: keys of ours}`` of which every token of the name has one added, and no other token has: there
    the embedding of its type is added in the family's files, which have none."""

    def canonical(self, weights: Weights) -> Weights:
        """Weights under the names that public files have."""
        renamed: Weights = {}
        for key, value in weights.items():
            for pattern, replacement in self.renames:
                key = re.sub(pattern, replacement, key)
            renamed[key] = value
        for copy, original in self.copies.items():  # of one tensor with two names, a file may hold either
            if copy in renamed:
                renamed.setdefault(original, renamed[copy])
        return renamed

    def complete(self, config: Config, weights: Weights) -> Config:
        """The config with all that it leaves out, some of which only the weights show.

        Raises:
            UserError: it asks for what mmtx cannot do.
        """
        config = dict(config)
        for alias, key in self.aliases.items():
            value = config.pop(alias, None)
            if value is not None and config.setdefault(key, value) != value:
                raise UserError(f"this {self.name} has {key}={config[key]} and {alias}={value}, which are one")
        given = {key: value for key, value in config.items() if value is not None or key.endswith("_token_id")}
        return {**defaults(self.keys), **given, "architectures": [self._kind(config.get("architectures"))]}

    def _kind(self, declared: Any) -> str:
        """The architecture that a config declares, by the name that it has today."""
        if not declared:
            return self.kinds[0]
        declared = [declared] if isinstance(declared, str) else declared
        name = re.sub("^(TF|Flax)", "", declared[0])
        name = RENAMED.get(name, name)
        if name not in self.kinds or len(declared) > 1:
            raise UserError(f"this {self.name} is a {', '.join(declared)}; mmtx reads {', '.join(self.kinds)}")
        return name

    @classmethod
    def config_keys(cls) -> Keys:
        """Of its config.json, other names and what older versions kept there included."""
        aliases = {alias: used(f"another name of `{key}`") for alias, key in cls.aliases.items()}
        return {**CONFIG, **cls.generation, **aliases, **cls.keys}

    @abstractmethod
    def describe(self, config: Config, files: Files) -> Described: ...

    @abstractmethod
    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        """Undoes `describe`. Raises KeyError or UserError where ours is nothing of this family."""

    def beside(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        """Small files by name, of what a config there does not say; ``config`` is laid over it."""
        return {}

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        """Ids of the tokens that have a role in its texts."""
        ids = {f"{role}_token": config.get(f"{role}_token_id") for role in ("bos", "eos", "pad")}
        return {role: number for role, number in ids.items() if isinstance(number, int)}

    @abstractmethod
    def links(self, config: Config) -> list[Link]: ...

    @abstractmethod
    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """From the family's own inputs to its own outputs."""

    @abstractmethod
    def example(self, config: Config) -> dict[str, Tensor]:
        """Inputs of two samples, unpadded."""

    def from_same(self, config: Config) -> dict[str, Any]:
        return {path: config[key] for path, key in self.same.items()}

    def to_same(self, ours: Mapping[str, Any]) -> Config:
        return {key: at(ours, path) for path, key in self.same.items()}


RENAMED = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}
"""Architectures that had another name once."""


def one_id(config: Mapping[str, Any], key: str) -> int | None:
    """An id that may stand in a list. Raises UserError where several stand there, or something else."""
    value = config.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if len(ids) > 1:
        raise UserError(f"{key}={value}: mmtx ends a text at one id; give the one that should, {key}={ids[0]}")
    if not all(type(i) is int for i in ids):
        raise UserError(f"{key}={value!r} is no id")
    return ids[0] if ids else None


ACTIVATIONS: dict[str, Config] = {
    "gelu": {"_target_": "torch.nn.GELU"},
    "gelu_new": {"_target_": "torch.nn.GELU", "approximate": "tanh"},
    "relu": {"_target_": "torch.nn.ReLU"},
    "silu": {"_target_": "torch.nn.SiLU"},
}
ALSO = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "swish": "silu", "gelu_python": "gelu"}


def activation(name: str) -> Config:
    """Raises UserError if mmtx does not know it."""
    known = ACTIVATIONS.get(ALSO.get(name, name))
    if known is None:
        raise UserError(f"the activation {name} is none of {', '.join([*ACTIVATIONS, *ALSO])}")
    return known


def activation_name(node: Mapping[str, Any]) -> str:
    found = next((name for name, known in ACTIVATIONS.items() if dict(node) == known), None)
    if found is None:
        raise UserError(f"the activation {dict(node)} has no name in public families")
    return found


def hidden_width(node: Mapping[str, Any], dim: int) -> int:
    """Of a feed-forward half, as `MLP` rounds it."""
    multiple = node["multiple_of"]
    return multiple * max(1, round(dim * node["expansion"] / multiple))


def feed_forward(name: str, hidden: int, dim: int, path: str = "backbone") -> dict[str, Any]:
    return {
        f"{path}.mlp.activation": activation(name),
        f"{path}.mlp.expansion": hidden / dim,
        f"{path}.mlp.multiple_of": 1,
    }


def at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path. Raises KeyError."""
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            raise KeyError(path)
        node = node[key]
    return node


def text_batch(name: str, ids: Tensor, mask: Tensor | None, **more: Tensor | None) -> Batch:
    """Texts whose real ids come first.

    Raises:
        UserError: some are padded in front; positions would then be others than the family's own.
    """
    lengths, full = torch.full((ids.shape[0],), ids.shape[1], device=ids.device), True
    if mask is not None:
        lengths = mask.long().sum(1)
        if not torch.equal(mask.bool(), _first(lengths, ids.shape[1])):
            raise UserError("attention_mask: texts must be padded at their end, real ids first")
        full = bool((lengths == ids.shape[1]).all())
    fields = {"ids": ids, **{key: value for key, value in more.items() if value is not None}}
    return Batch({name: fields}, {name: lengths}, {name: full})


def _first(lengths: Int[Tensor, " B"], count: int) -> Tensor:
    return torch.arange(count, device=lengths.device)[None] < lengths[:, None]
