"""Checkpoints of openai-whisper and of CTranslate2, as config and weights of `mmtx.interop.whisper`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmtx.data.files.supported_keys import Keys, every, harmless, only, refusals, used
from mmtx.errors import UserError
from mmtx.interop.family import Config
from mmtx.interop.links import Weights, renamed
from mmtx.interop.whisper import POSITIONS

OPENAI_RENAMES = (
    (r"^", "model."),
    (r"token_embedding\.weight", "embed_tokens.weight"),
    (r"positional_embedding", "embed_positions.weight"),
    (r"\.blocks\.", ".layers."),
    (r"\.cross_attn_ln\.", ".encoder_attn_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.", ".self_attn."),
    (r"_attn\.(query|key|value|out)\.", lambda m: f"_attn.{m[1][0] if m[1] != 'out' else 'out'}_proj."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.(ln_post|ln)\.", ".layer_norm."),
)


def from_openai(weights: Weights, dims: Mapping[str, int]) -> tuple[Config, Weights]:
    """Config and weights of a checkpoint of openai-whisper."""
    try:
        config = _config(
            dims["n_vocab"], dims["n_mels"], dims["n_audio_state"], dims["n_audio_ctx"], dims["n_text_ctx"]
        ) | {
            "encoder_layers": dims["n_audio_layer"],
            "encoder_attention_heads": dims["n_audio_head"],
            "decoder_layers": dims["n_text_layer"],
            "decoder_attention_heads": dims["n_text_head"],
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"the dims of this Whisper lack {error}") from None
    return config, renamed(weights, OPENAI_RENAMES)


CT2_PARTS = {
    "self_attention/linear_0": [f"self_attn.{x}_proj" for x in "qkv"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
CT2_ENDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


CT2_KEYS: Keys = {
    "suppress_ids": used("ids that are never written"),
    "suppress_ids_begin": used("ids that no text begins with"),
    **every("alignment_heads lang_ids", harmless("times, and finding out the language")),
    **every("bos_token eos_token unk_token add_source_bos add_source_eos", harmless("of translations")),
    **every("layer_norm_epsilon multi_query_attention", only(note="a model of another kind")),
}
"""Keys of the ``config.json`` of CTranslate2."""


def from_ctranslate2(weights: Weights, scalars: Mapping[str, Any], side_config: Config) -> tuple[Config, Weights]:
    """Config and weights of a model of CTranslate2 with its config.json.

    Raises:
        UserError: it is no Whisper, its keys have a bias, or its config.json has unknown keys.
    """
    refused = [*refusals(side_config, CT2_KEYS, "config.json")]
    if refused:
        raise UserError("; ".join(refused))
    if scalars["spec"] != "WhisperSpec":
        raise UserError(f"this model of CTranslate2 is a {scalars['spec']}; mmtx reads WhisperSpec")
    current: Weights = {}
    for key, value in weights.items():
        for name, part in zip(*_ct2_parts(key, value), strict=True):
            if name.endswith("k_proj.bias"):
                if part.abs().max() > 0:
                    raise UserError(f"{key}: the keys of this Whisper have a bias; Whisper's have none")
                continue
            current[f"model.{name}"] = part
    try:
        embedding, times = current["model.decoder.embed_tokens.weight"], current[POSITIONS]
        texts, stem = current["model.decoder.embed_positions.weight"], current["model.encoder.conv1.weight"]
        config = _config(len(embedding), stem.shape[1], embedding.shape[1], len(times), len(texts)) | {
            f"{stack}_attention_heads": int(scalars[f"{stack}/num_heads"]) for stack in ("encoder", "decoder")
        }
    except (KeyError, IndexError) as error:
        raise UserError(f"this model of CTranslate2 lacks {error}") from None
    for stack in ("encoder", "decoder"):
        found = re.findall(rf"^model\.{stack}\.layers\.(\d+)\.", "\n".join(current), re.MULTILINE)
        config[f"{stack}_layers"] = 1 + max(map(int, found), default=-1)
        config[f"{stack}_ffn_dim"] = len(current.get(f"model.{stack}.layers.0.fc1.weight", ()))
    never = {"suppress_tokens": "suppress_ids", "begin_suppress_tokens": "suppress_ids_begin"}
    return {**config, **{key: side_config[own] for key, own in never.items() if side_config.get(own)}}, current


def _ct2_parts(key: str, value: Tensor) -> tuple[list[str], tuple[Tensor, ...]]:
    layer = re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)/(\w+)", key)
    if layer is not None and layer[3] in CT2_PARTS and layer[4] in CT2_ENDS:
        names = [f"{layer[1]}.layers.{layer[2]}.{part}.{CT2_ENDS[layer[4]]}" for part in CT2_PARTS[layer[3]]]
        return names, value.chunk(len(names))
    stack, _, rest = key.partition("/")
    simple = {"embeddings/weight": "embed_tokens.weight", "position_encodings/encodings": "embed_positions.weight"}
    if rest in simple:
        return [f"{stack}.{simple[rest]}"], (value,)
    if rest in ("projection/weight", "alignment_heads"):
        return [], ()
    part, _, end = rest.rpartition("/")
    return [f"{stack}.{part.replace('/', '.')}.{CT2_ENDS.get(end, end)}"], (value,)


def _config(vocabulary: int, mels: int, dim: int, source: int, target: int) -> Config:
    return {
        "model_type": "whisper",
        "vocab_size": vocabulary,
        "num_mel_bins": mels,
        "d_model": dim,
        "encoder_ffn_dim": 4 * dim,
        "decoder_ffn_dim": 4 * dim,
        "max_source_positions": source,
        "max_target_positions": target,
    }
