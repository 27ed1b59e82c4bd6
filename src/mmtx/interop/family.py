"""The interface of a public family: the mapping of its config and of its weights to ours."""

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
from mmtx.data.files.supported_keys import Keys, defaults, used
from mmtx.data.text.chat_template import ChatTemplates
from mmtx.data.text.pretrained_vocabulary import Numbers, Pretrained
from mmtx.errors import UserError
from mmtx.interop.common_keys import CONFIG
from mmtx.interop.links import Link, Weights, apart, renamed
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.seq2seq import Seq2Seq

Config = dict[str, Any]


@dataclass(frozen=True)
class Files:
    """The files beside the weights.

    Attributes:
        tokenizer: of the `tokenizers` library, or None.
        folder: of the tokenizer.
        side_files: content of ``generation_config`` and ``preprocessor_config``, by name.
        spelt: spelling of the tokens of some roles (``cls_token``), as far as the files give it.
        chat: templates of conversations, if there are any.
    """

    tokenizer: Any
    folder: str
    side_files: Mapping[str, Config]
    spelt: Mapping[str, str] = field(default_factory=dict)
    chat: ChatTemplates | None = None

    def vocabulary(
        self,
        *,
        size: int,
        begin: int | None,
        end: int | None,
        prefix: Sequence[int] = (),
        more_ends: Sequence[int] = (),
    ) -> Vocabulary:
        if self.tokenizer is None:
            return Numbers(size=size, begin=begin, end=end, more_ends=more_ends)
        return Pretrained.of(
            self.tokenizer, begin=begin, end=end, prefix=prefix, size=size, more_ends=more_ends, chat=self.chat
        )

    def decoder_vocabulary(self, config: Config) -> Vocabulary:
        """That of a model that continues texts. Any id of ``eos_token_id`` ends one; the end of a given text is that of
        the tokenizer, if it is one of them. Ids beyond the vocabulary are left out: configs of small models may have
        those of large ones."""
        size = config["vocab_size"]
        ids = [number for number in ids_of(config, "eos_token_id") if 0 <= number < size]
        ids.sort(key=lambda number: number != self.mark("eos_token", ""))
        end = ids[0] if ids else None
        return self.vocabulary(size=size, begin=None, end=end, prefix=self.prefix_ids(), more_ends=ids[1:])

    def token(self, spelt: str, default: int | None = None) -> int | None:
        """Id of a token; the default without a tokenizer, or where it has no such token."""
        found = self.tokenizer.token_to_id(spelt) if self.tokenizer is not None else None
        return default if found is None else found

    def prefix_ids(self) -> list[int]:
        """Ids that the tokenizer puts before every text, if it puts none after it."""
        processor = {} if self.tokenizer is None else json.loads(self.tokenizer.to_str()).get("post_processor") or {}
        steps = [
            step for step in [processor, *processor.get("processors", [])] if step.get("type") == "TemplateProcessing"
        ]
        *marks, last = steps[0]["single"] if steps else [{}]
        if "Sequence" not in last:
            return []
        ids = {name: token["ids"] for name, token in steps[0]["special_tokens"].items()}
        return [i for mark in marks for i in ids[mark["SpecialToken"]["id"]]]

    def mark(self, role: str, usual: str) -> int | None:
        """Id of the token of a role, with the usual spelling unless the files give another."""
        return self.token(self.spelt.get(role, usual))


@dataclass(frozen=True)
class Described:
    """A public config as one of mmtx.

    Attributes:
        choices: options of groups, as on the command line.
        values: ``{path: value}``, which override those of the choices.
        specs: that data of the model would declare.
    """

    choices: list[str]
    values: dict[str, Any]
    specs: dict[str, Spec]


