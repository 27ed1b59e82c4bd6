"""What Qwen 2 and 3 share beside Llama: some of their layers may have a window."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.family import Config
from mmtx.interop.layer_types import FULL, SLIDING, read_types, write_types
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder

QWEN_KEYS: Keys = {
    **DECODER_KEYS,
    "vocab_size": used("ids", 151936),
    "intermediate_size": used("width of the feed-forward half", 22016),
    "num_key_value_heads": used("heads of keys and values; null: as many", 32),
    "max_position_embeddings": used("context", 32768),
    "eos_token_id": used("ends a text; one id or several", None),
    "use_sliding_window": used("whether layers have a window", False),
    "sliding_window": used("the window, in tokens, itself included", 4096),
    "max_window_layers": used("the first layer that has it", 28),
    "layer_types": used("which layers have it; goes before", None),
}


class Qwen(RotaryDecoder):
    """A Qwen of either kind."""

    keys: ClassVar[Keys] = QWEN_KEYS
    nullable = (*RotaryDecoder.nullable, "sliding_window")

    def read_layers(self, config: Config) -> dict[str, Any]:
        """Raises UserError for other kinds of layers, or for a window that is not given."""
        count, window = config["num_hidden_layers"], config["sliding_window"] if config["use_sliding_window"] else None
        first = config["max_window_layers"] if window is not None else count
        types = config["layer_types"] or [SLIDING if layer >= first else FULL for layer in range(count)]
        return read_types(types, count, window, "use_sliding_window=true and sliding_window")

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        count = backbone["num_layers"]
        types = write_types(backbone)
        has_window = SLIDING in types
        return {
            "use_sliding_window": has_window,
            "sliding_window": backbone["window"] if has_window else None,
            "max_window_layers": types.index(SLIDING) if has_window else count,
            "layer_types": types,
        }
