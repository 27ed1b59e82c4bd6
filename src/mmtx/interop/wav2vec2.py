"""Wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), as `transformers` stores it."""

from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, every, harmless, only
from mmtx.interop.speech_encoder import SpeechEncoder
from mmtx.interop.speech_keys import SPEECH_KEYS


class Wav2Vec2(SpeechEncoder):
    """Wav2vec 2.0 with a head for CTC, for classes, or without one; of pre-training, without its quantizer."""

    name = "wav2vec2"
    body = "Wav2Vec2Model"
    kinds = ("Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification", "Wav2Vec2ForPreTraining")
    left_out = r"^(quantizer|project_q|project_hid)\."
    keys: ClassVar[Keys] = {
        **SPEECH_KEYS,
        **every("add_adapter", only(False, note="convolutions behind the encoder")),
        **every(
            "adapter_kernel_size adapter_stride num_adapter_layers output_hidden_size",
            harmless("of `add_adapter`, which is refused"),
        ),
        "adapter_attn_dim": only(note="adapters of languages in each layer"),
        **every(
            "feat_quantizer_dropout num_codevectors_per_group num_codevector_groups contrastive_logits_temperature "
            "num_negatives codevector_dim proj_codevector_dim diversity_loss_weight",
            harmless("of pre-training, whose own weights are left out"),
        ),
        **every(
            "tdnn_dim tdnn_kernel tdnn_dilation xvector_output_dim", harmless("a head for speakers, which is refused")
        ),
    }
