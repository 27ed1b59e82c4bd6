"""Small models of the public families with random weights, as `transformers` makes them, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCAB = 29
REGISTERS_BODY = transformers.Dinov2WithRegistersModel


def disturbed(model: nn.Module) -> Any:
    """Weights that no initialisation left at zero or one, and large enough to see a mistake; sinusoids stay."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def gpt2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.GPT2LMHeadModel)
    keys = {"n_layer": 2, "n_embd": 24, "n_head": 2, "vocab_size": VOCAB, "n_positions": 16, **changes}
    return disturbed(kind(transformers.GPT2Config(bos_token_id=None, eos_token_id=0, **keys)))


def bert(**changes: Any) -> Any:
    kind, more = changes.pop("kind", transformers.BertForMaskedLM), changes.pop("more", {})
    keys = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 36,
        "vocab_size": VOCAB,
        "max_position_embeddings": 16,
        **changes,
    }
    return disturbed(kind(transformers.BertConfig(**keys), **more))


def t5(**changes: Any) -> Any:
    untied = changes.pop("untied", False)
    kind = changes.pop("kind", transformers.T5ForConditionalGeneration)
    keys = {
        "d_model": 24,
        "d_kv": 7,
        "num_heads": 3,
        "num_layers": 2,
        "d_ff": 20,
        "vocab_size": VOCAB,
        "dropout_rate": 0.1,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": not untied,
        **changes,
    }
    model = kind(transformers.T5Config(**keys))
    if untied:
        model.lm_head.weight = nn.Parameter(torch.randn(VOCAB, keys["d_model"]))  # whatever their config ties
    return disturbed(model)


def vit(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.ViTForImageClassification)
    keys = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 36,
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 3,
        "num_labels": 5,
        **changes,
    }
    return disturbed(kind(transformers.ViTConfig(**keys)))


def videomae(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.VideoMAEForVideoClassification)
    keys = {**PICTURES, "intermediate_size": 36, "num_frames": 4, "num_labels": 5, **changes}
    return disturbed(kind(transformers.VideoMAEConfig(**keys)))


def vit_mae(**changes: Any) -> Any:
    decoder = {"hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 30}
    keys = {**PICTURES, "intermediate_size": 36, **{f"decoder_{key}": value for key, value in decoder.items()}}
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**{**keys, "patch_size": 2, **changes}))
    with torch.no_grad():  # a sinusoid for CLS is zero, and files may have another
        model.decoder.decoder_pos_embed[:, 0] = 0.3
    return disturbed(model)


def dinov2(**changes: Any) -> Any:
    registers = "num_register_tokens" in changes
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    model = changes.pop("kind", getattr(transformers, f"{kind}ForImageClassification"))
    keys = {**PICTURES, "mlp_ratio": 2, "num_labels": 5, **changes}
    return disturbed(model(getattr(transformers, f"{kind}Config")(**keys)))


def dinov2_with_registers(**changes: Any) -> Any:
    return dinov2(**{"num_register_tokens": 3, **changes})


def dinov3_vit(**changes: Any) -> Any:
    keys = {**PICTURES, "intermediate_size": 36, "image_size": 12, "num_register_tokens": 3, **changes}
    kind = keys.pop("kind", transformers.DINOv3ViTModel)
    return disturbed(kind(transformers.DINOv3ViTConfig(**keys)))


def clip(**changes: Any) -> Any:
    text = {**TOWER, "vocab_size": VOCAB, "max_position_embeddings": 16, "eos_token_id": 5, **changes.pop("text", {})}
    vision = {**PICTURES, "hidden_size": 30, "intermediate_size": 41, "num_attention_heads": 3}
    keys = {"projection_dim": 11, "text_config": text, "vision_config": vision | changes.pop("vision", {}), **changes}
    return disturbed(transformers.CLIPModel(transformers.CLIPConfig(**keys)))


def siglip(**changes: Any) -> Any:
    text = {**TOWER, "vocab_size": VOCAB, "max_position_embeddings": 11, "projection_size": 30}
    vision = {**PICTURES, "hidden_size": 30, "intermediate_size": 41, "num_attention_heads": 3}
    text, vision = text | changes.pop("text", {}), vision | changes.pop("vision", {})
    return disturbed(transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)))


