"""A name that comes into the set of a model, with the stack that another model has for it as its own encoder."""

from typing import Any

from mmtx.batch import Spec
from mmtx.config.compose import compose
from mmtx.config.schema import tokenizer_node
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.run.init_parts import name_there, stack_of_name


def add_name(name: str, other: Learner, projector: str, config: dict[str, Any], specs: dict[str, Spec]) -> None:
    """Puts a name before all others of a config, in place, and its spec among the specs.

    Args:
        name: of the set; in the other model it may have another, if that is the only one there.
        other: whose tokenizer and stack it gets.
        projector: an option of ``modality/projector``.
        config: of the model that the name comes into.
        specs: likewise.

    Raises:
        UserError: there is such a name already, or none in the other model, or no such projector.
    """
    if name in config["modality"]:
        raise InvalidValue("add", name, f"is in the set already: {', '.join(config['modality'])}")
    there = name_there(name, other)
    if other.config is None or there not in other.model.names:
        raise InvalidValue("add", name, f"is of no name of the other model; it has {', '.join(other.model.names)}")
    node = tokenizer_node(other.config["modality"][there])
    choice = f"+modality/projector@modality.image.projector={projector}"
    made = compose(["data=digits", "modality=[image]", "objective=[classify]", choice])["modality"]["image"][
        "projector"
    ]
    own = {**node, "encoder": stack_of_name(other.config, there), "projector": made}
    config["modality"] = {name: own, **config["modality"]}
    specs[name] = other.specs[there]
