"""The decision transformer (Chen et al. 2021) of continuous actions, as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.data.files.supported_keys import Keys, harmless, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import SILENT
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.gpt2 import BODY_KEYS, BODY_SAME, UNUSED, body_links
from mmtx.interop.links import Link, both, idle, same
from mmtx.learner import Learner
from mmtx.objectives.action import Action

NAMES = ("return", "state", "action")
EPSILON = 1e-5
"""Of the norm before its blocks, whatever the config has for the others."""


class DecisionTransformer(Family):
    """The decision transformer. Its heads for the next state and return, which it does not train, are kept
    unchanged."""

    name = "decision_transformer"
    kinds = ("DecisionTransformerModel",)
    keys: ClassVar[Keys] = {
        **BODY_KEYS,
        "state_dim": used("numbers of a state", 17),
        "act_dim": used("numbers of an action", 4),
        "hidden_size": used("width", 128),
        "max_ep_len": used("steps of an episode", 4096),
        "action_tanh": used("squashes actions", True),
        "layer_norm_epsilon": used(f"normalisation; must be {EPSILON}, which its first one has always", EPSILON),
        "vocab_size": used("rows of an embedding that nothing reads", 1),
        "n_layer": used("layers", 3),
        "n_head": used("heads", 1),
        "activation_function": used("activation", "relu"),
        "tie_word_embeddings": harmless("there is no head for ids"),
    }
    generation = SILENT
    aliases: ClassVar[Mapping[str, str]] = {
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    same = {**BODY_SAME, "backbone.dim": "hidden_size", "objective.action.squash": "action_tanh"}
    renames = ((r"^transformer\.", "encoder."),)
    unused = UNUSED
    added = {name: (f"model.tokenizers.{name}.projection.bias",) for name in NAMES}

    def describe(self, config: Config, files: Files) -> Described:
        dim, context = config["hidden_size"], max(1, config["n_positions"] // 3)
        if config["layer_norm_epsilon"] != EPSILON:
            own = config["layer_norm_epsilon"]
            raise UserError(
                f"layer_norm_epsilon={own}: the family's first normalisation has {EPSILON}, mmtx one for all"
            )
        values = self.from_same(config) | feed_forward(config["activation_function"], config["n_inner"] or 4 * dim, dim)
        values |= {"data.context": min(context, config["max_ep_len"]), "data.max_steps": config["max_ep_len"]}
        choices = ["data=trajectories", "modality=[return,state,action]", "backbone=decision_transformer"]
        times = Field((None,), torch.long, config["max_ep_len"], context, rising=True)
        sizes = (1, config["state_dim"], config["act_dim"])
        specs = {
            name: Spec({"values": Field((None, size), torch.float32, max_length=context), "times": times})
            for name, size in zip(NAMES, sizes, strict=True)
        }
        return Described([*choices, "objective=[action]"], values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        context = specs["state"].max_length
        return self.to_same(ours) | {
            "activation_function": activation_name(at(ours, "backbone.mlp.activation")),
            "n_inner": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "n_positions": 3 * context,
            "embd_pdrop": at(ours, "backbone.dropout"),
            "state_dim": specs["state"].fields["values"].shape[1],
            "act_dim": specs["action"].fields["values"].shape[1],
            "max_ep_len": specs["state"].fields["times"].num_classes,
        }

    def links(self, config: Config) -> list[Link]:
        dim, state = config["hidden_size"], config["state_dim"]
        norm = "model.backbone.input_norm"
        positions = (config["n_positions"], dim)
        links = [
            same(f"{norm}.weight", "embed_ln.weight"),
            Link(
                (f"{norm}.bias",),
                ("embed_ln.bias", "encoder.wpe.weight"),
                lambda theirs: [theirs[0] + theirs[1][0]],  # all tokens have position 0
                lambda ours: [ours[0], torch.zeros(positions)],
            ),
            same("model.clock_embeddings.step.table.weight", "embed_timestep.weight"),
            *body_links(config["n_layer"], "encoder."),
            *both("objectives.action.head", "predict_action.0"),
            idle("encoder.wte.weight", (config["vocab_size"], dim)),
        ]
        for name in NAMES:
            links += both(f"model.tokenizers.{name}.projection", f"embed_{name}")
        for name, size in (("state", state), ("return", 1)):
            links += [idle(f"predict_{name}.weight", (size, dim)), idle(f"predict_{name}.bias", (size,))]
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {
            "states": torch.zeros(2, 4, config["state_dim"]),
            "actions": torch.zeros(2, 4, config["act_dim"]),
            "returns_to_go": torch.zeros(2, 4, 1),
            "timesteps": torch.arange(4).expand(2, -1),
        }

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """Episodes may be padded at the start, as the family does, or at the end; outputs of padding are zeros."""
        given = {"return": inputs["returns_to_go"], "state": inputs["states"], "action": inputs["actions"]}
        times, mask = inputs["timesteps"], inputs.get("attention_mask")
        real = torch.ones_like(times, dtype=torch.bool) if mask is None else mask.bool()
        front = (~real).long().argsort(dim=1, stable=True)  # real steps first
        lengths = real.sum(1)
        times = times.gather(1, front)
        behind = torch.arange(times.shape[1], device=times.device) >= lengths[:, None]
        falls = (times[:, 1:] <= times[:, :-1]) & ~behind[:, 1:]
        if not torch.compiler.is_exporting() and bool(falls.any()):
            raise UserError("timesteps: must rise from step to step")
        fields = {
            name: {"values": values.gather(1, front[..., None].expand_as(values)), "times": times}
            for name, values in given.items()
        }
        full = mask is None or bool(real.all())
        batch = Batch(fields, dict.fromkeys(NAMES, lengths), dict.fromkeys(NAMES, full))
        states, objective = learner.model(batch), learner.objective("action")
        assert isinstance(objective, Action)
        steps, rest = times.shape[1], (learner.origin or {}).get("rest", {})
        hidden = torch.stack([states.tokens(name) for name in NAMES], dim=2)
        outputs = {"action_preds": objective.predict(states, steps), "last_hidden_state": hidden.flatten(2)}
        for name in ("state", "return"):
            if f"predict_{name}.weight" in rest:
                weight, bias = rest[f"predict_{name}.weight"], rest.get(f"predict_{name}.bias")
                outputs[f"{name}_preds"] = F.linear(states.tokens("action"), weight, bias)
        back = {key: torch.zeros_like(value) for key, value in outputs.items()}
        for key, value in outputs.items():
            index = front[..., None].expand_as(value)
            back[key] = back[key].scatter(1, index, value.masked_fill(behind[..., None], 0.0))
        back["last_hidden_state"] = back["last_hidden_state"].unflatten(2, (3, -1)).flatten(1, 2)
        return back
