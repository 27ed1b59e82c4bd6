"""Keys that the files of every public family may hold, from the first versions of `transformers` on."""

from mmtx.data.files.supported_keys import Key, Keys, every, harmless, only, used

CONFIG: Keys = {
    "model_type": used("the family"),
    "architectures": used("the kind of model; must be one that mmtx reads, and the one whose weights are there"),
    **every(
        "_name_or_path name_or_path _commit_hash transformers_version transformers.js_config finetuning_task language "
        "name license",
        harmless("where the model came from"),
    ),
    **every("dtype torch_dtype use_bfloat16 torchscript xla_device", harmless("weights are read as float32")),
    **every(
        "output_attentions output_hidden_states output_past return_dict use_return_dict use_cache tf_legacy_loss "
        "keys_to_ignore_at_inference",
        harmless("what a call returns, not what it computes"),
    ),
    **every(
        "attn_implementation _attn_implementation _attn_implementation_internal _attn_implementation_autoset "
        "_experts_implementation _experts_implementation_internal gradient_checkpointing chunk_size_feed_forward",
        harmless("how the same numbers are computed"),
    ),
    "task_specific_params": harmless("settings of pipelines, which apply only when one is named"),
    "tokenizer_class": harmless("the tokenizer's own files have it; checked where they do not"),
    **every(
        "sep_token_id pad_token_id bos_token_id", harmless("mmtx takes tokens by their spelling, and masks padding")
    ),
    "prefix": only("", note="text put before every text"),
    "pruned_heads": only({}, note="heads that were taken out"),
    "cross_attention_hidden_size": only(note="width of another encoder"),
    **every("tie_encoder_decoder is_composition", only(False, note="one model made of two")),
    "per_layer_config": only(note="layers of unequal shape"),
    "quantization_config": only(note="weights in another format"),
    "auto_map": only(note="code of its own, which mmtx does not run"),
}
"""Of ``config.json``."""

GENERATION: Keys = {
    "transformers_version": harmless("where it came from"),
    "_from_model_config": harmless("where it came from"),
}
"""Of every ``generation_config.json``."""
DECODER_FLAGS = every("is_decoder add_cross_attention", only(False, note="a stack of another kind"))
NO_CLASSES = every(
    "id2label label2id num_labels _num_labels problem_type", harmless("this family has no head for classes here")
)
CLASSES: Keys = {
    "id2label": used("names of the classes by number, each number once; a name that comes twice has its number added"),
    "label2id": used("must agree with `id2label`, or name the classes LABEL_0, LABEL_1, ..."),
    **every("num_labels _num_labels", used("must be the number of classes")),
    "problem_type": used("null or `single_label_classification`, where there is a head for classes"),
}

_ARGUMENTS = "an argument of `mmtx generate`"
_NAMES = {
    "drawn": "do_sample temperature top_k top_p max_length max_new_tokens max_time",
    "beams": "early_stopping length_penalty",
    "speed": "use_cache cache_implementation cache_config max_cache_len low_memory prefill_chunk_size compile_config "
    "disable_compile continuous_batching_config use_mtp is_assistant num_assistant_tokens "
    "num_assistant_tokens_schedule assistant_confidence_threshold assistant_early_exit assistant_lookbehind "
    "target_lookbehind assistant_ensemble_weight speculation_type prompt_lookup_num_tokens "
    "max_matching_ngram_size renormalize_logits remove_invalid_values",
    "outputs": "output_attentions output_hidden_states output_scores output_logits return_dict_in_generate "
    "return_legacy_cache generation_kwargs",
    "ids": "pad_token_id bos_token_id",
}
_REFUSED: Keys = {
    "num_beams": only(1, note="beam search; after import, `beam_size=` of `mmtx generate`"),
    **every("num_beam_groups num_return_sequences", only(1, note="several texts")),
    **every("min_length no_repeat_ngram_size encoder_no_repeat_ngram_size", only(0, note="ids that may not come")),
    "min_new_tokens": only(0, note="ids that may not come"),
    **every("repetition_penalty encoder_repetition_penalty", only(1, note="changes scores")),
    **every("guidance_scale typical_p", only(1, note="changes scores")),
    **every("diversity_penalty penalty_alpha epsilon_cutoff eta_cutoff min_p", only(0, note="changes scores")),
    **every("exponential_decay_length_penalty sequence_bias top_h", only(note="changes scores")),
    **every("dola_layers watermarking_config", only(note="changes scores")),
    **every("bad_words_ids force_words_ids constraints", only([], note="ids that may not or must come")),
    **every("forced_bos_token_id forced_eos_token_id", only(note="ids that must come")),
    **every("stop_strings", only([], note="texts that end")),
    "token_healing": only(False, note="changes the end of a prompt"),
}
SUPPRESSED = every("suppress_tokens begin_suppress_tokens", only([], note="ids that are never written"))

WRITING: Keys = {
    **every(_NAMES["drawn"], harmless(_ARGUMENTS)),
    **every(_NAMES["beams"], harmless("of beam search, which `num_beams` refuses")),
    **every(_NAMES["speed"], harmless("speed, not what is written")),
    **every(_NAMES["outputs"], harmless("what a call returns")),
    **every(_NAMES["ids"], harmless("mmtx masks padding, and begins as the family does")),
    "eos_token_id": used("ends a text. `generation_config.json` goes before `config.json`"),
    "eos_token_ids": harmless("of the first versions; nothing reads it any more"),
    **_REFUSED,
}
"""Of ``generation_config.json``, which older versions kept in ``config.json``: a family that writes text."""

SILENT: Keys = every(
    " ".join([*_NAMES.values(), *_REFUSED, *SUPPRESSED, "eos_token_id eos_token_ids decoder_start_token_id"]),
    harmless("how text is written; this family writes none"),
)
"""The same of a family that writes no text."""


def encoder_decoder(value: bool) -> dict[str, Key]:
    return {"is_encoder_decoder": only(value, note="a stack of another kind")}
