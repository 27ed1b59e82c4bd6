"""What Mixtral, Qwen3-MoE and OLMoE share beside Llama: experts in the place of the feed-forward half."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.family import Config, at
from mmtx.interop.feed_forward import activation, activation_name, feed_forward, hidden_width
from mmtx.interop.links import Link, by_expert, same
from mmtx.interop.rotary_decoder import RotaryDecoder

DENSE = "D"
"""The letter of layers without experts."""

BALANCE_KEYS: Keys = {
    "output_router_logits": used("whether training adds the balance of experts: `objective.experts`", False),
    "router_aux_loss_coef": used(
        "its weight; mmtx takes the mean of the layers' balances, `transformers` the balance of all layers together",
        0.001,
    ),
}


class ExpertDecoder(RotaryDecoder):
    """A decoder of Llama's kind whose layers have experts, or some of them."""

    choices: ClassVar[Sequence[str]] = ("backbone/mlp=experts",)
    fused: ClassVar[Mapping[str, Sequence[str]]] = {
        r"experts\.gate_up_proj$": ("experts.{}.gate_proj.weight", "experts.{}.up_proj.weight"),
        r"experts\.down_proj$": ("experts.{}.down_proj.weight",),
    }
    count: ClassVar[str] = "num_local_experts"
    """The key of the number of experts."""
    width: ClassVar[str] = "intermediate_size"
    """The key of the hidden width of one."""
    maps: ClassVar[Sequence[str]] = ("gate_proj", "up_proj", "down_proj")
    """The linear maps of one."""
    module: ClassVar[str] = "mlp"
    """The prefix of router and experts in a layer."""

    def objectives(self, config: Config) -> list[str]:
        return ["next_token", "experts"] if config["output_router_logits"] else ["next_token"]

    def read_feed_forward(self, config: Config) -> dict[str, Any]:
        values = feed_forward(config["hidden_act"], config[self.width], config["hidden_size"]) | {
            "backbone.mlp.gated": True,
            "backbone.mlp.bias": False,
            "backbone.mlp.num_experts": config[self.count],
            "backbone.mlp.router.top_k": config["num_experts_per_tok"],
            "backbone.mlp.router.normalise": config.get("norm_topk_prob", True),
        }
        if config["output_router_logits"]:
            values |= {"objective.experts.balance": config["router_aux_loss_coef"], "objective.experts.z": 0.0}
        return values

    def write_feed_forward(self, ours: Mapping[str, Any]) -> Config:
        half, router = at(ours, "backbone.mlp"), at(ours, "backbone.mlp.router")
        balance = at(ours, "objective").get("experts")
        theirs = {
            "hidden_act": activation_name(half["activation"]),
            self.width: hidden_width(half, at(ours, "backbone.dim")),
            self.count: half["num_experts"],
            "num_experts_per_tok": router["top_k"],
            "output_router_logits": balance is not None,
        }
        if "norm_topk_prob" in self.keys:
            theirs["norm_topk_prob"] = router["normalise"]
        if balance is not None:
            theirs["router_aux_loss_coef"] = balance["weight"] * balance["balance"]
        return theirs

    def read_layers(self, config: Config) -> dict[str, Any]:
        window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        reach, dense = "G" if window is None else "L", self.dense_layers(config)
        values: dict[str, Any] = {"backbone.layers": reach, "backbone.window": window}
        if dense:
            letters = (DENSE if layer in dense else reach for layer in range(config["num_hidden_layers"]))
            mlp = _dense_half(config["hidden_act"], config["intermediate_size"], config["hidden_size"])
            kind = {"mixer": None, "mlp": mlp, "window": window is not None}
            values |= {"backbone.layers": "".join(letters), f"backbone.kinds.{DENSE}": kind}
        return values

    def dense_layers(self, config: Config) -> Collection[int]:
        """The layers that have no experts."""
        return ()

    def feed_forward_links(self, config: Config, ours: str, theirs: str, layer: int) -> list[Link]:
        if layer in self.dense_layers(config):
            return super().feed_forward_links(config, ours, theirs, layer)
        count, prefix = config[self.count], f"{theirs}.{self.module}"
        gate, up, down = ([f"{prefix}.experts.{i}.{part}.weight" for i in range(count)] for part in self.maps)
        return [
            same(f"{ours}.mlp.router.weight", f"{prefix}.gate.weight"),
            by_expert(f"{ours}.mlp.up.weight", [name for pair in zip(gate, up, strict=True) for name in pair], count),
            by_expert(f"{ours}.mlp.down.weight", down, count),
        ]


def _dense_half(name: str, hidden: int, dim: int) -> dict[str, Any]:
    """A gated feed-forward half without biases, as a node of our config."""
    made = {"_target_": "mmtx.nn.MLP", "_partial_": True, "activation": activation(name)}
    return {**made, "expansion": hidden / dim, "multiple_of": 1, "gated": True, "bias": False}