def siglip2(**changes: Any) -> Any:
    text = {**TOWER, "vocab_size": VOCAB, "max_position_embeddings": 11, "projection_size": 30}
    vision = {"hidden_size": 30, "intermediate_size": 41, "num_attention_heads": 3, "num_hidden_layers": 2}
    vision |= {"patch_size": 4, "num_patches": 9}
    text, vision = text | changes.pop("text", {}), vision | changes.pop("vision", {})
    return disturbed(transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision)))


def smolvlm(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.SmolVLMForConditionalGeneration)
    text = {**ROTARY_DECODER, "model_type": "llama", "max_position_embeddings": 40, "pad_token_id": None}
    vision = {**PICTURES, "hidden_size": 30, "intermediate_size": 41, "num_attention_heads": 3, "image_size": 16}
    parts = {"text_config": text | changes.pop("text", {}), "vision_config": vision | changes.pop("vision", {})}
    return disturbed(kind(kind.config_class(**{**parts, "image_token_id": 5, **changes})))


def idefics3(**changes: Any) -> Any:
    return smolvlm(**{"kind": transformers.Idefics3ForConditionalGeneration, **changes})


def modernbert(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.ModernBertForMaskedLM)
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    keys = {**TOWER, **marks, "num_hidden_layers": 3, "vocab_size": VOCAB, "max_position_embeddings": 16}
    return disturbed(kind(transformers.ModernBertConfig(**{**keys, "local_attention": 6, **changes})))


def esm(**changes: Any) -> Any:
    kind, more = changes.pop("kind", transformers.EsmForMaskedLM), changes.pop("more", {})
    keys = {
        **TOWER,
        "vocab_size": VOCAB,
        "max_position_embeddings": 16,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "mask_token_id": 20,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
        **changes,
    }
    return disturbed(kind(transformers.EsmConfig(**keys), **more))


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 36}
PICTURES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def whisper(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.WhisperForConditionalGeneration)
    keys = {
        "vocab_size": VOCAB,
        "d_model": 24,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 36,
        "decoder_ffn_dim": 52,
        "max_source_positions": 50,
        "max_target_positions": 16,
        "num_mel_bins": 80,
        "pad_token_id": 2,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "begin_suppress_tokens": None,
        "suppress_tokens": None,
        **changes,
    }
    return disturbed(kind(transformers.WhisperConfig(**keys)))


def wav2vec2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Wav2Vec2ForCTC)
    return disturbed(kind(transformers.Wav2Vec2Config(**{**SPEECH, **changes})))


def hubert(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.HubertForCTC)
    return disturbed(kind(transformers.HubertConfig(**{**SPEECH, **changes})))


SPEECH = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 36,
    "vocab_size": VOCAB,
    "conv_dim": [6, 5, 7],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 2, 2],
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 4,
}
OVER_CHANNELS = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def decision_transformer(**changes: Any) -> Any:
    keys = {
        "state_dim": 5,
        "act_dim": 2,
        "hidden_size": 24,
        "max_ep_len": 40,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 60,
        "vocab_size": 1,
        **changes,
    }
    return disturbed(transformers.DecisionTransformerModel(transformers.DecisionTransformerConfig(**keys)))


def llama(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.LlamaForCausalLM)
    return disturbed(kind(transformers.LlamaConfig(**{**ROTARY_DECODER, **changes})))


def mistral(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.MistralForCausalLM)
    return disturbed(kind(transformers.MistralConfig(**{**ROTARY_DECODER, "sliding_window": 4, **changes})))


def qwen2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Qwen2ForCausalLM)
    return disturbed(kind(transformers.Qwen2Config(**{**ROTARY_DECODER, **changes})))


def qwen3(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Qwen3ForCausalLM)
    return disturbed(kind(transformers.Qwen3Config(**{**ROTARY_DECODER, "head_dim": 10, **changes})))


def olmo2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Olmo2ForCausalLM)
    return disturbed(kind(transformers.Olmo2Config(**{**ROTARY_DECODER, "pad_token_id": None, **changes})))


def mixtral(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.MixtralForCausalLM)
    keys = {"num_local_experts": 4, "intermediate_size": 12, **changes}
    return disturbed(kind(transformers.MixtralConfig(**{**ROTARY_DECODER, **keys})))


def qwen3_moe(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Qwen3MoeForCausalLM)
    keys = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "head_dim": 10, **changes}
    return disturbed(kind(transformers.Qwen3MoeConfig(**{**ROTARY_DECODER, **keys})))


