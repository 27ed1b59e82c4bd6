"""Gemma 2 (Gemma team 2024, arXiv 2408.00118): a window in every second layer, and softcaps."""

from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.gemma import GEMMA_KEYS, Gemma


class Gemma2(Gemma):
    name = "gemma2"
    body = "Gemma2Model"
    kinds = ("Gemma2ForCausalLM", "Gemma2Model")
    keys: ClassVar[Keys] = {**GEMMA_KEYS, "max_position_embeddings": used("context", 8192)}
    same = {**Gemma.same, "backbone.attention.softcap": "attn_logit_softcapping"}
    every = 2
