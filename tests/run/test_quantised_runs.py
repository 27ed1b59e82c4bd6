"""A run over frozen weights in fewer bits goes on, bit for bit, wherever it was killed; and is compiled."""

import pytest
import torch
from test_resume import WORDS, assert_same_run, play
from whole_checkpoint import whole_checkpoint

from mmtx.batch import fake_batch
from mmtx.config.compose import compose
from mmtx.experiment import assemble

pytest.importorskip("torchao")

KILLS = [("step.before_update", 5), ("ckpt.half", 1), ("ckpt.renamed", 1), ("val.step", 1)]
"""Within a step, while a checkpoint is written, before it counts, and in a validation."""


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["nf4", pytest.param("int8", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_the_same_run(bits, tmp_path):
    words = [*WORDS, "lora=attention", f"lora.quantised={bits}", "lora.rank=2"]
    begin = [{"words": [*words, "run_dir=whole"]}, {"words": [*words, "run_dir=run"]}]
    cases = [*begin, *({"words": ["resume", "run"]} for _ in KILLS)]
    for case, (at, nth) in zip(cases[1:], KILLS, strict=False):
        case.update(at=at, nth=nth)
    done = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert [each["code"] for each in done] == [0, *[-9] * len(KILLS), 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    state = whole_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    assert any(".original" in key and value.dtype in (torch.uint8, torch.int8) for key, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_compiled_by_inductor_it_learns_the_same(bits, unchecked):
    """Loss and gradients of one batch."""
    sizes = ["backbone.dim=16", "backbone.num_layers=1", "backbone.num_heads=2", "modality.image.patch_size=4"]
    words = ["data=digits", "modality=[image,text]", "objective=[next_token]", "logger=[]", *sizes]
    found = []
    for compiled in ("false", "true"):
        torch.manual_seed(0)
        more = ["lora=attention", f"lora.quantised={bits}", f"backbone.compile={compiled}"]
        learner = assemble(compose([*words, *more])).learner.train()
        for name, parameter in learner.named_parameters():
            if name.endswith(".up"):
                torch.nn.init.normal_(parameter)
        batch = fake_batch(learner.specs, 4)
        (score,) = learner(batch).values()
        (score.loss_sum / score.count).backward()
        found.append([score.loss_sum.detach(), *(p.grad for p in learner.parameters() if p.grad is not None)])
    assert len(found[0]) > 5
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