class Family(ABC):
    """A public family of models."""

    name: ClassVar[str]
    """The ``model_type`` of its config.json."""
    keys: ClassVar[Keys]
    """All keys of its config.json. Unknown ones are refused."""
    parts: ClassVar[Mapping[str, Keys]] = {}
    """``{key: all keys of the config that stands there}``, where its config.json has several in one."""
    generation: ClassVar[Keys]
    """Keys of its generation_config.json, whose values override those of config.json."""
    preprocessor: ClassVar[Keys] = {}
    """Keys of its preprocessor_config.json."""
    backbone: ClassVar[str] = ""
    """Its choice of ``conf/backbone``; empty: that of its name."""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names of keys in config.json."""
    nullable: ClassVar[Sequence[str]] = ()
    """Keys of which null is not the default."""
    vocabularies: ClassVar[Sequence[str]] = ()
    """Groups of which a tokenizer beside the weights is the choice."""
    kinds: ClassVar[Sequence[str]]
    """Architectures that mmtx reads, the default first."""
    same: ClassVar[Mapping[str, str]]
    """``{path of ours: key of theirs}`` where both have the same value."""
    renames: ClassVar[Sequence[tuple[str, str]]] = ()
    """``(pattern, replacement)`` of names of weights in older and newer files, and in models without a head."""
    modules: ClassVar[Sequence[tuple[str, str]]] = ()
    """``(pattern, replacement)`` of names of weights that modules of `transformers` have, where files have others."""
    fused: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Weights of all experts in one, and what each is in current files, as `apart` takes them; names are those after
    `renames`."""
    body: ClassVar[str] = ""
    """Its architecture without a head."""
    prefix: ClassVar[str] = ""
    """Prefix of the body's weights in models with a head."""
    copies: ClassVar[Mapping[str, str]] = {}
    """``{name: name of an equal weight}``; a file may lack either."""
    unused: ClassVar[str] = "(?!)"
    """Pattern of weights that are ignored."""
    left_out: ClassVar[str] = "(?!)"
    """Pattern of weights that a model is imported without, which is reported."""

    text_inputs: ClassVar[Sequence[str]] = ("input_ids", "attention_mask")
    """Inputs that its tokenizer returns."""
    byte_level_class: ClassVar[str] = ""
    """The class of its byte-level BPE tokenizer, if that adds marks that are in no file."""

    added: ClassVar[Mapping[str, Sequence[str]]] = {}
    """``{name of the set: our weights}`` of which one is added to every token of the name, and to no other: the family
    has no type embeddings, and so they are exported as part of these weights."""

    def canonical(self, weights: Weights) -> Weights:
        """Weights under the names of current public files."""
        current = apart(renamed(weights, self.renames), self.fused)
        for copy, original in self.copies.items():  # a file may have one tensor under either name
            if copy in current:
                current.setdefault(original, current[copy])
        return current

    def complete(self, config: Config, weights: Weights) -> Config:
        """The config with all missing keys, some of which follow from the weights.

        Raises:
            UserError: mmtx cannot follow it.
        """
        config = dict(config)
        for alias, key in self.aliases.items():
            value = config.pop(alias, None)
            if value is not None and config.setdefault(key, value) != value:
                raise UserError(f"this {self.name} has {key}={config[key]} and {alias}={value}, which are one")
        null = {key for key in config if key.endswith("_token_id") or key in self.nullable}
        given = {key: value for key, value in config.items() if value is not None or key in null}
        return {**defaults(self.keys), **given, "architectures": [self._kind(config.get("architectures"))]}

    def _kind(self, declared: Any) -> str:
        """The architecture that a config declares, by its current name."""
        kinds = declared_kinds({"architectures": declared})
        if not kinds:
            return self.kinds[0]
        if kinds[0] not in self.kinds or len(kinds) > 1:
            raise UserError(f"this {self.name} is a {', '.join(kinds)}; mmtx reads {', '.join(self.kinds)}")
        return kinds[0]

    @classmethod
    def config_keys(cls) -> Keys:
        """All keys of its config.json, with aliases and the generation keys of older versions."""
        aliases = {alias: used(f"another name of `{key}`") for alias, key in cls.aliases.items()}
        return {**CONFIG, **cls.generation, **aliases, **cls.keys}

    @abstractmethod
    def describe(self, config: Config, files: Files) -> Described:
        """The public config as one of mmtx."""

    @abstractmethod
    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        """The inverse of `describe`. Raises KeyError or UserError where ours is not of this family."""

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        """Content of files beside config.json, by name; that of ``config`` overrides the config."""
        return {}

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        """Ids of the tokens with a role."""
        ids = {f"{role}_token": ids_of(config, f"{role}_token_id") for role in ("bos", "eos", "pad")}
        ids["eos_token"] = [*vocabulary.ends, *ids["eos_token"]]
        return {role: found[0] for role, found in ids.items() if found}

    @abstractmethod
    def links(self, config: Config) -> list[Link]:
        """The mapping between our weights and theirs."""

    def module_links(self, config: Config) -> list[Link]:
        """The mapping to the weights of modules of `transformers`, where one weight of a file is several there."""
        return self.links(config)

    @abstractmethod
    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """The family's outputs for its inputs."""

    @abstractmethod
    def example(self, config: Config) -> dict[str, Tensor]:
        """Inputs of two samples, unpadded."""

    def from_same(self, config: Config) -> dict[str, Any]:
        return {path: config[key] for path, key in self.same.items()}

    def to_same(self, ours: Mapping[str, Any]) -> Config:
        return {key: at(ours, path) for path, key in self.same.items()}


RENAMED = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}
"""Architectures under their former names."""


def declared_kinds(config: Mapping[str, Any]) -> list[str]:
    """The architectures that a config declares, by their current names. Raises UserError for something else."""
    declared = config.get("architectures") or []
    if not isinstance(declared, str | list):
        raise UserError(f"architectures={declared!r} is no list of names")
    kinds = [re.sub("^(TF|Flax)", "", str(kind)) for kind in ([declared] if isinstance(declared, str) else declared)]
    return [RENAMED.get(kind, kind) for kind in kinds]


def ids_of(config: Mapping[str, Any], key: str) -> list[int]:
    """The ids that a key has: none, one, or a list. Raises UserError for something else."""
    value = config.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(i) is int for i in ids):
        raise UserError(f"{key}={value!r} is no id")
    return ids


def one_id(config: Mapping[str, Any], key: str) -> int | None:
    """An id, which may be in a list. Raises UserError for several ids, or something else."""
    ids = ids_of(config, key)
    if len(ids) > 1:
        raise UserError(f"{key}={ids}: this family ends a text at one id; give the one that should, {key}={ids[0]}")
    return ids[0] if ids else None


def end_ids(vocabulary: Vocabulary | None) -> int | list[int] | None:
    """The value of ``eos_token_id``: the id that ends a text, or a list of several."""
    ends = [] if vocabulary is None else [*vocabulary.ends]
    return ends if len(ends) > 1 else next(iter(ends), None)


def at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path. Raises KeyError."""
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            raise KeyError(path)
        node = node[key]
    return node


def head_outputs(learner: Learner, kind: type[NextToken | Seq2Seq], hidden: Tensor, is_body: bool) -> dict[str, Tensor]:
    """The scores of ids by the objective of a kind; of a body without a head, its hidden states."""
    if is_body:
        return {"last_hidden_state": hidden}
    objective = next(each for each in learner.objectives.values() if isinstance(each, kind))
    return {"logits": objective.head.logits(learner.model, hidden)}


def text_batch(name: str, ids: Tensor, mask: Tensor | None, **more: Tensor | None) -> Batch:
    """A batch of texts that are padded at the end.

    Raises:
        UserError: texts are padded in front, which would change their positions.
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
