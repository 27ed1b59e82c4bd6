"""Every key of a public file is used, harmless, or refused by name; nothing is passed over."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file, save_model

transformers = pytest.importorskip("transformers")

from public import (  # noqa: E402
    CASES,
    LINEAR,
    bert,
    clip,
    decision_transformer,
    dinov2,
    dinov2_with_registers,
    dinov3_vit,
    esm,
    film_inputs,
    gemma2,
    gemma3,
    gpt2,
    gpt_oss,
    hubert,
    llama,
    mamba2,
    mistral,
    mixtral,
    modernbert,
    olmo2,
    olmoe,
    padded,
    pair_inputs,
    qwen2,
    qwen3,
    qwen3_moe,
    saved,
    siglip,
    sound_inputs,
    t5,
    videomae,
    vit,
    vit_inputs,
    vit_mae,
    vit_mae_inputs,
    wav2vec2,
    whisper,
)

import mmtx  # noqa: E402
from mmtx.data.files.supported_keys import refusals  # noqa: E402
from mmtx.data.image.decode_image import Fit, decode_image  # noqa: E402
from mmtx.data.text import tokenizer_files  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.common_keys import GENERATION  # noqa: E402
from mmtx.interop.dinov2 import SelfDistilled  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402
from mmtx.interop.image_preprocessing import PREPROCESSOR, read_preprocessor  # noqa: E402
from mmtx.interop.rotary_decoder import RotaryDecoder  # noqa: E402
from mmtx.interop.speech_encoder import SpeechEncoder  # noqa: E402
from mmtx.interop.speech_keys import WAVEFORM  # noqa: E402
from mmtx.interop.timm_vit import PRETRAINED, from_timm  # noqa: E402
from mmtx.interop.whisper import SOUND  # noqa: E402
from mmtx.interop.whisper_prompt import decoder_prompt  # noqa: E402

CONFIGS = {
    "gpt2": "GPT2Config",
    "bert": "BertConfig",
    "t5": "T5Config",
    "vit": "ViTConfig",
    "whisper": "WhisperConfig",
    "decision_transformer": "DecisionTransformerConfig",
    "dinov2": "Dinov2Config",
    "dinov2_with_registers": "Dinov2WithRegistersConfig",
    "dinov3_vit": "DINOv3ViTConfig",
    "videomae": "VideoMAEConfig",
    "vit_mae": "ViTMAEConfig",
    "clip": "CLIPConfig",
    "siglip": "SiglipConfig",
    "siglip2": "Siglip2Config",
    "modernbert": "ModernBertConfig",
    "esm": "EsmConfig",
    "hubert": "HubertConfig",
    "wav2vec2": "Wav2Vec2Config",
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "olmo2": "Olmo2Config",
    "mixtral": "MixtralConfig",
    "qwen3_moe": "Qwen3MoeConfig",
    "olmoe": "OlmoeConfig",
    "gpt_oss": "GptOssConfig",
    "gemma2": "Gemma2Config",
    "gemma3_text": "Gemma3TextConfig",
    "mamba2": "Mamba2Config",
    "smolvlm": "SmolVLMConfig",
    "idefics3": "Idefics3Config",
}
DUMPED: dict[str, Any] = {  # what version 4 wrote of every model
    **dict.fromkeys(("pruned_heads", "bad_words_ids", "prefix", "task_specific_params", "problem_type")),
    **dict.fromkeys(("is_decoder", "add_cross_attention", "tie_encoder_decoder", "torchscript", "do_sample"), False),
    "max_length": 20,
    "min_length": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "top_k": 50,
    "temperature": 1.0,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
    "torch_dtype": "float32",
    "use_bfloat16": False,
    "tf_legacy_loss": False,
    "finetuning_task": None,
    "tokenizer_class": None,
    "chunk_size_feed_forward": 0,
    "early_stopping": False,
    "sep_token_id": None,
    "return_dict_in_generate": False,
}
OLD: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 1024, "n_special": 0, "predict_special_tokens": True, "_num_labels": 1, "output_past": True},
    "bert": {
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "position_embedding_type": "absolute",
        "gradient_checkpointing": False,
        "classifier_dropout": None,
        "eos_token_ids": 0,
    },
    "t5": {"n_positions": 512, "output_past": True, "dense_act_fn": "relu", "is_gated_act": False},
    "vit": {"encoder_stride": 16},
    "whisper": {
        "num_hidden_layers": 4,
        "forced_decoder_ids": [[1, 50259], [2, 50359], [3, 50363]],
        "suppress_tokens": [],
    },
    "decision_transformer": {"n_ctx": 1024},
    "llama": {"rope_theta": 10000.0, "rope_scaling": None, "pretraining_tp": 1},
    "mistral": {"rope_theta": 10000.0},
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "vit_mae"), {}),
    "videomae": {"qkv_bias": True},
    "clip": {"text_config_dict": None, "vision_config_dict": None},
    "siglip": {},
    "modernbert": {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "absolute",
        "reference_compile": True,
        "repad_logits_with_grad": False,
    },
    "esm": {"hidden_act": "gelu", "classifier_dropout": None, "esmfold_config": None, "vocab_list": None},
    **dict.fromkeys(
        ("hubert", "wav2vec2"),
        {
            "feat_extract_dropout": 0.0,
            "freeze_feat_extract_train": True,
            "mask_time_selection": "static",
            "mask_channel_prob": 0.0,
            "no_mask_time_overlap": False,
            "gradient_checkpointing": True,
        },
    ),
    **dict.fromkeys(("qwen2", "qwen3"), {"rope_theta": 1e6, "rope_scaling": None}),
    "gemma2": {"rope_theta": 10000.0, "cache_implementation": "hybrid"},
    "gemma3_text": {
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "sliding_window_pattern": 6,
        "cache_implementation": "hybrid",
    },
    "mixtral": {"rope_theta": 1e6},
    "olmoe": {"rope_theta": 10000.0, "rope_scaling": None},
    "gpt_oss": {  # and what its own files have beside
        "rope_theta": 150000.0,
        "experts_per_token": 4,
        "initial_context_length": 4096,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    },
    "qwen3_moe": {"rope_theta": 1e6, "rope_scaling": None, "num_experts": 128, "max_window_layers": 28},
    "mamba2": {"rms_norm": True, "norm_before_gate": True, "time_step_rank": 256},
}


def classes_of_sounds() -> Any:
    return hubert(**CASES["hubert-classes-over-channels"][1])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_of_the_library_is_known(name: str) -> None:
    """As it stands in its own classes, and as older versions wrote it; by its defaults nothing is refused."""
    family, theirs = FAMILIES[name], getattr(transformers, CONFIGS[name])
    content = {key: value for key, value in theirs().to_dict().items() if value is not None}
    assert [*refusals(content, family.config_keys(), "config.json")] == []
    assert [*refusals({**content, **DUMPED, **OLD.get(name, {})}, family.config_keys(), "config.json")] == []
    assert dict(family.aliases) == {key: own for key, own in theirs.attribute_map.items() if key not in family.keys}
    generation = dict.fromkeys(transformers.GenerationConfig().to_dict())
    assert [*refusals(generation, {**GENERATION, **family.generation}, "generation_config.json")] == []


def test_keys_of_processors_and_tokenizers(tmp_path: Path) -> None:
    for kind in ("ViT", "DeiT", "Bit", "CLIP", "Siglip", "DINOv3ViT"):
        theirs = getattr(transformers, f"{kind}ImageProcessor")().to_dict()
        assert [*refusals(theirs, PREPROCESSOR, "")] == []
        assert read_preprocessor(theirs, (224, 224), 3) == read_preprocessor(
            {"image_processor_type": f"{kind}ImageProcessor"}, (224, 224), 3
        )
    sound = transformers.WhisperFeatureExtractor().to_dict()
    assert [*refusals(sound, SOUND, "")] == []
    samples = transformers.Wav2Vec2FeatureExtractor().to_dict()
    assert [*refusals(samples, WAVEFORM, "")] == []
    timm = pytest.importorskip("timm.models._pretrained")
    assert [*refusals(dict.fromkeys(timm.PretrainedCfg().to_dict()), PRETRAINED, "")] == []
    for kind in (transformers.BertTokenizer, transformers.GPT2Tokenizer, transformers.WhisperTokenizer):
        kind().save_pretrained(tmp_path)
        given = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert [*refusals(given, tokenizer_files.KEYS, "")] == []


def edited(folder: Path, name: str, **values: Any) -> Path:
    file = folder / f"{name}.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, **values}))
    return folder


@pytest.mark.parametrize(
    ("make", "file"),
    [
        *((make, "config") for make in (gpt2, bert, t5, vit, whisper, llama)),
        *((gpt2, f"{name}_config") for name in ("generation", "preprocessor", "tokenizer")),
        *((whisper, f"{name}_config") for name in ("generation", "preprocessor")),
        (vit, "preprocessor_config"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_it(make: Any, file: str, tmp_path: Path) -> None:
    folder = edited(saved(make(), tmp_path), file, warp_factor=9)
    if file == "tokenizer_config":
        transformers.BertTokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=rf"{file}\.json: unknown key warp_factor=9"):
        mmtx.from_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "file", "values", "message"),
    [
        (gpt2, "config", {"architectures": ["GPT2ForSequenceClassification"]}, "is a GPT2ForSequenceClassification"),
        (gpt2, "config", {"embd_pdrop": 0.3}, "embd_pdrop=0.3 .*as resid_pdrop"),
        (gpt2, "config", {"n_ctx": 8}, "n_ctx=8"),
        (gpt2, "config", {"hidden_size": 8}, "n_embd=24 and hidden_size=8, which are one"),
        (t5, "generation_config", {"eos_token_id": [0, 1]}, "eos_token_id=.* ends a text at one id"),
        (gpt2, "config", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map="),
        (gpt2, "config", {"n_positions": 10**12}, "cannot be one of gpt2: RuntimeError: .* memory"),
        (gpt2, "generation_config", {"eos_token_id": "0"}, "eos_token_id='0' is no id"),
        (gpt2, "config", {"quantization_config": {"bits": 4}}, "quantization_config="),
        (gpt2, "config", {"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
        (gpt2, "generation_config", {"repetition_penalty": 1.3}, "repetition_penalty=1.3"),
        (
            llama,
            "config",
            {"rope_scaling": {"type": "longrope"}},
            "rope_type=longrope: mmtx turns heads by default, linear",
        ),
        (llama, "config", {"rope_scaling": {"type": "linear"}}, "rope_type=linear: factor is missing"),
        (llama, "config", {"rope_parameters": {"mscale": 2.0}}, "rope_type=default: unknown key mscale=2.0"),
        (llama, "config", {"rope_scaling": {"type": "linear", "factor": 2.0, "warp": 9}}, "unknown key warp=9"),
        (llama, "config", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        (llama, "config", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: heads of this"),
        (llama, "config", {"vocab_size": 30}, r"\[29, 24\] +\[30, 24\]"),
        (qwen3, "config", {"layer_types": ["chunked_attention"] * 2}, "layer_types names chunked_attention"),
        (qwen3, "config", {"layer_types": ["full_attention"]}, "layer_types has 1 layers, not 2"),
        (qwen2, "config", {"layer_types": ["sliding_attention"] * 2}, "needs use_sliding_window=true"),
        (olmoe, "config", {"clip_qkv": 0}, "attention.clip=0.0 must be above 0"),
        (
            gpt_oss,
            "config",
            {"quantization_config": {"quant_method": "fp8"}},
            "quantization_config=.*quant_method mxfp4",
        ),
        (gpt_oss, "config", {"sliding_window": None}, "sliding_attention, which needs sliding_window"),
        (
            gemma3,
            "config",
            {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
            "of the family 'gemma3'; mmtx reads .*gemma3_text",
        ),
        (gemma3, "config", {"vision_config": {}}, "unknown key vision_config"),
        (gemma3, "config", {"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping=50\.0"),
        (gemma3, "config", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (gemma3, "config", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters has rope_type"),
        (
            gemma3,
            "config",
            {"rope_parameters": {"sliding_attention": LINEAR}},
            "sliding_attention has rope_type=linear",
        ),
        (gemma2, "config", {"query_pre_attn_scalar": 0}, r"attention\.scale=0\.0 must be above 0"),
        (gpt_oss, "config", {"experts_per_token": 3}, "experts_per_token=3"),
        (mamba2, "config", {"conv_kernel": 3}, "conv_kernel=3 .*mmtx can 4"),
        (mamba2, "config", {"use_bias": True}, "use_bias=True"),
        (mamba2, "config", {"head_dim": 4}, "head_dim=4 .*mmtx can expand . hidden_size / num_heads"),
        (mamba2, "config", {"time_step_limit": [0.0, 0.1]}, r"time_step_limit=\[0.0, 0.1\] .*mmtx can 0 and infinity"),
        (mamba2, "config", {"rescale_prenorm_residual": True}, "rescale_prenorm_residual=True"),
        (mamba2, "config", {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06"),
        (mamba2, "config", {"n_groups": 4}, "attention.num_groups=4 does not divide num_heads=6"),
        (
            mamba2,
            "config",
            {"model_type": "mamba", "architectures": ["MambaForCausalLM"]},
            "is a model of the family 'mamba'; mmtx reads .*mamba2",
        ),
        (mixtral, "config", {"router_jitter_noise": 0.1}, "router_jitter_noise=0.1"),
        (mixtral, "config", {"num_experts_per_tok": 5}, "top_k=5 is more than the 4 experts"),
        (
            qwen3_moe,
            "config",
            {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
            "max_window_layers=1",
        ),
        (qwen3_moe, "config", {"mlp_only_layers": [0]}, r"layers.0.mlp.gate_proj.weight +missing +\[37, 24\]"),
        (t5, "generation_config", {"num_beams": 4}, "num_beams=4"),
        (t5, "config", {"is_gated_act": True}, "is_gated_act=True"),
        (bert, "config", {"architectures": ["BertForTokenClassification"]}, "is a BertForTokenClassification"),
        (bert, "config", {"architectures": ["BertForSequenceClassification"]}, "lacks its head: classifier is missing"),
        (bert, "config", {"position_embedding_type": "relative_key"}, "position_embedding_type=relative_key"),
        (vit, "config", {"pooler_output_size": 7}, "pooler_output_size=7"),
        (vit, "preprocessor_config", {"size": 16}, "not the 8 x 8 of the model"),
        (vit, "preprocessor_config", {"do_resize": False, "do_center_crop": True}, "do_resize=False, do_center_crop=T"),
        (vit, "preprocessor_config", {"image_mean": [0.5] * 4}, "image_mean=.* has 4 numbers, .* have 3 channels"),
        (
            decision_transformer,
            "config",
            {"layer_norm_epsilon": 1e-3},
            r"layer_norm_epsilon=0\.001: the family's first",
        ),
        (vit, "preprocessor_config", {"image_processor_type": "YolosImageProcessor"}, "by YolosImageProcessor"),
        (dinov2, "config", {"image_size": [8, 16]}, "the table of positions of a dinov2 is square"),
        (dinov2, "config", {"architectures": ["Dinov2Backbone"]}, "is a Dinov2Backbone"),
        (clip, "config", {"architectures": ["CLIPVisionModelWithProjection"]}, "is a CLIPVisionModelWithProjection"),
        (clip, "config", {"text_config": {"warp_factor": 9}}, "text_config: unknown key warp_factor=9"),
        (clip, "config", {"vision_config_dict": {"dropout": 0.1}}, r"vision_config: dropout=0\.1"),
        (clip, "config", {"vision_config": {"image_size": [8, 16]}}, "the pictures of this family are square"),
        (clip, "config", {"text_config": {"eos_token_id": [1, 2]}}, "eos_token_id=.* ends a text at one id"),
        (siglip, "config", {"vision_config": {"vision_use_head": False}}, "vision_use_head=False"),
        (
            siglip,
            "config",
            {"text_config": {"projection_size": 24}},
            "projection_size=24 is not the width of the pictures, 30",
        ),
        (modernbert, "config", {"decoder_bias": False}, "decoder_bias=False"),
        (modernbert, "config", {"classifier_pooling": "max"}, "classifier_pooling=max"),
        (modernbert, "config", {"rope_parameters": {"chunked": {}}}, "rope_parameters has chunked"),
        (
            modernbert,
            "config",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}}},
            "rope_parameters of full_attention: .*yarn",
        ),
        (modernbert, "config", {"tie_word_embeddings": False}, r"lacks its head, decoder\.weight"),
        (esm, "config", {"position_embedding_type": "relative_key"}, "position_embedding_type=relative_key"),
        (esm, "config", {"is_folding_model": True}, "is_folding_model=True"),
        (esm, "config", {"mask_token_id": None}, "token_dropout=True needs mask_token_id"),
        (esm, "config", {"tie_word_embeddings": False}, r"lm_head\.decoder\.weight"),
        (esm, "config", {"rope_theta": 50.0}, r"rope_theta=50\.0 has other frequencies"),
        (esm, "config", {"architectures": ["EsmForTokenClassification"]}, "is a EsmForTokenClassification"),
        (dinov3_vit, "config", {"architectures": ["DINOv3ViTBackbone"]}, "is a DINOv3ViTBackbone"),
        (dinov3_vit, "config", {"num_attention_heads": 4}, "in pairs; theirs are 6 wide"),
        (dinov3_vit, "config", {"drop_path_rate": 0.1}, r"drop_path_rate=0\.1"),
        (dinov3_vit, "config", {"patch_size": [4, 2]}, r"patches of \[4, 2\]"),
        (dinov2, "config", {"patch_size": [4, 2]}, r"patches of \[4, 2\]"),
        (dinov2, "config", {"use_mask_token": False}, r"mask_token +\[1, 24\] +nothing"),
        (dinov2, "config", {"mlp_ratio": 3}, r"fc1.weight +\[48, 24\] +\[72, 24\]"),
        (wav2vec2, "config", {"add_adapter": True}, "add_adapter=True"),
        (wav2vec2, "config", {"adapter_attn_dim": 16}, "adapter_attn_dim=16"),
        (wav2vec2, "config", {"architectures": ["Wav2Vec2ForXVector"]}, "is a Wav2Vec2ForXVector"),
        (wav2vec2, "config", {"feat_extract_norm": "batch"}, "feat_extract_norm=batch is neither group nor layer"),
        (wav2vec2, "config", {"num_feat_extract_layers": 7}, "num_feat_extract_layers=7"),
        (wav2vec2, "config", {"conv_kernel": [10, 3]}, r"stem.kernels=\[10, 3\] must have a number .* 3 convolutions"),
        (
            classes_of_sounds,
            "config",
            {"use_weighted_layer_sum": True},
            "with do_stable_layer_norm=true: .* in transformers 4",
        ),
        (classes_of_sounds, "config", {"problem_type": "multi_label_classification"}, "problem_type=multi_label"),
        (wav2vec2, "config", {"pad_token_id": None}, "pad_token_id=null: it is the blank"),
        (wav2vec2, "config", {"pad_token_id": 29}, r"blank=29 must lie in 0\.\.28"),
        (wav2vec2, "preprocessor_config", {"feature_extractor_type": "SpeechT5FeatureExtractor"}, "SpeechT5"),
        (hubert, "config", {"conv_pos_batch_norm": True}, "conv_pos_batch_norm=True"),
        (hubert, "config", {"num_conv_pos_embedding_groups": 5}, "position_groups=5 does not divide the width 24"),
        (whisper, "config", {"encoder_layerdrop": 0.1}, "encoder_layerdrop=0.1"),
        (whisper, "preprocessor_config", {"sampling_rate": 8000}, "sampling_rate=8000"),
        (whisper, "preprocessor_config", {"feature_size": 128}, "feature_size=128"),
        (whisper, "generation_config", {"return_timestamps": True}, "return_timestamps=True"),
        (whisper, "generation_config", {"language": "french"}, r"language=french: this Whisper has no token"),
        (whisper, "generation_config", {"suppress_tokens": [-1]}, "suppress_tokens=.* ids are 0 or above"),
    ],
)
def test_values_that_cannot_be_followed(
    make: Any, file: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        mmtx.from_pretrained(edited(saved(make(), tmp_path), file, **values))


SCALED = {"factor": 2.0, "original_max_position_embeddings": 8}
CHANGED: list[tuple[Any, dict[str, Any]]] = [
    *((llama, {"rope_theta": 50.0, **more}) for more in ({"rope_parameters": None}, {"rope_parameters": {}}, {})),
    *((llama, {"rope_scaling": {kind: "linear", "factor": 2.0}}) for kind in ("type", "rope_type")),
    (llama, {"rope_parameters": None, "rope_theta": 50.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    (llama, {"rope_scaling": {"rope_type": "yarn", "rope_theta": 50.0, **SCALED}}),
    (llama, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
    (llama, {"rope_scaling": {"rope_type": "yarn", "mscale": 2.0, "mscale_all_dim": 0.5, **SCALED}}),
    (
        llama,
        {"rope_scaling": {"rope_type": "yarn", "attention_factor": 1.7, "beta_fast": 4.0, "beta_slow": 0.1, **SCALED}},
    ),
    (mistral, {"sliding_window": None}),
    (mistral, {"num_key_value_heads": None, "sliding_window": 16}),
    *((qwen2, {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": first}) for first in (0, 1, 2)),
    (qwen3, {"use_sliding_window": True, "sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]}),
    (qwen3, {"use_sliding_window": True, "sliding_window": 3, "layer_types": None, "max_window_layers": 1}),
    (gpt_oss, {"rope_parameters": None}),
    (gpt_oss, {"rope_parameters": None, "rope_theta": 50.0, "rope_scaling": {"rope_type": "yarn", **SCALED}}),
    (gpt_oss, {"rope_scaling": {"rope_type": "default", "rope_theta": 50.0}}),
    (gpt_oss, {"rope_parameters": None, "rope_scaling": None, "rope_theta": 50.0}),
    (gpt_oss, {"layer_types": None, "num_key_value_heads": 2}),
    (gpt_oss, {"layer_types": ["full_attention"] * 2}),
    (gemma2, {"attn_logit_softcapping": 1.0, "final_logit_softcapping": None, "layer_types": None}),
    (gemma2, {"attn_logit_softcapping": None, "layer_types": ["full_attention"] * 2}),
    (gemma3, {"final_logit_softcapping": 3.0}),
    (gemma3, {"layer_types": None, "sliding_window_pattern": 1}),
    (gemma3, {"layer_types": None}),
    (gemma3, {"rope_parameters": None, "rope_theta": 50.0, "rope_local_base_freq": 20.0, "rope_scaling": LINEAR}),
    (gemma3, {"rope_parameters": None}),
    (gemma3, {"rope_scaling": {"rope_type": "yarn", **SCALED}, "rope_local_base_freq": 20.0}),
    (gemma3, {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": None}}),
    (mixtral, {"sliding_window": 3, "num_key_value_heads": None}),
    (qwen3_moe, {"num_local_experts": None, "num_experts": 4}),
    (olmoe, {"clip_qkv": 0.3, "num_experts": None, "num_local_experts": 4}),
    (qwen3_moe, {"num_experts_per_tok": 1, "norm_topk_prob": True}),
    *(
        (qwen3_moe, {"use_sliding_window": True, "sliding_window": 3, **more})
        for more in ({}, {"max_window_layers": 1})
    ),
    (dinov3_vit, {"pos_embed_shift": 0.5, "pos_embed_jitter": 2.0}),
    (modernbert, {"layer_types": None, "global_attn_every_n_layers": 2}),
    (modernbert, {"rope_parameters": None, "global_rope_theta": 50.0, "local_rope_theta": 20.0}),
    (modernbert, {"rope_parameters": {"sliding_attention": {"rope_theta": 20.0}}, "local_rope_theta": 30.0}),
    (modernbert, {"local_attention": 7, "layer_types": ["sliding_attention"] * 3}),
    (llama, {"rope_scaling": {"rope_type": "yarn", "truncate": False, **SCALED}}),
    (llama, {"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 0.5, "high_freq_factor": 2.0, **SCALED}}),
]
"""Of config.json, in both spellings."""
OTHERS_THAN_NUMBERS = {
    "rope_parameters",
    "rope_scaling",
    "return_dict",
    "dtype",
    "out_features",
    "out_indices",
    "clip_qkv",
    "final_logit_softcapping",
    "pos_embed_shift",
    "pos_embed_jitter",
    "_out_features",
    "_out_indices",
}
"""Keys that say what their library returns, and those that are changed by `CHANGED`."""
KEYS_OF = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "olmo2": olmo2,
    "mixtral": mixtral,
    "qwen3_moe": qwen3_moe,
    "olmoe": olmoe,
    "dinov2": dinov2,
    "dinov2_with_registers": dinov2_with_registers,
    "dinov3_vit": dinov3_vit,
    "videomae": videomae,
    "vit_mae": vit_mae,
    "gpt_oss": gpt_oss,
    "mamba2": mamba2,
    "modernbert": modernbert,
    "esm": esm,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "hubert": hubert,
    "wav2vec2": wav2vec2,
}
"""Families of which every key is changed once."""


def changed_value(value: Any) -> Any:
    """Another value of the kind of one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or 1
    if isinstance(value, dict):
        return {"0": "a"}
    if isinstance(value, list) and value and isinstance(value[0], int):
        return [*value[:-1], value[-1] + 1]
    return {"silu": "gelu"}.get(value, f"{value}x") if isinstance(value, str) else 3


