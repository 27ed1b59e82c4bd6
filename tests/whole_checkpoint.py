"""A checkpoint with all its tensors, wherever they lie."""

import torch

from mmtx.run.checkpoint_shards import verify_shards
from mmtx.training.stored_tensors import put_together, whole_tensors


def whole_checkpoint(file):
    content = torch.load(file, weights_only=True)
    if "shards" in content:
        content = _read(put_together(content, verify_shards(file, content.pop("shards"))))
    return content


def _read(node):
    if not isinstance(node, dict):
        return node
    return {key: _read(child) for key, child in whole_tensors(node).items()}
