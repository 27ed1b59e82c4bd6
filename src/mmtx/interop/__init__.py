"""Public weights in and out: GPT-2, BERT, T5, ViT, Whisper, the decision transformer,
Llama, Mistral, Qwen 2 and 3."""

from mmtx.interop.forward import forward
from mmtx.interop.importing import from_pretrained

__all__ = ["forward", "from_pretrained"]
