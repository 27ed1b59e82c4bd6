"""The public families that the backbone is, by config."""

from mmtx.interop.bert import BERT
from mmtx.interop.clip import CLIP
from mmtx.interop.decision_transformer import DecisionTransformer
from mmtx.interop.dinov2 import DINOv2, DINOv2WithRegisters
from mmtx.interop.dinov3 import DINOv3
from mmtx.interop.esm import ESM
from mmtx.interop.family import Family
from mmtx.interop.gemma2 import Gemma2
from mmtx.interop.gemma3 import Gemma3
from mmtx.interop.gpt2 import GPT2
from mmtx.interop.gpt_oss import GptOss
from mmtx.interop.hubert import HuBERT
from mmtx.interop.llama import Llama
from mmtx.interop.mamba2 import Mamba2
from mmtx.interop.mistral import Mistral
from mmtx.interop.mixtral import Mixtral
from mmtx.interop.modernbert import ModernBERT
from mmtx.interop.olmo2 import Olmo2
from mmtx.interop.olmoe import OLMoE
from mmtx.interop.qwen2 import Qwen2
from mmtx.interop.qwen3 import Qwen3
from mmtx.interop.qwen3_moe import Qwen3MoE
from mmtx.interop.siglip import SigLIP
from mmtx.interop.siglip2 import SigLIP2
from mmtx.interop.smolvlm import Idefics3, SmolVLM
from mmtx.interop.t5 import T5
from mmtx.interop.videomae import VideoMAE
from mmtx.interop.vit import ViT
from mmtx.interop.vit_mae import ViTMAE
from mmtx.interop.wav2vec2 import Wav2Vec2
from mmtx.interop.whisper import Whisper

EVERY = (
    *(GPT2(), BERT(), T5(), ViT(), Whisper(), DecisionTransformer()),
    *(DINOv2(), DINOv2WithRegisters(), DINOv3(), ViTMAE(), VideoMAE(), CLIP(), SigLIP(), SigLIP2()),
    *(ModernBERT(), ESM()),
    *(HuBERT(), Wav2Vec2()),
    *(Llama(), Mistral(), Qwen2(), Qwen3(), Olmo2(), Gemma2(), Gemma3()),
    *(Mixtral(), Qwen3MoE(), OLMoE(), GptOss()),
    Mamba2(),
    *(SmolVLM(), Idefics3()),
)
FAMILIES: dict[str, Family] = {family.name: family for family in EVERY}
