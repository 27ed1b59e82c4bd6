"""A learned mean over the depth of a stack, beside its layers called one by one."""

from __future__ import annotations

import math

import pytest
import torch
from builders import backbone, image, image_batch, model
from torch import Tensor

from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.nn.layer_sum import LayerSum


def vit(**changes: object) -> MultimodalTransformer:
    made = model({"image": image()}, backbone(layer_sum=True, num_layers=3, **changes))
    assert isinstance(made.backbone, Backbone) and made.backbone.layer_sum is not None
    torch.nn.init.normal_(made.backbone.layer_sum.weights)
    return made


def by_hand(made: MultimodalTransformer) -> Tensor:
    """What the first layer reads and what each gives, the last normalised, each times its share."""
    states: list[Tensor] = []
    blocks = made.backbone.blocks
    hooks = [blocks[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))]
    hooks += [block.register_forward_hook(lambda _, args, output: states.append(output)) for block in blocks]
    made(image_batch([1, 1, 1]))
    for hook in hooks:
        hook.remove()
    exponentials = [math.exp(weight) for weight in made.backbone.layer_sum.weights.tolist()]
    states[-1] = made.backbone.final_norm(states[-1])
    return sum(e / sum(exponentials) * each for e, each in zip(exponentials, states, strict=True))


def test_by_hand() -> None:
    made = vit()
    torch.testing.assert_close(made(image_batch([1, 1, 1])).hidden, by_hand(made), atol=1e-6, rtol=1e-5)


def test_at_first_all_layers_count_alike() -> None:
    states = [torch.randn(2, 3, 4) for _ in range(5)]
    torch.testing.assert_close(LayerSum(5)(states), torch.stack(states).mean(0))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("checkpointing", ["none", "blocks"])
def test_compiled_it_learns_the_same(checkpointing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    found = []
    for compile in (False, True):
        made = vit(compile=compile, activation_checkpointing=checkpointing).train()
        made.load_state_dict(vit().state_dict() if not found else found[0][1])
        hidden = made(image_batch([1, 1, 1])).hidden
        hidden.square().sum().backward()
        found.append(([hidden.detach(), *(p.grad for p in made.parameters())], made.state_dict()))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()
