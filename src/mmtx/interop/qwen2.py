"""Qwen 2 and 2.5 (Yang et al. 2024, arXiv 2407.10671): queries, keys and values with a bias."""

from mmtx.interop.qwen import Qwen


class Qwen2(Qwen):
    name = "qwen2"
    body = "Qwen2Model"
    kinds = ("Qwen2ForCausalLM", "Qwen2Model")
    biases = ("query", "key", "value")
