"""Whisper (Radford et al. 2022), as `transformers`, openai-whisper and CTranslate2 store it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.errors import UserError
from mmtx.interop.family import (
    Config,
    Described,
    Family,
    Files,
    activation_name,
    at,
    feed_forward,
    hidden_width,
    text_batch,
)
from mmtx.interop.links import Link, Several, Weights, both, same, stacked
from mmtx.learner import Learner
from mmtx.nn.positions import Sinusoidal
from mmtx.objectives.seq2seq import Seq2Seq

RATE, HOP = 16_000, 160
ENGLISH, MANY, V3 = 51864, 51865, 51866
"""Sizes of Whisper's vocabularies."""
POSITIONS = "model.encoder.embed_positions.weight"


class Whisper(Family):
    name = "whisper"
    body = "WhisperModel"
    prefix = "model."
    defaults = {
        "vocab_size": MANY,
        "num_mel_bins": 80,
        "d_model": 384,
        "encoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "decoder_layers": 4,
        "decoder_attention_heads": 6,
        "decoder_ffn_dim": 1536,
        "activation_function": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "init_std": 0.02,
        "scale_embedding": False,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "architectures": ["WhisperForConditionalGeneration"],
    }
    fixed = {"scale_embedding": False}
    same = {
        "backbone.dim": "d_model",
        "backbone.num_layers": "decoder_layers",
        "backbone.num_heads": "decoder_attention_heads",
        "backbone.dropout": "dropout",
        "backbone.attention.dropout": "attention_dropout",
        "backbone.init_std": "init_std",
        "modality.text.context": "max_target_positions",
        "modality.audio.spectrogram.n_mels": "num_mel_bins",
    }
    renames = ((r"^(?=(encoder|decoder)\.(?!.*blocks))", "model."),)
    copies = {"proj_out.weight": "model.decoder.embed_tokens.weight"}
    added = {"text": ("model.position_embeddings.text.table.weight",)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        start, end = default_marks(config["vocab_size"])
        marks = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end, "bos_token_id": end}
        for key, known in marks.items():
            if config.get(key) is None:
                config[key] = known
        given, (count, dim) = weights.get(POSITIONS), (config["max_source_positions"], config["d_model"])
        if given is not None and given.shape == (count, dim) and _beyond_sinusoids(given)[1] > 1e-2:
            raise UserError(f"{POSITIONS} are no sinusoids; mmtx computes them and cannot take others")
        return config

    def describe(self, config: Config, files: Files) -> Described:
        size, dim, positions = config["vocab_size"], config["d_model"], config["max_source_positions"]
        begin, end = config["decoder_start_token_id"], config["eos_token_id"]
        prompt = decoder_prompt(size, files)
        samples = positions * 2 * HOP
        values = self.from_same(config) | {
            **feed_forward(config["activation_function"], config["decoder_ffn_dim"], dim),
            "encode": ["audio"],
            "encoder": {
                "num_layers": config["encoder_layers"],
                "num_heads": config["encoder_attention_heads"],
                "mlp": {"expansion": config["encoder_ffn_dim"] / dim},
                "positions": {"absolute": {"_target_": "mmtx.nn.positions.Sinusoidal", "_partial_": True, "base": 1e4}},
            },
            "modality.audio.pad_to_seconds": samples / RATE,
            "objective.seq2seq.prompt": prompt,
            "objective.seq2seq.suppress": _suppressed(config, files),
            "data.max_seconds": samples / RATE,
        }
        vocabulary = files.vocabulary(size=size, begin=begin, end=end, prefix=prompt)
        specs = {
            "audio": Spec({"waveform": Field((None,), torch.float32, max_length=samples)}, sample_rate_hz=RATE),
            "text": Spec(
                {"ids": Field((None,), torch.long, size, config["max_target_positions"])}, vocabulary=vocabulary
            ),
        }
        choices = ["data=audio_manifest", "modality=[audio,text]", "backbone=whisper", "objective=[seq2seq]"]
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        dim, encoder, vocabulary = at(ours, "backbone.dim"), at(ours, "encoder"), specs["text"].vocabulary
        assert vocabulary is not None
        own = {**at(ours, "backbone.mlp"), **encoder.get("mlp", {})}
        at(encoder, "positions.absolute._target_")
        return self.to_same(ours) | {
            "activation_function": activation_name(at(ours, "backbone.mlp.activation")),
            "decoder_ffn_dim": hidden_width(at(ours, "backbone.mlp"), dim),
            "encoder_ffn_dim": hidden_width(own, dim),
            "encoder_layers": encoder.get("num_layers", at(ours, "backbone.num_layers")),
            "encoder_attention_heads": encoder.get("num_heads", at(ours, "backbone.num_heads")),
            "max_source_positions": round(at(ours, "modality.audio.pad_to_seconds") * RATE) // (2 * HOP),
            "max_target_positions": at(ours, "modality.text.context") or specs["text"].fields["ids"].max_length,
            "vocab_size": specs["text"].fields["ids"].num_classes,
            "decoder_start_token_id": vocabulary.begin,
            "eos_token_id": vocabulary.end,
            "pad_token_id": vocabulary.end,
            "bos_token_id": vocabulary.end,
            "is_encoder_decoder": True,
        }

    def beside(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        """Tokens that are never written; some files say it elsewhere."""
        suppressed = at(ours, "objective.seq2seq.suppress")
        return {"config": {"suppress_tokens": suppressed}} if suppressed else {}

    def links(self, config: Config) -> list[Link]:
        def with_sinusoids(ours: Several) -> Several:
            return [sinusoids(config["max_source_positions"], config["d_model"]).to(ours[0].device) + ours[0]]

        links = [
            same("model.tokenizers.text.embedding.weight", "model.decoder.embed_tokens.weight"),
            same("model.position_embeddings.text.table.weight", "model.decoder.embed_positions.weight"),
            Link(("model.type_embeddings.audio",), (POSITIONS,), _type_of_sound, with_sinusoids, optional=True),
        ]
        for name in ("conv1", "conv2"):
            links += both(f"model.tokenizers.audio.stem.{name}", f"model.encoder.{name}")
        for here, there in (("encoder", "encoder"), ("backbone", "decoder")):
            links += both(f"model.{here}.final_norm", f"model.{there}.layer_norm")
            for layer in range(config[f"{there}_layers"]):
                block, theirs = f"model.{here}.blocks.{layer}", f"model.{there}.layers.{layer}"
                links += _attention(f"{block}.attention", f"{theirs}.self_attn")
                if there == "decoder":
                    links += _attention(f"{block}.cross_attention", f"{theirs}.encoder_attn")
                links += both(f"{block}.mlp.up", f"{theirs}.fc1") + both(f"{block}.mlp.down", f"{theirs}.fc2")
                links += both(f"{block}.mlp_norm", f"{theirs}.final_layer_norm")
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {
            "input_features": torch.zeros(2, config["num_mel_bins"], 2 * config["max_source_positions"]),
            "decoder_input_ids": torch.zeros(2, min(8, config["max_target_positions"]), dtype=torch.long),
        }

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        ids, mask = inputs["decoder_input_ids"], inputs.get("decoder_attention_mask")
        batch = with_features(text_batch("text", ids, mask), inputs["input_features"])
        hidden, objective = learner.model(batch).tokens("text"), learner.objective("seq2seq")
        if config["architectures"] == [self.body]:
            return {"last_hidden_state": hidden}
        assert isinstance(objective, Seq2Seq)
        return {"logits": objective.head.logits(learner.model, hidden)}


def with_features(batch: Any, features: Tensor) -> Any:
    """A batch with spectrograms ``(B, mels, frames)`` as its sound."""
    lengths = torch.full((features.shape[0],), features.shape[2], device=features.device)
    return batch.with_name("audio", {"frames": features.transpose(1, 2)}, lengths, full=True)


def sinusoids(count: int, dim: int) -> Tensor:
    return Sinusoidal((count,), dim, base=1e4)(torch.arange(count)[:, None])


def _beyond_sinusoids(table: Tensor) -> tuple[Tensor, Tensor]:
    """What all rows of a table have beyond sinusoids, ``(D,)``, and the most that any of them has beyond that."""
    beyond = table - sinusoids(*table.shape).to(table.device)
    return beyond.mean(0), (beyond - beyond.mean(0)).abs().max()


def _type_of_sound(theirs: Several) -> Several:
    """The embedding of the type, which the family adds to its sinusoids; nothing, where it is less than rounding."""
    common, rounding = _beyond_sinusoids(theirs[0])
    return [common if common.abs().max() > rounding else torch.zeros_like(common)]


def default_marks(size: int) -> tuple[int, int]:
    """Ids that begin and end a text in Whisper's vocabularies; in any other, its last two."""
    if size == ENGLISH:
        return 50257, 50256
    return (50258, 50257) if size in (MANY, V3) else (size - 2, size - 1)


def decoder_prompt(size: int, files: Files) -> list[int]:
    """English, transcribed, without times: ids that follow the beginning."""
    if files.tokenizer is not None:
        spelt = ["<|en|>", "<|transcribe|>"] if size >= MANY else []
        found = [files.token(token) for token in [*spelt, "<|notimestamps|>"]]
        return [i for i in found if i is not None]
    return {ENGLISH: [50362], MANY: [50259, 50359, 50363], V3: [50259, 50360, 50364]}.get(size, [])


def _suppressed(config: Config, files: Files) -> list[int]:
    said = files.said.get("generation_config", {}).get("suppress_tokens", config.get("suppress_tokens"))
    said = said or files.said.get("config", {}).get("suppress_ids")
    return [i for i in said or [] if 0 <= i < config["vocab_size"]]


def _attention(here: str, there: str) -> list[Link]:
    links = [stacked(f"{here}.qkv.weight", [f"{there}.{linear}_proj.weight" for linear in "qkv"])]
    links += [same(f"{here}.biases.{part}", f"{there}.{part[0]}_proj.bias") for part in ("query", "value")]
    return links + both(f"{here}.out", f"{there}.out_proj") + both(f"{here}_norm", f"{there}_layer_norm")


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
    """A checkpoint of openai-whisper as config and weights of this family."""
    renamed: Weights = {}
    for key, value in weights.items():
        for pattern, replacement in OPENAI_RENAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    try:
        config = _sizes(
            dims["n_vocab"], dims["n_mels"], dims["n_audio_state"], dims["n_audio_ctx"], dims["n_text_ctx"]
        ) | {
            "encoder_layers": dims["n_audio_layer"],
            "encoder_attention_heads": dims["n_audio_head"],
            "decoder_layers": dims["n_text_layer"],
            "decoder_attention_heads": dims["n_text_head"],
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"the dims of this Whisper lack {error}") from None
    return config, renamed


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


def from_ctranslate2(weights: Weights, said: Mapping[str, Any]) -> tuple[Config, Weights]:
    """A model of CTranslate2 as config and weights of this family.

    Raises:
        UserError: it is not a Whisper, or its keys have a bias.
    """
    if said["spec"] != "WhisperSpec":
        raise UserError(f"this model of CTranslate2 is a {said['spec']}; mmtx reads WhisperSpec")
    renamed: Weights = {}
    for key, value in weights.items():
        for name, part in zip(*_ct2_parts(key, value), strict=True):
            if name.endswith("k_proj.bias"):
                if part.abs().max() > 0:
                    raise UserError(f"{key}: the keys of this Whisper have a bias; Whisper's have none")
                continue
            renamed[f"model.{name}"] = part
    try:
        embedding, times = renamed["model.decoder.embed_tokens.weight"], renamed[POSITIONS]
        texts, stem = renamed["model.decoder.embed_positions.weight"], renamed["model.encoder.conv1.weight"]
        config = _sizes(len(embedding), stem.shape[1], embedding.shape[1], len(times), len(texts)) | {
            f"{stack}_attention_heads": int(said[f"{stack}/num_heads"]) for stack in ("encoder", "decoder")
        }
    except (KeyError, IndexError) as error:
        raise UserError(f"this model of CTranslate2 lacks {error}") from None
    for stack in ("encoder", "decoder"):
        found = re.findall(rf"^model\.{stack}\.layers\.(\d+)\.", "\n".join(renamed), re.MULTILINE)
        config[f"{stack}_layers"] = 1 + max(map(int, found), default=-1)
        config[f"{stack}_ffn_dim"] = len(renamed.get(f"model.{stack}.layers.0.fc1.weight", ()))
    return config, renamed


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


def _sizes(vocabulary: int, mels: int, dim: int, source: int, target: int) -> Config:
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
