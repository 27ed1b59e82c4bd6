"""A Llama without its causal mask, as LLaDA is (Nie et al. 2025, arXiv 2502.09992): scores of masked ids."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import VOCAB, llama, padded, saved  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402
from mmtx.objectives.masked_diffusion import MaskedDiffusion  # noqa: E402
from mmtx.run.init_from import initialise_from  # noqa: E402

MASK = VOCAB - 1


def bidirectional(learner: Any) -> dict[str, Any]:
    config = copy.deepcopy(dict(learner.config))
    config["modality"]["text"]["causal"] = False
    config["backbone"]["positions"]["rotary"]["axes"] = ["index"]
    diffusion = {"_target_": "mmtx.objectives.MaskedDiffusion", "weight": 1.0, "names": ["text"], "block_size": None}
    config["objective"] = {"masked_diffusion": {**diffusion, "mask": MASK, "tied": True}}
    return config


def test_scores_are_those_of_transformers_with_a_full_mask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = llama(tie_word_embeddings=True)
    imported = mmtx.from_pretrained(saved(theirs, tmp_path))
    learner = rebuild(bidirectional(imported), imported.specs)
    report = initialise_from(learner, str(tmp_path), [])
    assert report.new == ["model.type_embeddings.text"] and not report.left  # which begins at zero
    ids, mask = padded([9, 5])
    hidden = (torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.5) & mask.bool()
    objective = learner.objective("masked_diffusion").eval()
    assert isinstance(objective, MaskedDiffusion)
    batch = Batch({"text": {"ids": ids, "masked": hidden}}, {"text": mask.sum(1)}, {"text": False})
    with torch.no_grad():
        everything = mask[:, None, None].bool().expand(-1, 1, ids.shape[1], -1)
        bias = torch.zeros(everything.shape).masked_fill(~everything, torch.finfo(torch.float32).min)
        expected = theirs(input_ids=ids.masked_fill(hidden, MASK), attention_mask=bias).logits
        causal = theirs(input_ids=ids.masked_fill(hidden, MASK), attention_mask=mask).logits
        found = objective.logits(learner.model, batch)["text"]
    real, others = mask.bool(), torch.arange(VOCAB) != MASK
    torch.testing.assert_close(found[real][:, others], expected[real][:, others], atol=1e-5, rtol=1e-5)
    assert (found[real][:, MASK] == float("-inf")).all(), "a mask is never written"
    assert not torch.allclose(expected[real], causal[real], atol=0.1)
