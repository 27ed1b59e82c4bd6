"""HuBERT (Hsu et al. 2021, arXiv 2106.07447), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config, at
from mmtx.interop.speech_encoder import SpeechEncoder
from mmtx.interop.speech_keys import SPEECH_KEYS


class HuBERT(SpeechEncoder):
    """HuBERT with a head for CTC, for classes, or without one."""

    name = "hubert"
    body = "HubertModel"
    kinds = ("HubertModel", "HubertForCTC", "HubertForSequenceClassification")
    keys: ClassVar[Keys] = {
        **SPEECH_KEYS,
        "feat_proj_layer_norm": used("normalisation before the linear map", True),
        "conv_pos_batch_norm": only(False, note="statistics of batches before the convolution of positions"),
    }

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        has_norm = at(ours, "modality.audio.stem.projection_norm")
        if has_norm and ours.get("name") != self.name:
            raise UserError(f"it is not called {self.name}; a wav2vec2 is the same")
        return super().config(ours, specs) | {"feat_proj_layer_norm": has_norm}