def olmoe(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.OlmoeForCausalLM)
    keys = {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 12, "pad_token_id": None, **changes}
    return disturbed(kind(transformers.OlmoeConfig(**{**ROTARY_DECODER, **keys})))


def gpt_oss(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.GptOssForCausalLM)
    keys = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 12, "head_dim": 10, **changes}
    return disturbed(kind(transformers.GptOssConfig(**{**ROTARY_DECODER, "sliding_window": 3, **keys})))


def gemma2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Gemma2ForCausalLM)
    return disturbed(kind(transformers.Gemma2Config(**{**GEMMA, **changes})))


def gemma3(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Gemma3ForCausalLM)
    return disturbed(kind(transformers.Gemma3TextConfig(**{**GEMMA, "sliding_window_pattern": 2, **changes})))


def mamba2(**changes: Any) -> Any:
    kind = changes.pop("kind", transformers.Mamba2ForCausalLM)
    keys = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_heads": 6,
        "head_dim": 8,
        "state_size": 5,
        "n_groups": 2,
        "chunk_size": 4,
        "vocab_size": VOCAB,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": 0,
        **changes,
    }
    return disturbed(kind(transformers.Mamba2Config(**keys)))


ROTARY_DECODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 37,
    "vocab_size": VOCAB,
    "max_position_embeddings": 16,
    "bos_token_id": None,
    "eos_token_id": 0,
}
GEMMA = {
    **ROTARY_DECODER,
    "head_dim": 10,
    "pad_token_id": None,
    "query_pre_attn_scalar": 7,
    "sliding_window": 4,
}
LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": 200.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0, "original_max_position_embeddings": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 100.0,
    "original_max_position_embeddings": 8,
}


def padded(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def text_inputs(model: Any) -> tuple[dict[str, Tensor], Tensor]:
    ids, mask = padded([11, 7, 1])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.model_type == "bert":
        inputs["token_type_ids"] = torch.randint(0, 2, ids.shape) * mask
    return inputs, mask.bool()


def t5_inputs(model: Any) -> tuple[dict[str, Tensor], Tensor]:
    ids, mask = padded([40, 17, 2])
    target, target_mask = padded([6, 3, 9], seed=1)
    inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": target}
    return {**inputs, "decoder_attention_mask": target_mask}, target_mask.bool()


def vit_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    size = model.config.image_size
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    return {"pixel_values": torch.randn(3, model.config.num_channels, rows, columns)}, None


def film_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    frames = vit_inputs(model)[0]["pixel_values"].repeat(8, 1, 1, 1)[: model.config.num_frames]
    return {"pixel_values": torch.stack([frames, torch.randn_like(frames)])}, None


def vit_mae_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    inputs, _ = vit_inputs(model)
    return {**inputs, "noise": torch.rand(3, model.vit.embeddings.patch_embeddings.num_patches)}, None


def pair_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    """As many texts as pictures; each has the end mark somewhere."""
    pixels, ids = vit_inputs(model.vision_model)[0]["pixel_values"], padded([11, 11, 11])[0]
    ids[[0, 1, 1, 2], [10, 4, 7, 0]] = 5
    return {"input_ids": ids, "pixel_values": pixels}, None


def native_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    """Pictures of several shapes, one of them that of the table, padded; as many texts."""
    config = model.config.vision_config
    shapes = torch.tensor([[2, 5], [3, 3], [6, 2]])
    mask = (torch.arange(12) < shapes.prod(1)[:, None]).long()
    values = torch.randn(3, 12, config.num_channels * config.patch_size**2) * mask[..., None]
    pictures = {"pixel_values": values, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    return {"input_ids": padded([11, 11, 11])[0], **pictures}, None


def picture_in_text_inputs(model: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Texts with a picture in them: in the middle, in front, at the end, and two that are padded."""
    config = model.config
    side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
    begins, lengths = [3, 0, 2, 5], [side**2 + more for more in (5, 3, 2, 5)]
    ids, mask = padded(lengths)
    ids[ids == config.image_token_id] += 1
    for row, begin in enumerate(begins):
        ids[row, begin : begin + side**2] = config.image_token_id
    size = config.vision_config.image_size
    pixels = torch.randn(len(ids), 1, config.vision_config.num_channels, size, size)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}, mask.bool()


def whisper_inputs(model: Any) -> tuple[dict[str, Tensor], None]:
    features = torch.randn(2, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    return {"input_features": features, "decoder_input_ids": padded([5, 5])[0]}, None


def sound_inputs(model: Any) -> tuple[dict[str, Tensor], Tensor | None]:
    """Samples; of unequal lengths where padding changes nothing there."""
    lengths = torch.tensor([400, 271, 64])
    values = torch.randn(3, int(lengths[0]))
    if model.config.feat_extract_norm == "group":
        return {"input_values": values}, None
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    counts = model._get_feat_extract_output_lengths(lengths)
    return {"input_values": values * mask, "attention_mask": mask}, torch.arange(int(counts[0])) < counts[:, None]


def steps_inputs(model: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Windows of episodes, two of them padded in front."""
    config, steps = model.config, 6
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]])
    inputs = {
        "states": torch.randn(3, steps, config.state_dim),
        "actions": torch.randn(3, steps, config.act_dim),
        "returns_to_go": torch.randn(3, steps, 1),
        "timesteps": (torch.tensor([[3], [0], [9]]) + mask.cumsum(1)) * mask,
        "attention_mask": mask,
    }
    return inputs, mask.bool()


