"""What earlier versions stored, as this one would have stored it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmtx.errors import UserError

FORMAT = 10
"""Of stored configs and checkpoints."""
FIRST = 2
"""Of configs that hold no number, and the oldest that is read."""

DESCRIBED = ("config", "specs", "learnt")
"""Parts of a checkpoint that name classes."""

IN_FILES = re.compile(r"mmtx\.(data|modalities|nn|objectives|run|sweep|training)\.(?:[a-z0-9_]+\.)+([A-Z]\w*)")
"""Classes by the files that they were in."""

LOADER = {"packing": False, "on_bad_sample": "raise", "max_bad_share": 0.01}
"""Keys of the loader that the oldest configs lack, and what was done before they came."""
LOADER_KEY = re.compile(
    r"data\.(?:parts\.[^.=]+\.)?(batch_size|eval_batch_size|num_workers|packing|on_bad_sample|max_bad_share)"
)
"""Keys of the loader, which were keys of the data, and of the parts of a mixture, until format 4."""
LAYERS_KEY = re.compile(r"(backbone|encoder)\.window_pattern")
"""The pattern of kinds of layers until format 6; null stood for G alone."""
RECOMPUTATION = "activation_checkpointing"
"""Of stacks, a boolean until format 7."""
RECOMPUTED = {True: "blocks", False: "none", "=true": "=blocks", "=false": "=none"}
NORM_KEY = re.compile(r"(backbone|encoder)\.norm_first")
"""Of stacks, a boolean until format 9: `norm_place`."""
NORM_PLACES = {True: "before", False: "after", "=true": "=before", "=false": "=after"}
NEW: Mapping[Any, Mapping[str, Any]] = {"mmtx.nn.Attention": {"qk_norm_over": "head"}}
"""Keys of classes that they lack until format 9, and what was done before they came."""
CHANGED = ("backbone", "encoder")
"""Parts of a config in which those classes are."""
OVERRIDE = re.compile(r"^([+~]*)([^=]+)(=.*)?$", re.DOTALL)

KINDS = {"G": {"mixer": None, "mlp": None, "window": False}, "L": {"mixer": None, "mlp": None, "window": True}}
"""The kinds of layers that there were before they had a key."""


def migrated_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A stored config, without its number.

    Args:
        config: of any format, or of a part of a config.
        where: it was stored.

    Raises:
        UserError: a newer version has stored it, or none.
    """
    rest = {key: value for key, value in config.items() if key != "format"}
    migrated: dict[str, Any] = _migrated({"config": rest}, config.get("format", FIRST), where)["config"]
    return migrated


