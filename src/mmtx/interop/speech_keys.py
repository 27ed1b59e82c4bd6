"""Keys of the files of wav2vec 2.0 and HuBERT."""

from mmtx.data.files.supported_keys import Key, Keys, every, harmless, only, used
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, encoder_decoder

RATE = 16_000
MASKS = {
    f"{ours}_{part}": f"mask_{theirs}_{name}"
    for ours, theirs in (("time", "time"), ("feature", "feature"))
    for part, name in (("share", "prob"), ("length", "length"), ("least", "min_masks"))
}
"""``{argument of SpanMasks: key}``."""

WAVEFORM: Keys = {
    "feature_extractor_type": only("Wav2Vec2FeatureExtractor", note="sound in another form"),
    "feature_size": only(1, note="numbers for each sample"),
    "sampling_rate": used("samples a second", RATE),
    "do_normalize": used("each clip has mean 0 and variance 1", True),
    **every("padding_value padding_side return_attention_mask", harmless("mmtx masks padding")),
    **every("processor_class image_processor_type", harmless("where it came from")),
}
"""Of ``preprocessor_config.json``."""

SPEECH_KEYS: Keys = {
    **CLASSES,
    **DECODER_FLAGS,
    **encoder_decoder(False),
    "vocab_size": used("rows of the head for CTC", 32),
    "hidden_size": used("width", 768),
    "num_hidden_layers": used("layers", 12),
    "num_attention_heads": used("heads", 12),
    "intermediate_size": used("width of the feed-forward half", 3072),
    "hidden_act": used("activation", "gelu"),
    "hidden_dropout": used("dropout", 0.1),
    "activation_dropout": used("dropout within the feed-forward half", 0.1),
    "attention_dropout": used("dropout of attention", 0.1),
    "feat_proj_dropout": used("dropout of tokens before their positions", 0.0),
    "final_dropout": used("dropout before the head for CTC", 0.1),
    "layerdrop": harmless("layers left out in training; mmtx trains all (`backbone.drop_path` leaves out halves)"),
    "initializer_range": used("new weights", 0.02),
    "layer_norm_eps": used("normalisation", 1e-5),
    "do_stable_layer_norm": used("normalisation before each half, not after its sum", False),
    "feat_extract_norm": used("`group`: of the first convolution over time, or `layer`: of all over channels", "group"),
    "feat_extract_activation": used("activation of the convolutions", "gelu"),
    "conv_dim": used("channels of each convolution", [512] * 7),
    "conv_stride": used("stride of each", [5, 2, 2, 2, 2, 2, 2]),
    "conv_kernel": used("samples, or frames, that each reads", [10, 3, 3, 3, 3, 2, 2]),
    "conv_bias": used("biases of the convolutions", False),
    "num_feat_extract_layers": Key(
        "harmless",
        "number of convolutions",
        "as long as `conv_dim`",
        lambda value, content: value in (None, len(content["conv_dim"])),
    ),
    "num_conv_pos_embeddings": used("tokens that the convolution of positions reads", 128),
    "num_conv_pos_embedding_groups": used("of its features", 16),
    "apply_spec_augment": used("whether tokens are masked in training", True),
    "mask_time_prob": used("share of the tokens that are masked", 0.05),
    "mask_time_length": used("tokens of a mask", 10),
    "mask_time_min_masks": used("the fewest masks of a sample", 2),
    "mask_feature_prob": used("share of the features that are masked", 0.0),
    "mask_feature_length": used("features of a mask", 10),
    "mask_feature_min_masks": used("the fewest of these", 0),
    "pad_token_id": used("the blank of CTC", 0),
    **every(
        "ctc_loss_reduction ctc_zero_infinity", harmless("sums of losses; mmtx counts each id, and leaves out inf")
    ),
    "use_weighted_layer_sum": used("the head for classes reads a mean over the depth, not the last layer alone", False),
    "classifier_proj_size": used("width between the two linear maps of the head for classes", 256),
    **every(
        "feat_extract_dropout freeze_feat_extract_train mask_channel_length mask_channel_min_space mask_channel_other "
        "mask_channel_prob mask_channel_selection mask_time_min_space mask_time_other mask_time_selection "
        "no_mask_channel_overlap no_mask_time_overlap",
        harmless("of fairseq; `transformers` reads none of them"),
    ),
}
"""Of ``config.json``."""
