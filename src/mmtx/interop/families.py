"""The public families that the backbone is, by config."""

from mmtx.interop.bert import BERT
from mmtx.interop.decision_transformer import DecisionTransformer
from mmtx.interop.family import Family
from mmtx.interop.gpt2 import GPT2
from mmtx.interop.llama import Llama
from mmtx.interop.t5 import T5
from mmtx.interop.vit import ViT
from mmtx.interop.whisper import Whisper

FAMILIES: dict[str, Family] = {
    family.name: family for family in (GPT2(), BERT(), T5(), ViT(), Whisper(), DecisionTransformer(), Llama())
}
