"""From a config to its model with its objectives."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from mmtx.batch import Spec
from mmtx.config.construct import construct, construct_as, of_kind
from mmtx.config.schema import OWN_ENCODER, Config, objective_node, stack_node, tokenizer_node, with_kinds
from mmtx.config.targets import packages
from mmtx.encoded import Encoded
from mmtx.errors import ConfigErrors, InvalidValue
from mmtx.experiment.collector import Collector
from mmtx.learner import Learner
from mmtx.modalities.base import Tokenizer
from mmtx.model import MultimodalTransformer, check_encode
from mmtx.nn.backbone import Backbone
from mmtx.nn.low_rank import LoRA, freeze
from mmtx.nn.projector import Projector
from mmtx.nn.width import shrink_heads
from mmtx.parts import patterns_of
from mmtx.tokens import Clock

STAND_IN_DIM = 768
"""Width with which the tokenizers are tried where the backbone cannot be made, so that their errors show too."""

Attempt = Callable[[str, Callable[[], Any]], Any]
Kind = TypeVar("Kind")


def model_part(config: Config) -> Config:
    """What of a config, besides the data, the model and its objectives are made from."""
    parts = ("modality", "backbone", "encode", "encoder", "objective", "type_embeddings", "clocks", "freeze", "lora")
    return {"towers": has_towers(config), **{part: config[part] for part in parts}}


def has_towers(config: Config) -> bool:
    """Whether the two stacks never meet; stored configs of earlier versions do not say."""
    return bool(config.get("towers"))


def rebuild(config: Config, specs: Mapping[str, Spec], plugins: Sequence[str] = ()) -> Learner:
    """The learner of a config in eval mode, without its data; its weights are fresh.

    Args:
        config: of a run.
        specs: what its data declared.
        plugins: packages besides mmtx whose classes the config may name. A stored config cannot name them itself.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    collector, known = Collector.of({**config, "plugins": list(plugins)})
    stacks = make_stacks(known, collector.attempt)
    learner = make_learner(known, specs, *stacks, collector.attempt)
    if collector.messages or learner is None:
        raise ConfigErrors(collector.messages)
    learner.config = config
    return learner.eval()


def make_stacks(config: Config, attempt: Attempt) -> tuple[Backbone | None, Backbone | None]:
    """The backbone, and the encoder if names are to be encoded; None for what cannot be made."""
    encode, plugins = config["encode"], packages(config)
    if attempt("encode", lambda: check_encode(encode, config["modality"])) is None:
        return None, None
    make = partial(construct_as, Backbone, plugins=plugins)
    backbone = attempt(
        "backbone",
        lambda: make(stack_node(config, "backbone"), cross_attention=bool(encode) and not has_towers(config)),
    )
    if not encode or backbone is None:
        return backbone, None
    encoder = attempt("encoder", lambda: make(stack_node(config, "encoder"), cross_attention=False))
    return (backbone, encoder) if encoder is not None else (None, None)


def make_learner(
    config: Config, specs: Mapping[str, Spec], backbone: Backbone | None, encoder: Backbone | None, attempt: Attempt
) -> Learner | None:
    """Tokenizers, model and objectives over the stacks; None if any of them cannot be made."""
    model = _model(config, specs, backbone, encoder, attempt)
    if model is None:
        return None
    plugins = packages(config)
    objectives = {
        name: attempt(f"objective.{name}", partial(construct, objective_node(node), plugins, specs=specs, model=model))
        for name, node in config["objective"].items()
    }
    if None in objectives.values():
        return None
    beside = (name for each in objectives.values() for name in (*each.labels, *each.slice_names))
    names = {*model.names, *beside}
    learner = Learner(
        model=model, objectives=objectives, specs={name: spec for name, spec in specs.items() if name in names}
    )
    shrink_heads(learner)
    for path, change in (("freeze", _freeze), ("lora", _add_updates)):
        if config[path] and attempt(path, partial(change, learner, config)) is None:
            return None
    return learner


def _model(
    config: Config, specs: Mapping[str, Spec], backbone: Backbone | None, encoder: Backbone | None, attempt: Attempt
) -> MultimodalTransformer | None:
    plugins = packages(config)

    def stack(name: str) -> Backbone | None:
        return encoder if encoder is not None and name in config["encode"] else backbone

    tokenizers = {
        name: attempt(f"modality.{name}", partial(_tokenizer, name, node, specs, stack(name), config, plugins))
        for name, node in config["modality"].items()
    }
    clocks = attempt("clocks", lambda: _clocks(config["clocks"], plugins))
    if backbone is None or clocks is None or None in tokenizers.values():
        return None
    model: MultimodalTransformer | None = attempt(
        "backbone",
        lambda: MultimodalTransformer(
            tokenizers=tokenizers,
            backbone=backbone,
            encoder=encoder,
            encode=config["encode"],
            type_embeddings=config["type_embeddings"],
            clocks=clocks,
            towers=has_towers(config),
        ),
    )
    return model


def _clocks(nodes: Config, plugins: Sequence[str]) -> dict[str, Clock]:
    return {name: of_kind(Clock, made) for name, made in construct(nodes, plugins).items()}


def _tokenizer(
    name: str,
    node: Config,
    specs: Mapping[str, Spec],
    backbone: Backbone | None,
    config: Config,
    plugins: Sequence[str],
) -> Any:
    """The tokenizer of a name, with its own encoder where it has one; `backbone`: the stack whose set has it."""
    if name not in specs:
        raise ValueError(f"the data offers no '{name}'; it has {', '.join(specs)}")
    make = partial(construct, tokenizer_node(node), plugins, spec=specs[name])
    dim = backbone.dim if backbone is not None else STAND_IN_DIM
    if not any(node.get(key) for key in OWN_ENCODER):
        return make(dim=dim)
    for key, choice in zip(OWN_ENCODER, ("+backbone", "+modality/projector"), strict=True):
        if not node.get(key):
            raise ValueError(f"an encoder and its projector belong together; add {choice}@modality.{name}.{key}=NAME")
    stack, path = with_kinds(node["encoder"]), f"modality.{name}"
    encoder = _under(f"{path}.encoder", lambda: construct_as(Backbone, stack, plugins, cross_attention=False))
    if backbone is not None and encoder.width_ratio != backbone.width_ratio:
        problem = f"must be as far from its base_width as backbone.dim={backbone.dim}"
        raise InvalidValue(f"{path}.encoder.dim", encoder.dim, problem)
    tokenizer: Tokenizer = make(dim=encoder.dim)
    given: dict[str, Any] = {"from_dim": encoder.dim, "dim": dim, "extent": tokenizer.extent}
    projector: Projector = _under(f"{path}.projector", lambda: construct(node["projector"], plugins, **given))
    types = config["type_embeddings"]
    return Encoded(name=name, tokenizer=tokenizer, encoder=encoder, projector=projector, type_embedding=types)


def _under(key: str, make: Callable[[], Kind]) -> Kind:
    """What is made; raises InvalidValue with its key below `key`."""
    try:
        return make()
    except InvalidValue as error:
        raise error.under(key) from None


def _freeze(learner: Learner, config: Config) -> Learner:
    freeze(learner, [pattern for word in config["freeze"] for pattern in patterns_of(learner, word)])
    if not config["lora"] and not any(parameter.requires_grad for parameter in learner.parameters()):
        raise InvalidValue("freeze", config["freeze"], "leaves nothing to learn")
    return learner


def _add_updates(learner: Learner, config: Config) -> Learner:
    construct_as(LoRA, config["lora"], packages(config)).add(learner)
    return learner