def migrated_checkpoint(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A checkpoint of any format: what describes the run, weights and their average, the state of the optimiser and of
    callbacks, progress.

    Raises:
        UserError: a newer version has stored it, or none.
    """
    described = checkpoint["mmtx"]
    stored = _migrated({**checkpoint, **described}, described.get("format"), where)
    return {key: stored[key] for key in checkpoint if key != "mmtx"} | {
        "mmtx": {key: stored[key] for key in stored if key not in checkpoint} | {"format": FORMAT}
    }


def moved(key: str) -> str | None:
    """What a key is called now that has moved; None: it has not."""
    if match := LOADER_KEY.fullmatch(key):
        return f"loader.{match[1]}"
    if match := NORM_KEY.fullmatch(key):
        return f"{match[1]}.norm_place"
    return f"{match[1]}.layers" if (match := LAYERS_KEY.fullmatch(key)) else None


def migrated_sweep(content: dict[str, Any]) -> dict[str, Any]:
    """What is in a ``sweep.json``, with its overrides, which are all texts of its lists, as they are written now."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inner if isinstance(inner, str) else renamed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [renamed(inner) for inner in value]
        return moved_override(value) if isinstance(value, str) else value

    migrated: dict[str, Any] = renamed(content)
    return migrated


def moved_override(text: str) -> str:
    """An override as it is written now; one whose key has not moved stays."""
    match = OVERRIDE.match(text)
    if match is None:
        return text
    key, value, new = match[2], match[3] or "", moved(match[2])
    if key.endswith(f".{RECOMPUTATION}"):
        return f"{match[1]}{key}{RECOMPUTED.get(value, value)}"
    if new is None:
        return text
    if new.endswith(".norm_place"):
        value = NORM_PLACES.get(value, value)
    return f"{match[1]}{new}{'=G' if value == '=null' and new.endswith('.layers') else value}"


def _migrated(stored: dict[str, Any], written: Any, where: str) -> dict[str, Any]:
    if type(written) is not int or not FIRST <= written <= FORMAT:
        raise UserError(f"{where} has format {written}; this version of mmtx reads {FIRST} to {FORMAT}")
    for step in range(written, FORMAT):
        stored = STEPS[step](stored)
    return stored


def _by_public_names(stored: dict[str, Any]) -> dict[str, Any]:
    """Classes by their rooms, and no longer by files: ``mmtx.data.digits.Digits`` -> ``mmtx.data.Digits``."""

    def renamed(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {inner: renamed(inner, content) for inner, content in value.items()}
        if isinstance(value, list):
            return [renamed("", content) for content in value]
        if key in ("_target_", "kind") and isinstance(value, str):
            return "mmtx.Clock" if value == "mmtx.tokens.Clock" else IN_FILES.sub(r"mmtx.\1.\2", value)
        return value

    return {key: renamed(key, value) if key in DESCRIBED else value for key, value in stored.items()}


def _with_a_loader(stored: dict[str, Any]) -> dict[str, Any]:
    """The keys of the loader in a node of their own: ``data.batch_size`` -> ``loader.batch_size``. Parts of a mixture
    had some that nothing read. The oldest configs lack ``lora``."""

    def without_loader(node: Any) -> Any:
        is_node = isinstance(node, dict)
        return {key: node[key] for key in node if not LOADER_KEY.fullmatch(f"data.{key}")} if is_node else node

    config = stored["config"]
    if not isinstance(config.get("data"), dict):
        return stored
    data = without_loader(config["data"])
    if isinstance(data.get("parts"), dict):
        data["parts"] = {name: without_loader(part) for name, part in data["parts"].items()}
    own = {key: value for key, value in config["data"].items() if key not in data}
    loader = {"_target_": "mmtx.data.DataModule", **LOADER, **own}
    return {**stored, "config": {"lora": None, **config, "data": data, "loader": loader}}


def _in_words_of_the_field(stored: dict[str, Any]) -> dict[str, Any]:
    """``labels`` of specs, which are ``class_names``; what was ``learnt`` of the data, which is ``fitted``, and is not
    in the oldest checkpoints; samples ``left_out``, which are skipped."""
    if "specs" not in stored:  # a config alone
        return stored
    renamed = {key: value for key, value in stored.items() if key != "learnt"} | {"fitted": stored.get("learnt", {})}
    renamed["specs"] = {
        name: {"class_names" if key == "labels" else key: value for key, value in spec.items()}
        for name, spec in stored["specs"].items()
    }
    if "module" in stored:
        renamed["module"] = {"skipped_samples": stored["module"].get("left_out", 0), **stored["module"]}
    return renamed


def _with_kinds_of_layers(stored: dict[str, Any]) -> dict[str, Any]:
    """``window_pattern``, which is ``layers``, whose letters are kinds."""

    def renamed(node: Any, kinds: Mapping[str, Any]) -> Any:
        if not isinstance(node, Mapping):
            return node
        layers = {"layers": node["window_pattern"] or "G"} if "window_pattern" in node else {}
        return {**{key: value for key, value in node.items() if key != "window_pattern"}, **layers, **kinds}

    config = stored["config"]
    backbone = {"backbone": renamed(config["backbone"], {"kinds": KINDS})} if "backbone" in config else {}
    encoder = {"encoder": renamed(config["encoder"], {})} if "encoder" in config else {}
    return {**stored, "config": {**config, **backbone, **encoder}}


def _with_optimisers_by_role(stored: dict[str, Any]) -> dict[str, Any]:
    """Everything was stepped by AdamW, at one rate."""
    config = stored["config"]
    if not isinstance(config.get("optim"), dict):
        return stored
    new: dict[str, Any] = {"rates": {}, "matrices": None, "rest": None}
    return {**stored, "config": {**config, "optim": {**new, **config["optim"]}}}


def _with_kinds_of_recomputation(stored: dict[str, Any]) -> dict[str, Any]:
    """Blocks were computed again as a whole, or not at all."""

    def chosen(node: Any) -> Any:
        if not isinstance(node, Mapping) or not isinstance(was := node.get(RECOMPUTATION), bool):
            return node
        return {**node, RECOMPUTATION: RECOMPUTED[was]}

    config = stored["config"]
    stacks = {key: chosen(config[key]) for key in ("backbone", "encoder") if key in config}
    return {**stored, "config": {**config, **stacks}}


def _with_all_classes_alike(stored: dict[str, Any]) -> dict[str, Any]:
    """Classification knew neither weights of classes nor slices."""
    config = stored["config"]
    if not isinstance(config.get("objective"), dict):
        return stored
    new: dict[str, Any] = {"class_weights": None, "slices": []}
    objectives = {
        name: {**node, **{key: value for key, value in new.items() if key not in node}}
        if isinstance(node, Mapping) and node.get("_target_") == "mmtx.objectives.Classify"
        else node
        for name, node in config["objective"].items()
    }
    return {**stored, "config": {**config, "objective": objectives}}


def _with_places_of_norms(stored: dict[str, Any]) -> dict[str, Any]:
    """Norms stood before a half, or after its residual sum, and classes lacked the keys of `NEW`."""

    def placed(node: Any) -> Any:
        if isinstance(node, list):
            return [placed(inner) for inner in node]
        if not isinstance(node, Mapping):
            return node
        rest = {key: placed(value) for key, value in node.items() if key != "norm_first"}
        place = {"norm_place": NORM_PLACES[node["norm_first"]]} if "norm_first" in node else {}
        return {**NEW.get(node.get("_target_"), {}), **rest, **place}

    stacks = {key: placed(value) for key, value in stored["config"].items() if key in CHANGED}
    return {**stored, "config": {**stored["config"], **stacks}}


def with_parameters_renamed(stored: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """A checkpoint in which a part of the names of parameters is another: weights, their average, the state of the
    optimiser, and the patterns of ``freeze`` and ``lora``. For steps.

    Args:
        stored: what a step is given.
        old: one or several whole parts of a name, such as ``attention.qkv``.
        new: what they are called now.
    """
    part = re.compile(rf"(?<![\w-]){re.escape(old)}(?![\w-])")

    def renamed(names: Any) -> Any:
        if isinstance(names, Mapping):
            return {part.sub(new, name): value for name, value in names.items()}
        return [part.sub(new, name) for name in names]

    config, optimizer = dict(stored["config"]), stored.get("optimizer")
    if config.get("freeze"):
        config["freeze"] = renamed(config["freeze"])
    if config.get("lora"):
        names = {key: renamed(config["lora"][key]) for key in ("targets", "ranks", "alphas") if key in config["lora"]}
        config["lora"] = {**config["lora"], **names}
    weights: dict[str, Any] = {key: renamed(stored[key]) for key in ("state_dict", "average") if key in stored}
    if optimizer is not None:
        weights["optimizer"] = {**optimizer, "state": renamed(optimizer["state"])}
    return {**stored, **weights, "config": config}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    2: _by_public_names,
    3: _with_a_loader,
    4: _in_words_of_the_field,
    5: _with_kinds_of_layers,
    6: _with_optimisers_by_role,
    7: _with_kinds_of_recomputation,
    8: _with_all_classes_alike,
    9: _with_places_of_norms,
}
"""What makes each format the next one."""
