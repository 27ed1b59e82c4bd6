"""Losses and gradients beside those of TRL's trainers, whose functions get our log-probabilities."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from test_policy_gradient import METHODS, Places, begun, generator, learner_of, made, specs_of
from test_preference import made_model, pairs, preference, with_reference
from torch import Tensor

from mmtx.objectives.advantages import Method, advantages
from mmtx.objectives.log_probabilities import log_probabilities, reference_log_probabilities
from mmtx.objectives.preference_losses import HingePreference, PreferenceLoss, SigmoidPreference, SquaredPreference

pytestmark = pytest.mark.peers
WHY = "needs TRL: pip install trl==1.16.0"


def trainer(**keys: Any) -> Any:
    """A trainer of one process, of which nothing is there but what a loss reads."""
    same = SimpleNamespace(
        gather=lambda x: x,
        gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x,
        num_processes=1,
        device=torch.device("cpu"),
    )
    made: Any = MagicMock(accelerator=same, epsilon_low=0.2, epsilon_high=0.2, current_gradient_accumulation_steps=1)
    made.configure_mock(aux_loss_enabled=False, use_vllm=False, top_entropy_quantile=1.0, **keys)
    made.off_policy_mask_threshold, made._entropy_bonus_enabled = None, False
    made.args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    made.importance_sampling_level, made.model = "token", SimpleNamespace(training=True)
    return made


def assert_same(mean: Tensor, other: Tensor, parameters: list[Tensor]) -> None:
    torch.testing.assert_close(mean, other, atol=1e-5, rtol=1e-4)
    grads = [torch.autograd.grad(each, parameters, allow_unused=True, retain_graph=True) for each in (mean, other)]
    for one, another in zip(*grads, strict=True):
        assert (one is None) == (another is None)
        if one is not None and another is not None:
            torch.testing.assert_close(one, another, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_policy_gradients(method: Method) -> None:
    """The advantages of leave-one-out have the distance in their rewards, as TRL's."""
    grpo = pytest.importorskip("trl.trainer.grpo_trainer", reason=WHY).GRPOTrainer
    rloo = pytest.importorskip("trl.trainer.rloo_trainer", reason=WHY).RLOOTrainer
    keys: dict[str, Any] = {"rewards": {"places": Places(weight=1.0)}, "method": method, "beta": 0.3}
    whole, objective = made(specs_of(), **keys)
    learner = learner_of(whole, objective, specs_of())
    batch = objective.prepare(whole, begun(3), generator())
    score, flat = objective(whole, batch), objective._rollouts.flat(batch)
    own, written = log_probabilities(whole, objective.head, flat)
    start = reference_log_probabilities(learner.references[0], objective.head, flat)
    rewards = batch["rollouts"]["reward/places"]
    if method == "rloo":
        rewards = rewards - 0.3 * ((own - start) * written).sum(1).detach().view_as(rewards)
    ids, mask = flat["text"]["ids"][:, 1:], written.float()
    inputs = {"prompt_ids": ids[:, :0], "prompt_mask": mask[:, :0], "completion_ids": ids, "completion_mask": mask}
    inputs |= {"advantages": advantages(rewards, method).flatten(), "ref_per_token_logps": start}
    inputs |= {"old_logps": own.sum(1).detach(), "num_items_in_batch": mask.sum()}
    theirs = trainer(beta=0.3, loss_type=method, max_completion_length=4)
    theirs._get_per_token_logps_and_entropies = lambda *_, **__: (own, torch.zeros_like(own), None)
    other = (rloo if method == "rloo" else grpo)._compute_loss(theirs, whole, inputs)
    assert_same(score.loss_sum / score.count, other, [*whole.parameters()])


LOSSES: dict[str, tuple[PreferenceLoss, bool]] = {
    "sigmoid": (SigmoidPreference(beta=0.3, label_smoothing=0.0), False),
    "hinge": (HingePreference(beta=0.3), False),
    "ipo": (SquaredPreference(beta=0.3), True),  # TRL's takes means over ids
    "sigmoid_norm": (SigmoidPreference(beta=0.3, label_smoothing=0.0), True),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_preferences(loss: str) -> None:
    dpo = pytest.importorskip("trl.trainer.dpo_trainer", reason=WHY).DPOTrainer
    whole = made_model()
    objective = preference(whole, loss=LOSSES[loss][0], length_norm=LOSSES[loss][1])
    reference, batch = with_reference(objective, whole), pairs().select(slice(0, 3))
    score = objective(whole, batch)

    def outputs(model: Any) -> tuple[Tensor, Tensor]:
        """Of the preferred and then the other texts: log-probabilities, and which ids are written."""
        parts = [
            log_probabilities(model, objective.head, each) for each in (batch, objective.pairs.with_rejected(batch))
        ]
        longest = max(part[0].shape[1] for part in parts)
        own, real = (
            torch.cat([torch.nn.functional.pad(part[i], (0, longest - part[i].shape[1])) for part in parts])
            for i in (0, 1)
        )
        return own, real

    def called(model: Any) -> Any:
        own, real = outputs(model)
        nothing = torch.zeros_like(own)
        found = {"log_probs": own, "entropy": nothing, "mean_logits": nothing, "is_top1": real}
        return lambda **_: SimpleNamespace(**found)

    mask = torch.nn.functional.pad(outputs(whole)[1], (1, 0)).long()
    theirs = trainer(beta=0.3, ld_alpha=None, precompute_ref_logps=False, f_divergence_type="reverse_kl")
    theirs.configure_mock(loss_types=[loss], loss_weights=[1.0], use_weighting=False, _tp_size=1, _total_train_tokens=0)
    theirs.model, theirs.ref_model = MagicMock(training=True), called(reference)
    theirs.args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    inputs = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
    other = dpo._compute_loss(theirs, called(whole), inputs, False)
    assert_same(score.loss_sum / score.count, other, [*whole.parameters()])