Case = tuple[Callable[..., Any], dict[str, Any], Callable[[Any], Any]]
CASES: dict[str, Case] = {
    "gpt2": (gpt2, {}, text_inputs),
    "gpt2-odd-heads": (gpt2, {"n_embd": 21, "n_head": 3, "n_inner": 37, "activation_function": "relu"}, text_inputs),
    "gpt2-untied": (gpt2, {"tie_word_embeddings": False, "scale_attn_weights": False}, text_inputs),
    "gpt2-headless": (gpt2, {"kind": transformers.GPT2Model}, text_inputs),
    "bert-masked": (bert, {}, text_inputs),
    "bert-odd-heads": (bert, {"hidden_size": 15, "num_attention_heads": 3, "hidden_act": "gelu_new"}, text_inputs),
    "bert-pooler": (bert, {"kind": transformers.BertModel}, text_inputs),
    "bert-plain": (bert, {"kind": transformers.BertModel, "more": {"add_pooling_layer": False}}, text_inputs),
    "bert-pretraining": (bert, {"kind": transformers.BertForPreTraining}, text_inputs),
    "bert-classes": (bert, {"kind": transformers.BertForSequenceClassification, "num_labels": 4}, text_inputs),
    "t5-1.0": (t5, {}, t5_inputs),
    "t5-1.0-untied": (t5, {"untied": True}, t5_inputs),
    "t5-1.1": (t5, {"untied": True, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 3}, t5_inputs),
    "t5-silu": (t5, {"feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 8}, t5_inputs),
    "t5-headless": (t5, {"kind": transformers.T5Model}, t5_inputs),
    "vit-classes": (vit, {}, vit_inputs),
    "vit-odd-heads": (
        vit,
        {"hidden_size": 15, "num_attention_heads": 3, "qkv_bias": False, "image_size": [8, 12]},
        vit_inputs,
    ),
    "vit-pooler": (vit, {"kind": transformers.ViTModel, "num_channels": 1}, vit_inputs),
    "vit-mae": (vit_mae, {"norm_pix_loss": True}, vit_mae_inputs),
    "vit-mae-plain": (vit_mae, {"mask_ratio": 0.6, "num_channels": 1, "qkv_bias": False}, vit_mae_inputs),
    "whisper-80": (whisper, {}, whisper_inputs),
    "whisper-128": (whisper, {"num_mel_bins": 128, "encoder_layers": 3, "decoder_attention_heads": 4}, whisper_inputs),
    "whisper-headless": (whisper, {"kind": transformers.WhisperModel}, whisper_inputs),
    "decision-transformer": (decision_transformer, {}, steps_inputs),
    "decision-transformer-plain": (
        decision_transformer,
        {"hidden_size": 21, "n_head": 3, "action_tanh": False, "n_inner": 30, "activation_function": "gelu_new"},
        steps_inputs,
    ),
}
CASES |= {
    "dinov2": (dinov2, {}, vit_inputs),
    "dinov2-headless": (
        dinov2,
        {"kind": transformers.Dinov2Model, "use_swiglu_ffn": True, "use_mask_token": False},
        vit_inputs,
    ),
    "dinov2-registers": (
        dinov2_with_registers,
        {"use_swiglu_ffn": True, "qkv_bias": False, "num_channels": 1, "num_attention_heads": 3},
        vit_inputs,
    ),
    "dinov2-registers-headless": (
        dinov2_with_registers,
        {"kind": transformers.Dinov2WithRegistersModel, "image_size": 12},
        vit_inputs,
    ),
}
CASES |= {
    "videomae": (videomae, {}, film_inputs),
    "videomae-first-token": (
        videomae,
        {
            "use_mean_pooling": False,
            "qv_bias": False,
            "num_channels": 1,
            "tubelet_size": 1,
            "hidden_size": 21,
            "num_attention_heads": 3,
            "hidden_act": "gelu_new",
        },
        film_inputs,
    ),
    "videomae-headless": (videomae, {"kind": transformers.VideoMAEModel}, film_inputs),
    "videomae-headless-norm": (videomae, {"kind": transformers.VideoMAEModel, "use_mean_pooling": False}, film_inputs),
}
CASES |= {
    "dinov3": (dinov3_vit, {}, vit_inputs),
    "dinov3-gated": (
        dinov3_vit,
        {
            **dict.fromkeys(("query_bias", "proj_bias", "mlp_bias"), False),
            "key_bias": True,
            "use_gated_mlp": True,
            "hidden_act": "silu",
            "image_size": [8, 16],
            "num_register_tokens": 0,
            "num_channels": 1,
            "hidden_size": 36,
            "num_attention_heads": 3,
            "rope_theta": 30.0,
        },
        vit_inputs,
    ),
    "wav2vec2": (wav2vec2, {}, sound_inputs),
    "wav2vec2-over-channels": (
        wav2vec2,
        {
            **OVER_CHANNELS,
            "num_conv_pos_embeddings": 5,
            "hidden_act": "relu",
            "pad_token_id": 3,
            "mask_time_prob": 0.0,
            "layer_norm_eps": 1e-3,
        },
        sound_inputs,
    ),
    "wav2vec2-headless": (wav2vec2, {"kind": transformers.Wav2Vec2Model, "apply_spec_augment": False}, sound_inputs),
    "hubert": (hubert, {"feat_extract_activation": "gelu_new", "num_conv_pos_embedding_groups": 1}, sound_inputs),
    "hubert-over-channels": (
        hubert,
        {**OVER_CHANNELS, "feat_proj_layer_norm": False, "mask_feature_prob": 0.1, "num_attention_heads": 3},
        sound_inputs,
    ),
    "wav2vec2-classes": (
        wav2vec2,
        {
            "kind": transformers.Wav2Vec2ForSequenceClassification,
            "use_weighted_layer_sum": True,
            "num_labels": 5,
            "classifier_proj_size": 11,
        },
        sound_inputs,
    ),
    "hubert-classes": (
        hubert,
        {"kind": transformers.HubertForSequenceClassification, "num_labels": 3, "classifier_proj_size": 30},
        sound_inputs,
    ),
    "hubert-classes-over-channels": (
        hubert,
        {
            **OVER_CHANNELS,
            "kind": transformers.HubertForSequenceClassification,
            "classifier_proj_size": 24,
        },
        sound_inputs,
    ),
    "hubert-headless": (hubert, {"kind": transformers.HubertModel, "feat_extract_norm": "layer"}, sound_inputs),
}
CASES |= {
    "siglip": (siglip, {}, pair_inputs),
    "siglip-narrow": (
        siglip,
        {
            "text": {"projection_size": None, "num_hidden_layers": 1, "hidden_act": "gelu"},
            "vision": {"hidden_size": 24, "num_channels": 1, "layer_norm_eps": 1e-3, "num_hidden_layers": 3},
        },
        pair_inputs,
    ),
}
CASES |= {
    "clip": (clip, {}, pair_inputs),
    "clip-legacy": (
        clip,
        {
            "text": {"eos_token_id": 2, "hidden_act": "gelu", "num_hidden_layers": 1},
            "vision": {"num_channels": 1, "layer_norm_eps": 1e-3, "num_hidden_layers": 3},
        },
        pair_inputs,
    ),
}
CASES |= {
    "llama": (llama, {}, text_inputs),
    "llama-biases": (
        llama,
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": None, "hidden_act": "gelu"},
        text_inputs,
    ),
    "llama-tied": (llama, {"tie_word_embeddings": True, "head_dim": 10, "rope_parameters": LLAMA3}, text_inputs),
    "llama-yarn": (llama, {"rope_parameters": YARN, "num_hidden_layers": 3, "rms_norm_eps": 1e-3}, text_inputs),
    "llama-dynamic": (
        llama,
        {
            "rope_parameters": {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 50.0},
            "max_position_embeddings": 6,
        },
        text_inputs,
    ),
    "mistral": (mistral, {}, text_inputs),
    "mistral-whole": (mistral, {"sliding_window": None, "tie_word_embeddings": True, "head_dim": 8}, text_inputs),
    "mistral-headless": (mistral, {"kind": transformers.MistralModel, "sliding_window": 1}, text_inputs),
    "qwen2": (qwen2, {"rope_parameters": YARN}, text_inputs),
    "qwen2-window": (
        qwen2,
        {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1, "num_hidden_layers": 3},
        text_inputs,
    ),
    "qwen2-headless": (qwen2, {"kind": transformers.Qwen2Model}, text_inputs),
    "qwen3": (qwen3, {"tie_word_embeddings": True}, text_inputs),
    "qwen3-window": (
        qwen3,
        {
            "use_sliding_window": True,
            "sliding_window": 3,
            "attention_bias": True,
            "num_hidden_layers": 4,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
        },
        text_inputs,
    ),
    "qwen3-headless": (qwen3, {"kind": transformers.Qwen3Model}, text_inputs),
    "olmo2": (olmo2, {}, text_inputs),
    "olmo2-biases": (
        olmo2,
        {"attention_bias": True, "num_key_value_heads": None, "tie_word_embeddings": True, "rope_parameters": YARN},
        text_inputs,
    ),
    "olmo2-headless": (olmo2, {"kind": transformers.Olmo2Model, "num_key_value_heads": 1}, text_inputs),
    "gpt-oss": (gpt_oss, {}, text_inputs),
    "gpt-oss-unscaled": (
        gpt_oss,
        {
            "num_hidden_layers": 3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
            "tie_word_embeddings": True,
            "attention_bias": False,
            "swiglu_limit": 0.5,
            "swiglu_alpha": 1.1,
            "num_experts_per_tok": 1,
        },
        text_inputs,
    ),
    "gpt-oss-headless": (gpt_oss, {"kind": transformers.GptOssModel, "num_experts_per_tok": 4}, text_inputs),
    "gemma2": (gemma2, {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}, text_inputs),
    "gemma2-biases": (
        gemma2,
        {"attention_bias": True, "attn_logit_softcapping": None, "num_hidden_layers": 3, "tie_word_embeddings": False},
        text_inputs,
    ),
    "gemma2-headless": (gemma2, {"kind": transformers.Gemma2Model, "layer_types": ["full_attention"] * 2}, text_inputs),
    "gemma3": (gemma3, {"final_logit_softcapping": 3.0}, text_inputs),
    "gemma3-scaled": (
        gemma3,
        {
            "num_hidden_layers": 6,
            "sliding_window_pattern": 6,
            "rope_parameters": {"full_attention": LINEAR, "sliding_attention": {"rope_theta": 50.0}},
        },
        text_inputs,
    ),
    "gemma3-headless": (gemma3, {"kind": transformers.Gemma3TextModel}, text_inputs),
    "llama-headless": (llama, {"kind": transformers.LlamaModel}, text_inputs),
    "mixtral": (mixtral, {"output_router_logits": True, "router_aux_loss_coef": 0.02}, text_inputs),
    "mixtral-window": (
        mixtral,
        {"sliding_window": 3, "tie_word_embeddings": True, "num_experts_per_tok": 3, "hidden_act": "gelu"},
        text_inputs,
    ),
    "mixtral-headless": (mixtral, {"kind": transformers.MixtralModel, "num_experts_per_tok": 1}, text_inputs),
    "qwen3-moe": (qwen3_moe, {"norm_topk_prob": True, "attention_bias": True, "rope_parameters": YARN}, text_inputs),
    "qwen3-moe-mixed": (
        qwen3_moe,
        {
            "num_hidden_layers": 4,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [1],
            "use_sliding_window": True,
            "sliding_window": 3,
        },
        text_inputs,
    ),
    "olmoe": (olmoe, {"clip_qkv": 0.4, "tie_word_embeddings": True}, text_inputs),
    "olmoe-biases": (
        olmoe,
        {"norm_topk_prob": True, "attention_bias": True, "num_key_value_heads": None, "rope_parameters": YARN},
        text_inputs,
    ),
    "olmoe-headless": (olmoe, {"kind": transformers.OlmoeModel, "num_experts_per_tok": 4}, text_inputs),
    "qwen3-moe-headless": (qwen3_moe, {"kind": transformers.Qwen3MoeModel, "mlp_only_layers": [0]}, text_inputs),
}
CASES |= {
    "mamba2": (mamba2, {}, text_inputs),
    "mamba2-one-group": (
        mamba2,
        {"n_groups": 1, "num_heads": 5, "head_dim": 24, "hidden_size": 40, "expand": 3, "chunk_size": 256},
        text_inputs,
    ),
    "mamba2-tied": (
        mamba2,
        {"tie_word_embeddings": True, "num_heads": 8, "head_dim": 6, "n_groups": 8, "num_hidden_layers": 3},
        text_inputs,
    ),
    "mamba2-headless": (mamba2, {"kind": transformers.Mamba2Model, "num_hidden_layers": 3}, text_inputs),
    "siglip2": (siglip2, {}, native_inputs),
    "siglip2-grey": (
        siglip2,
        {
            "text": {"num_hidden_layers": 1, "hidden_act": "gelu"},
            "vision": {"num_channels": 1, "num_patches": 25, "layer_norm_eps": 1e-3, "num_attention_heads": 5},
        },
        native_inputs,
    ),
    "siglip-cut": (siglip, {"vision": {"image_size": 11}}, pair_inputs),
    "smolvlm": (smolvlm, {}, picture_in_text_inputs),
    "smolvlm-tied": (
        smolvlm,
        {
            "text": {"num_key_value_heads": 1, "rope_parameters": LLAMA3, "num_hidden_layers": 1, "head_dim": 10},
            "vision": {"num_channels": 1, "layer_norm_eps": 1e-3, "num_hidden_layers": 3, "hidden_act": "gelu"},
            "tie_word_embeddings": True,
            "scale_factor": 1,
        },
        picture_in_text_inputs,
    ),
    "smolvlm-biases": (
        smolvlm,
        {
            "text": {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-3},
            "vision": {"image_size": 24},
            "scale_factor": 3,
        },
        picture_in_text_inputs,
    ),
    "smolvlm-headless": (smolvlm, {"kind": transformers.SmolVLMModel}, picture_in_text_inputs),
    "idefics3": (idefics3, {}, picture_in_text_inputs),
}
CASES |= {
    "modernbert": (modernbert, {}, text_inputs),
    "modernbert-biases": (
        modernbert,
        {
            **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True),
            "hidden_activation": "silu",
            "classifier_activation": "relu",
            "num_attention_heads": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 50.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            },
        },
        text_inputs,
    ),
    "modernbert-classes": (
        modernbert,
        {"kind": transformers.ModernBertForSequenceClassification, "num_labels": 4},
        text_inputs,
    ),
    "modernbert-mean": (
        modernbert,
        {
            "kind": transformers.ModernBertForSequenceClassification,
            "num_labels": 3,
            "classifier_pooling": "mean",
            "norm_eps": 1e-3,
        },
        text_inputs,
    ),
    "modernbert-headless": (modernbert, {"kind": transformers.ModernBertModel, "local_attention": 4}, text_inputs),
    "esm": (esm, {}, text_inputs),
    "esm-absolute": (
        esm,
        {"position_embedding_type": "absolute", "emb_layer_norm_before": True, "num_attention_heads": 3},
        text_inputs,
    ),
    "esm-plain": (esm, {"token_dropout": False, "mask_token_id": None, "rope_theta": 50.0}, text_inputs),
    "esm-classes": (esm, {"kind": transformers.EsmForSequenceClassification, "num_labels": 4}, text_inputs),
    "esm-headless": (esm, {"kind": transformers.EsmModel}, text_inputs),
}
OUTPUTS = (
    *("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
    *("logits", "prediction_logits", "seq_relationship_logits", "last_hidden_state", "pooler_output"),
)


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder
