"""The weights that a run begins with: those of one model, or parts of several (``init_from={image: A, text: B}``)."""

from collections.abc import Callable, Mapping
from typing import Any

from mmtx.config.schema import OWN_ENCODER, Config, stack_node, tokenizer_node
from mmtx.encoded import Encoded
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.run.init_from import Report, check_any_fits, initialise_from, set_otherwise, take
from mmtx.run.offer import Offer, in_floats, offer_of, read_other


def begin(learner: Learner, config: Config) -> list[Report]:
    """Takes over the weights that ``init_from`` names, in place; gives a report of each place.

    Of several, a name with an encoder of its own gets that encoder, its tokenizer and its positions from the stack that
    has the name there, or its only name. Another name of the set stands for all that is no such encoder. What a
    part has by the same name and in another shape is refused.

    Raises:
        UserError: a place cannot be read.
        InvalidValue: a part is no name of the set, two are the same part, or a part does not fit.
    """
    places, plugins = config["init_from"], config["plugins"]
    if isinstance(places, str):
        return [initialise_from(learner, places, plugins, config)]
    check_parts(places, config)
    return [
        begin_part(learner, name, read_other(place, config["plugins"]), Report(place, f"init_from.{name}"), config)
        for name, place in places.items()
    ]


def check_parts(places: Mapping[str, str], config: Config) -> None:
    """Raises InvalidValue where ``init_from`` names a part that there is not, or one of them twice."""
    names = config["modality"]
    for name, place in places.items():
        if name not in names:
            raise InvalidValue(f"init_from.{name}", place, "is of no name of the set", f"one of {', '.join(names)}")
    rest = [name for name in places if not _has_encoder(names[name])]
    if len(rest) > 1:
        problem = f"is of what init_from.{rest[0]} is of: all that is no encoder of one name"
        raise InvalidValue(f"init_from.{rest[1]}", places[rest[1]], problem)


def rest_of(places: Mapping[str, str], config: Config) -> str | None:
    """Where all that is no encoder of one name comes from."""
    return next((place for name, place in places.items() if not _has_encoder(config["modality"][name])), None)


def _has_encoder(node: Config) -> bool:
    return all(node.get(key) for key in OWN_ENCODER)


def begin_part(learner: Learner, name: str, other: Learner, report: Report, config: Config) -> Report:
    """Takes over one part, in place: see `begin`.

    Raises:
        InvalidValue: it does not fit.
    """
    model, own = learner.model, learner.model.tokenizer(name)
    if isinstance(own, Encoded):
        there = name_there(name, other)
        prefix, offer = f"model.tokenizers.{name}.", offer_of(other, _into_encoder(name, there, other))
        stack, theirs = own.encoder, other.model.stack_of(there)

        def may_take(ours: str) -> bool:
            return ours.startswith(prefix)

        _compare(report, name, config, there, other)
        key, inside = f"modality.{name}.encoder", f"{prefix}encoder."
    else:
        within = tuple(f"model.tokenizers.{n}." for n in model.names if isinstance(model.tokenizer(n), Encoded))
        offer = offer_of(other)

        def may_take(ours: str) -> bool:
            return not ours.startswith(within)

        stack, theirs, key, inside = model.backbone, other.model.backbone, "backbone", "model.backbone."
    take(learner, may_take, offer, report)
    _check_shapes(report, learner, offer)
    check_any_fits(report, stack, theirs, inside, key)
    return report


def name_there(name: str, other: Learner) -> str:
    """What a name is called in another model: the same, or its only one."""
    names = other.model.names
    return name if name in names or len(names) > 1 else names[0]


def stack_of_name(config: Mapping[str, Any], name: str) -> Config:
    """The config of the stack that a name's tokens go through first: its own encoder, or what attends over its set."""
    own = config["modality"][name].get("encoder")
    return own or stack_node(config, "encoder" if name in config["encode"] else "backbone")


def _into_encoder(name: str, there: str, other: Learner) -> Callable[[str], str | None]:
    """From names of weights there to those of the own encoder of a name here."""
    prefix, encoded = f"model.tokenizers.{name}.", there in other.model.encoded
    tokenizer = other.model.tokenizers[there] if there in other.model.names else None
    places = {
        f"model.tokenizers.{there}.": "" if isinstance(tokenizer, Encoded) else "tokenizer.",
        f"model.position_embeddings.{there}.": "positions.",
        f"model.type_embeddings.{there}": "type_embedding",
        f"model.{'encoder' if encoded else 'backbone'}.": "encoder.",
    }
    if isinstance(tokenizer, Encoded):
        places = {key: value for key, value in places.items() if not value}

    def renamed(key: str) -> str | None:
        return next((prefix + own + key.removeprefix(p) for p, own in places.items() if key.startswith(p)), None)

    return renamed


def _compare(report: Report, name: str, config: Config, there: str, other: Learner) -> None:
    """Notes keys by which the other computes in another way."""
    if other.config is None or there not in other.config["modality"]:
        return
    node, its, stack = config["modality"][name], other.config["modality"][there], stack_of_name(other.config, there)
    ours = {"modality": {name: tokenizer_node(node)}, "encoder": node["encoder"]}
    theirs = {"modality": {name: tokenizer_node(its)}, "encoder": {**stack, "kinds": node["encoder"]["kinds"]}}
    report.set_otherwise.extend(set_otherwise(ours, theirs))


def _check_shapes(report: Report, learner: Learner, offer: Offer) -> None:
    """Raises InvalidValue for what has the same name there and another shape, but for rows of codes."""
    values, _ = in_floats(learner)
    for key in report.new:
        if key in offer.weights and key not in offer.coded:
            here, there = (tuple(each[key].shape) for each in (values, offer.weights))
            raise InvalidValue(report.key, report.place, f"has {key} of shape {there}, and here it is {here}")
