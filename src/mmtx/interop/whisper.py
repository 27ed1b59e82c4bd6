"""Whisper (Radford et al. 2022), as `transformers`, openai-whisper and CTranslate2 store it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Key, Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, head_outputs, one_id, text_batch
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.links import Link, Several, Weights, both, same, stacked
from mmtx.interop.whisper_prompt import MANY, decoder_prompt, default_marks, suppressed_ids
from mmtx.learner import Learner
from mmtx.nn.positions import Sinusoidal
from mmtx.objectives.seq2seq import Seq2Seq

RATE, HOP = 16_000, 160
POSITIONS = "model.encoder.embed_positions.weight"
SOUND: Keys = {
    "feature_extractor_type": only("WhisperFeatureExtractor", note="spectrograms of another kind"),
    "feature_size": Key("harmless", "bands once more", "as `num_mel_bins` of config.json"),
    "sampling_rate": only(RATE, note="samples a second"),
    "hop_length": only(HOP, note="the spectrogram"),
    "n_fft": only(400, note="the spectrogram"),
    **every("chunk_length n_samples nb_max_frames", harmless("length of sound; `max_source_positions` has it")),
    "mel_filters": harmless("filters, which follow from the other keys"),
    "padding_value": only(0, note="silence"),
    "padding_side": only("right", note="silence"),
    "dither": only(0, note="noise"),
    "do_normalize": only(False, note="sound scaled to a variance of 1"),
    **every("processor_class return_attention_mask", harmless("where it came from, what a call returns")),
}
"""Of its ``preprocessor_config.json``."""


class Whisper(Family):
    name = "whisper"
    body = "WhisperModel"
    prefix = "model."
    kinds = ("WhisperForConditionalGeneration", "WhisperModel")
    keys: ClassVar[Keys] = {
        **NO_CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(True),
        "vocab_size": used("ids", MANY),
        "num_mel_bins": used("bands of the spectrogram", 80),
        "d_model": used("width", 384),
        "encoder_layers": used("layers of the encoder", 4),
        "encoder_attention_heads": used("heads of the encoder", 6),
        "encoder_ffn_dim": used("width of its feed-forward half", 1536),
        "decoder_layers": used("layers of the decoder", 4),
        "decoder_attention_heads": used("heads of the decoder", 6),
        "decoder_ffn_dim": used("width of its feed-forward half", 1536),
        "activation_function": used("activation", "gelu"),
        "dropout": used("dropout", 0.0),
        "attention_dropout": used("dropout of attention", 0.0),
        "activation_dropout": only(0, note="dropout within the feed-forward half"),
        **every("encoder_layerdrop decoder_layerdrop", only(0, note="layers left out in training")),
        "init_std": used("new weights", 0.02),
        "scale_embedding": only(False, note="scaled embeddings"),
        "max_source_positions": used("length of sound, 50 a second", 1500),
        "max_target_positions": used("context", 448),
        "tie_word_embeddings": used("false: the file must have a head, equal to the embedding", True),
        "apply_spec_augment": only(False, note="masked spectrograms in training; here modality.audio has an option"),
        **every(
            "mask_time_prob mask_time_length mask_time_min_masks mask_feature_prob mask_feature_length "
            "mask_feature_min_masks",
            harmless("of `apply_spec_augment`, which is refused"),
        ),
        **every(
            "use_weighted_layer_sum classifier_proj_size",
            harmless("the head of WhisperForAudioClassification, which is refused"),
        ),
        "median_filter_width": harmless("times of words"),
    }
    generation: ClassVar[Keys] = {
        **WRITING,
        "decoder_start_token_id": used("begins a text"),
        "suppress_tokens": used("ids that are never written; of `config.json` without a `generation_config.json`"),
        "begin_suppress_tokens": used("ids that no text begins with; likewise"),
        "forced_decoder_ids": used("what follows the beginning, where neither language nor task is given"),
        "language": used("what follows the beginning; null: English"),
        "task": used("what follows the language; null: transcribe"),
        "is_multilingual": used(
            "whether language and task follow the beginning; default by the size of the vocabulary"
        ),
        **every("lang_to_id task_to_id no_timestamps_token_id", used("ids of languages, tasks, and of no times")),
        "return_timestamps": only(False, note="times between the words"),
        **every(
            "alignment_heads max_initial_timestamp_index prev_sot_token_id median_filter_width",
            harmless("times, and texts before this one"),
        ),
    }
    preprocessor = SOUND
    aliases: ClassVar[Mapping[str, str]] = {
        "num_key_value_heads": "encoder_attention_heads",
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    }
    vocabularies = ("data/vocabulary",)
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
    byte_level_class = "WhisperTokenizer"
    added = {"text": ("model.position_embeddings.text.table.weight",)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        start, end = default_marks(config["vocab_size"])
        marks = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end, "bos_token_id": end}
        for key, default in marks.items():
            if config.get(key) is None:
                config[key] = default
        if config["tie_word_embeddings"] is False and "proj_out.weight" not in weights:
            raise UserError("tie_word_embeddings=False, but proj_out.weight is missing: the head has no weights")
        given, (count, dim) = weights.get(POSITIONS), (config["max_source_positions"], config["d_model"])
        if given is not None and given.shape == (count, dim) and _beyond_sinusoids(given)[1] > 1e-2:
            raise UserError(f"{POSITIONS} are no sinusoids; mmtx computes them and cannot take others")
        return config

    def describe(self, config: Config, files: Files) -> Described:
        size, dim, positions = config["vocab_size"], config["d_model"], config["max_source_positions"]
        begin, end = config["decoder_start_token_id"], one_id(config, "eos_token_id")
        prompt = decoder_prompt(config, files)
        bands = files.side_files.get("preprocessor_config", {}).get("feature_size")
        if bands not in (None, config["num_mel_bins"]):
            raise UserError(
                f"feature_size={bands} of preprocessor_config, num_mel_bins={config['num_mel_bins']} of config"
            )
        samples = positions * 2 * HOP
        values = self.from_same(config) | {
            **feed_forward(config["activation_function"], config["decoder_ffn_dim"], dim),
            "encode": ["audio"],
            "encoder": {
                "num_layers": config["encoder_layers"],
                "num_heads": config["encoder_attention_heads"],
                "mlp": {"expansion": config["encoder_ffn_dim"] / dim},
                "positions": {"absolute": {"_target_": "mmtx.nn.Sinusoidal", "_partial_": True, "base": 1e4}},
            },
            "modality.audio.pad_to_seconds": samples / RATE,
            "objective.seq2seq.prompt": prompt,
            "objective.seq2seq.suppress": suppressed_ids(config, "suppress_tokens"),
            "objective.seq2seq.suppress_first": suppressed_ids(config, "begin_suppress_tokens"),
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

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        """The prompt of the decoder, and the ids that are never written."""
        objective, vocabulary = at(ours, "objective.seq2seq"), specs["text"].vocabulary
        assert vocabulary is not None
        prompt = [[position, i] for position, i in enumerate(objective["prompt"], start=1)]
        never, not_first = objective["suppress"], objective.get("suppress_first")
        suppressed = {"forced_decoder_ids": prompt, "suppress_tokens": never, "begin_suppress_tokens": not_first}
        marks = {"decoder_start_token_id": vocabulary.begin, "eos_token_id": vocabulary.end}
        padding = {"pad_token_id": vocabulary.end, "bos_token_id": vocabulary.end}
        return {"generation_config": {**marks, **padding, **{key: value for key, value in suppressed.items() if value}}}

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
        hidden = learner.model(batch).tokens("text")
        return head_outputs(learner, Seq2Seq, hidden, config["architectures"] == [self.body])


def with_features(batch: Any, features: Tensor) -> Any:
    """A batch with spectrograms ``(B, mels, frames)`` as its sound."""
    lengths = torch.full((features.shape[0],), features.shape[2], device=features.device)
    return batch.with_name("audio", {"frames": features.transpose(1, 2)}, lengths, full=True)


def sinusoids(count: int, dim: int) -> Tensor:
    return Sinusoidal((count,), dim, base=1e4)(torch.arange(count)[:, None])


def _beyond_sinusoids(table: Tensor) -> tuple[Tensor, Tensor]:
    """The mean difference of a table to sinusoids, ``(D,)``, and the largest deviation of a row from it."""
    beyond = table - sinusoids(*table.shape).to(table.device)
    return beyond.mean(0), (beyond - beyond.mean(0)).abs().max()


def _type_of_sound(theirs: Several) -> Several:
    """The type embedding, which the family adds to its sinusoids; zeros, where it is less than the rounding."""
    common, rounding = _beyond_sinusoids(theirs[0])
    return [common if common.abs().max() > rounding else torch.zeros_like(common)]


def _attention(here: str, there: str) -> list[Link]:
    links = [stacked(f"{here}.qkv.weight", [f"{there}.{linear}_proj.weight" for linear in "qkv"])]
    links += [same(f"{here}.biases.{part}", f"{there}.{part[0]}_proj.bias") for part in ("query", "value")]
    return links + both(f"{here}.out", f"{there}.out_proj") + both(f"{here}_norm", f"{there}_layer_norm")