def once_changed() -> list[Any]:
    """Every key that their library writes, at another value. Slow are keys that a family shares with a relative before
    it, and those that change nothing at any value."""
    cases: list[Any] = []
    for name, make in KEYS_OF.items():
        content = make().config.to_dict()
        keys = {**content, **FAMILIES[name].keys}.keys() - OTHERS_THAN_NUMBERS
        own = FAMILIES[name].keys
        for key in sorted(keys):
            shared = any(own.get(key) == FAMILIES[relative].keys.get(key) for relative in relatives_before(name))
            known = FAMILIES[name].config_keys().get(key)
            idle = known is not None and known.status == "harmless" and not known.limit
            marks = [pytest.mark.slow] * bool(shared or idle)
            cases.append(pytest.param(make, {key: changed_value(content.get(key))}, id=f"{name}-{key}", marks=marks))
    return cases + [pytest.param(make, values, id=f"{i}") for i, (make, values) in enumerate(CHANGED)]


def relatives_before(name: str) -> list[str]:
    """The families above one in `KEYS_OF` that are built as it is."""
    kinds = [kind for kind in (RotaryDecoder, SpeechEncoder, SelfDistilled) if isinstance(FAMILIES[name], kind)]
    above = list(KEYS_OF)[: list(KEYS_OF).index(name)]
    return [other for other in above if isinstance(FAMILIES[other], tuple(kinds))]


@pytest.mark.parametrize(("make", "values"), once_changed())
def test_a_key_changed_once_changes_both_alike_or_is_refused(make: Any, values: dict[str, Any], tmp_path: Path) -> None:
    """Texts longer than the context by one, and one that is padded; pictures; sounds."""
    torch.manual_seed(0)
    theirs = make()
    edited(saved(theirs, tmp_path), "config", **values)
    try:
        ours = mmtx.from_pretrained(tmp_path)
    except UserError:
        return
    again = type(theirs).from_pretrained(tmp_path, attn_implementation="eager").eval()
    inputs, real = inputs_of(again)
    given = again(**inputs)
    actual, expected = mmtx.interop.forward(ours, **inputs)[0], given.logits if "logits" in given else given[0]
    torch.testing.assert_close(actual[real], expected[real], atol=1e-5, rtol=1e-5)


def inputs_of(theirs: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Inputs of a model, and which of its outputs are of real tokens."""
    if theirs.config.model_type == "videomae":
        return film_inputs(theirs)[0], slice(None)
    if theirs.config.model_type == "vit_mae":
        return vit_mae_inputs(theirs)[0], slice(None)
    if theirs.main_input_name == "pixel_values":
        return vit_inputs(theirs)[0], slice(None)
    if theirs.main_input_name == "input_values":
        return sound_inputs(theirs)[0], slice(None)
    ids, mask = padded([16, 7])
    return {"input_ids": ids, "attention_mask": mask}, mask.bool()


@pytest.mark.parametrize("name", ["dinov2", "dinov2-registers"])
@pytest.mark.parametrize("side", [16, 8])
def test_positions_of_pictures_of_another_size(name: str, side: int, tmp_path: Path) -> None:
    """Those that the processor gives; there and back, the table is the file's own."""
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes | {"image_size": 12})
    prepared = {"image_processor_type": "BitImageProcessor", "crop_size": side, "size": {"shortest_edge": 20}}
    if theirs.config.num_channels == 1:
        prepared |= {"image_mean": [0.5], "image_std": [0.2]}
    folder = edited(saved(theirs, tmp_path / "public"), "preprocessor_config", **prepared)
    ours = mmtx.from_pretrained(folder)
    assert ours.config["data"]["size"] == side
    theirs.config.image_size = side
    inputs, _ = make_inputs(theirs)
    actual, expected = mmtx.interop.forward(ours, **inputs).logits, theirs(**inputs).logits
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    for logits in (actual, expected):
        logits.square().sum().backward()
    table = ours.model.position_embeddings["image"].table.weight.grad
    (wanted,) = (p.grad for key, p in theirs.named_parameters() if key.endswith(".position_embeddings"))
    torch.testing.assert_close(table, wanted[0, 1:], atol=1e-4, rtol=1e-4)
    mmtx.to_pretrained(ours, tmp_path / "again")
    weights, again = (load_file(tmp_path / name / "model.safetensors") for name in ("public", "again"))
    assert all(torch.equal(again[key], value) for key, value in weights.items())
    second = mmtx.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(mmtx.interop.forward(second, **inputs).logits, expected, atol=1e-5, rtol=1e-5)
    ours.origin = None
    mmtx.to_pretrained(ours, tmp_path / "own")
    assert json.loads((tmp_path / "own" / "config.json").read_text())["image_size"] == 12


PARTS = {"clip": clip, "siglip": siglip}
"""Families of two towers."""


def parts_once_changed() -> list[Any]:
    """Every key of both towers, at another value. Slow are keys that the family before has in the same tower."""
    cases: list[Any] = []
    before: list[Any] = []
    for name, make in PARTS.items():
        keys = FAMILIES[name].parts
        for part, content in make().config.to_dict().items():
            for key in sorted(content) if part in keys else ():
                shared = any(other[part].get(key) == keys[part].get(key) for other in before)
                marks = [pytest.mark.slow] * shared
                cases.append(pytest.param(make, part, key, id=f"{name}-{part}-{key}", marks=marks))
        before.append(keys)
    return cases


@pytest.mark.parametrize(("make", "part", "key"), parts_once_changed())
def test_a_key_of_a_tower_changed_once(make: Any, part: str, key: str, tmp_path: Path) -> None:
    """Changes both alike, or is refused."""
    torch.manual_seed(0)
    theirs = make()
    content = theirs.config.to_dict()[part]
    changed = json.loads((saved(theirs, tmp_path) / "config.json").read_text())[part]
    if key in OTHERS_THAN_NUMBERS | {"model_type"}:
        return
    value = changed_value(content[key])
    edited(tmp_path, "config", **{part: changed | {key: "gelu" if key == "hidden_act" else value}})
    try:
        ours = mmtx.from_pretrained(tmp_path)
    except UserError:
        return
    inputs, _ = pair_inputs(theirs)
    again = type(theirs).from_pretrained(tmp_path, attn_implementation="eager").eval()
    actual, expected = mmtx.interop.forward(ours, **inputs)[0], again(**inputs)[0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_loss_of_two_towers(name: str, tmp_path: Path) -> None:
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    ours = mmtx.from_pretrained(saved(theirs, tmp_path))
    inputs, _ = make_inputs(theirs)
    batch = FAMILIES[name].batch(ours, ours.origin["config"], **inputs)
    loss = ours.objective("contrastive")(ours.model, batch).mean_loss()
    assert loss == pytest.approx(theirs(**inputs, return_loss=True).loss.item(), abs=1e-5)


def test_older_versions_repeat_the_towers(tmp_path: Path) -> None:
    """What stands in the repetition goes before, with the defaults of what it lacks."""
    theirs = clip(text={"num_attention_heads": 8}, vision={"num_attention_heads": 6})
    again = {"text_config_dict": dict(theirs.config.text_config.to_dict()), "vision_config_dict": None}
    del again["text_config_dict"]["num_attention_heads"]
    edited(saved(theirs, tmp_path), "config", **again)
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["num_attention_heads"] = 2
    edited(tmp_path, "config", **content)
    inputs, _ = pair_inputs(theirs)
    actual, expected = mmtx.interop.forward(mmtx.from_pretrained(tmp_path), **inputs)[0], theirs(**inputs)[0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_a_value_given_goes_before_a_file(tmp_path: Path) -> None:
    folder = edited(saved(t5(), tmp_path), "generation_config", num_beams=4)
    mmtx.from_pretrained(folder, {"generation_config.num_beams": 1})
    with pytest.raises(UserError, match=r"overrides one of config.json, or of generation_config"):
        mmtx.from_pretrained(folder, {"generation.num_beams": 1})


def test_a_key_that_stands_there_twice(tmp_path: Path) -> None:
    file = saved(gpt2(), tmp_path) / "config.json"
    file.write_text(file.read_text().replace("{", '{"n_head": 4,', 1))
    with pytest.raises(UserError, match="'n_head' stands there twice"):
        mmtx.from_pretrained(tmp_path)


def test_null_means_the_same_as_no_key(tmp_path: Path) -> None:
    expected = mmtx.from_pretrained(saved(gpt2(n_head=12), tmp_path))
    edited(tmp_path, "config", n_head=None, attn_pdrop=None, scale_attn_weights=None, architectures="GPT2LMHeadModel")
    read = mmtx.from_pretrained(tmp_path)
    assert (read.config, read.origin["config"]["n_head"]) == (expected.config, 12)


def test_dropout_before_a_head(tmp_path: Path) -> None:
    theirs = bert(kind=transformers.BertForSequenceClassification, classifier_dropout=0.3)
    assert mmtx.from_pretrained(saved(theirs, tmp_path)).objective("classify").dropout.p == theirs.dropout.p == 0.3


@pytest.mark.parametrize("make", [gpt2, t5, lambda: llama(tie_word_embeddings=True)], ids=["gpt2", "t5", "llama"])
def test_one_tensor_with_two_names(make: Any, tmp_path: Path) -> None:
    """A file keeps one of them: the other stands in its metadata, or nowhere."""
    theirs = make()
    wanted = mmtx.from_pretrained(saved(theirs, tmp_path / "public")).state_dict()
    for name in ("named", "unnamed"):
        (tmp_path / name).mkdir()
        theirs.config.save_pretrained(tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        save_model(theirs, str(file))
        if name == "unnamed":
            save_file(load_file(file), file, {"format": "pt"})
        read = mmtx.from_pretrained(tmp_path / name).state_dict()
        assert all(torch.equal(read[key], value) for key, value in wanted.items())


def vit_of_timm(width: int = 18) -> dict[str, torch.Tensor]:
    timm = pytest.importorskip("timm.models.vision_transformer")
    return timm.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=width, depth=1, num_heads=2, num_classes=3
    ).state_dict()


def test_the_config_of_timm() -> None:
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.9, "interpolation": "bilinear"}
    given = {"architecture": "vit", "num_classes": 3, "label_names": ["a", "b", "c"], "model_args": {"num_heads": 2}}
    config, _, prepared = from_timm(vit_of_timm(), {**given, "pretrained_cfg": cfg}, {})
    assert (config["num_attention_heads"], config["id2label"]) == (2, {"0": "a", "1": "b", "2": "c"})
    read = read_preprocessor(prepared, (8, 8), 3)
    assert (read.mean, read.std) == (pytest.approx(cfg["mean"]), pytest.approx(cfg["std"]))
    assert (read.fit["side"], read.fit["stretch"], read.fit["resample"]) == (8, False, "bilinear")
    assert from_timm(vit_of_timm(), {"architecture": "vit", **cfg}, {"num_attention_heads": 2})[2] == prepared


@pytest.mark.parametrize("cfg", [{}, {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 4, 16]}], ids=str)
def test_what_timm_takes_for_granted(cfg: dict[str, Any], tmp_path: Path) -> None:
    """Its own pixels, of a picture of another shape."""
    data = pytest.importorskip("timm.data")
    cfg = {"input_size": [3, 8, 8], **cfg}
    sides = (cfg["input_size"][1], cfg["input_size"][2])
    shown = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=numpy.uint8))
    shown.save(tmp_path / "picture.png")
    expected = data.create_transform(**data.resolve_data_config({}, pretrained_cfg=cfg))(shown)
    given = {"model_args": {"num_heads": 2}, "pretrained_cfg": cfg}
    read = read_preprocessor(from_timm(vit_of_timm(), given, {})[2], sides, 3)
    fit = Fit(**{key: value for key, value in read.fit.items() if key != "_target_"})
    pixels = decode_image(tmp_path / "picture.png", size=sides, channels=3, max_pixels=1000, fit=fit) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (read.mean, read.std))
    torch.testing.assert_close((pixels - mean) / std, expected)


@pytest.mark.parametrize(("channels", "resample"), [(3, 2), (1, 3)])
def test_pixels_of_dinov3_are_resized_as_numbers(channels: int, resample: int, tmp_path: Path) -> None:
    """Its own processor's, of a picture of another shape: a step of a byte is 0.017 here."""
    pytest.importorskip("torchvision")
    shape = (20, 30, channels) if channels > 1 else (20, 30)
    shown = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, shape, dtype=numpy.uint8))
    shown.save(tmp_path / "picture.png")
    settings = {"size": {"height": 12, "width": 8}, "resample": resample, "image_mean": 0.4, "image_std": 0.23}
    theirs = transformers.DINOv3ViTImageProcessor(**settings)
    (expected,) = theirs(shown, return_tensors="pt").pixel_values
    read = read_preprocessor(theirs.to_dict(), (12, 8), channels)
    fit = Fit(**{key: value for key, value in read.fit.items() if key != "_target_"})
    pixels = decode_image(tmp_path / "picture.png", size=(12, 8), channels=channels, max_pixels=1000, fit=fit)
    torch.testing.assert_close((pixels - read.mean[0]) / read.std[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_classes": 4}, "num_classes=4, but the weights have 3"),
        ({"global_pool": "avg"}, "global_pool=avg"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "act_layer=quick_gelu"),
        ({"pretrained_cfg": {"label_offset": 1}}, "label_offset=1"),
        ({"pretrained_cfg": {"input_size": [3, 16, 16]}}, "has 4 positions, but 16 x 16 pixels"),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "crop_mode=border"),
        (
            {"model_args": {"img_size": [4, 16]}, "pretrained_cfg": {"crop_pct": 0.9}},
            "of 4 x 16 pixels mmtx can squash",
        ),
        ({"warp_factor": 9, "pretrained_cfg": {}}, "unknown key warp_factor=9"),
        ({}, "does not show its heads"),
    ],
)
def test_configs_of_timm_that_cannot_be_followed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_timm(vit_of_timm(), given, {} if not given else {"num_attention_heads": 2})


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({}, [5, 7, 9]),
        ({"language": "<|fr|>"}, [6, 7, 9]),
        ({"language": "fr", "task": "translate", "forced_decoder_ids": [[1, 5]]}, [6, 8, 9]),
        ({"forced_decoder_ids": [[1, None], [2, 8]]}, [5, 8, 9]),
        ({"forced_decoder_ids": [[1, 6], [2, 7], [3, 9]]}, [6, 7, 9]),
        ({"is_multilingual": False}, [9]),
    ],
)
def test_what_a_whisper_begins_with(given: dict[str, Any], prompt: list[int], tmp_path: Path) -> None:
    generation = {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": 5, "<|fr|>": 6},
        "task_to_id": {"transcribe": 7, "translate": 8},
        "no_timestamps_token_id": 9,
        "begin_suppress_tokens": [3],
        **given,
    }
    folder = edited(saved(whisper(), tmp_path), "generation_config", **generation)
    objective = mmtx.from_pretrained(folder).objective("seq2seq")
    assert (objective.prompt, objective.suppress_first) == (prompt, [3])


@pytest.mark.parametrize("beside", [True, False])
def test_suppressed_ids_stand_in_one_file(beside: bool, tmp_path: Path) -> None:
    """That of `config.json` counts where there is no other, as theirs."""
    folder = saved(whisper(), tmp_path)
    generation = json.loads((folder / "generation_config.json").read_text())
    generation.pop("suppress_tokens", None)
    (folder / "generation_config.json").unlink()
    edited(folder, "config", suppress_tokens=[4, 5])
    if beside:
        edited(folder, "generation_config", **generation)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder).generation_config
    assert (theirs.suppress_tokens or []) == ([] if beside else [4, 5])
    assert mmtx.from_pretrained(folder).objective("seq2seq").suppress == (theirs.suppress_tokens or [])


def test_forced_ids_out_of_place() -> None:
    config = {"vocab_size": 29, "forced_decoder_ids": [[2, 5]], "is_multilingual": True}
    with pytest.raises(UserError, match="the places must be 1, 2"):
        decoder_prompt(config, mmtx.interop.family.Files(None, "", {}))


def test_the_page_of_the_documentation_is_the_table_in_the_code() -> None:
    root = Path(__file__).parent.parent.parent
    page = runpy.run_path(str(root / "scripts" / "public_weights.py"))["page"]()
    assert (root / "docs" / "public_weights.md").read_text() == page, "python scripts/public_weights.py"
