"""A feed-forward from outside with a router, and its balance loss, as docs/extending.md shows them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import KINDS, backbone, model, text, text_batch
from outside_module import outside_module
from packages import logged, train, unpack
from test_resume import play
from torch import Tensor

from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind

EXPERTS = outside_module("router/my_lab/experts.py")
WORDS = [*train("router"), "loader.batch_size=16"]
LENGTHS = [3, 8, 0, 1, 5]


def made(**changes: Any) -> MultimodalTransformer:
    experts = LayerKind(mlp=partial(EXPERTS.Experts, num_experts=3, hidden=16))
    keys: dict[str, Any] = {"num_layers": 4, "layers": "GE", "kinds": {**KINDS, "E": experts}}
    return model({"text": text()}, backbone(**keys, **changes)).train()


def statistics_and_gradients(whole: MultimodalTransformer, batch: Any) -> tuple[dict[str, Tensor], list[Any]]:
    whole.zero_grad()
    with whole.sharing():
        hidden, found = whole(batch).hidden, dict(whole.statistics)
    loss = hidden.square().sum() + sum(value.square().sum() for name, value in found.items() if "probability" in name)
    loss.backward()
    return {name: value.detach() for name, value in found.items()}, [each.grad for each in whole.parameters()]


@pytest.mark.parametrize("packed", [False, True])
def test_padding_is_never_counted(packed: bool) -> None:
    """Against loops over the real tokens of a padded batch."""
    whole, logits = made(), list[Tensor]()
    for layer in (1, 3):
        router = whole.backbone.blocks[layer].mlp.router
        router.register_forward_hook(lambda module, args, output: logits.append(output.detach()))
    batch = text_batch(LENGTHS)
    statistics_and_gradients(whole, batch)
    found, _ = statistics_and_gradients(whole, batch.packed() if packed else batch)
    for layer, of_layer in zip((1, 3), logits, strict=False):
        real = [of_layer[i, t].softmax(-1) for i, length in enumerate(LENGTHS) for t in range(length)]
        chosen = [int(each.argmax()) for each in real]
        assert found[f"load/{layer}"].tolist() == [chosen.count(expert) for expert in range(3)]
        torch.testing.assert_close(found[f"probability/{layer}"], torch.stack(real).sum(0))


@pytest.mark.slow
def test_packed_compiled_and_recomputed_layers_count_alike(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    batch = text_batch(LENGTHS)
    plain = statistics_and_gradients(made(), batch)
    others = [
        (made(), batch.packed()),
        (made(compile=True), batch),
        (made(activation_checkpointing="selective"), batch),
    ]
    for whole, given in others:
        torch.testing.assert_close(statistics_and_gradients(whole, given), plain, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the package: one padded batch a step, which on two ranks is packed micro-batches."""
    folder = unpack("router", tmp_path_factory.mktemp("lab"))
    both = ["trainer.devices=2", "trainer.accelerator=cpu", "loader.batch_size=4", "trainer.accumulate_grad_batches=2"]
    cases = [
        {"words": [*WORDS, "callbacks=[samples]", "run_dir=one"]},
        {"words": [*WORDS, *both, "loader.packing=true", "run_dir=ddp"]},
        {"words": [*WORDS, *both, "trainer.strategy=fsdp2", "run_dir=fsdp2"]},
        {"words": ["check", *WORDS[1:], "backbone=transformer"]},
    ]
    done = play([{"cwd": str(folder), **case} for case in cases])
    assert [each["code"] for each in done] == [0, 0, 0, 2], [each["output"] for each in done]
    (folder / "refused.txt").write_text(done[-1]["output"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("run", ["ddp", "fsdp2"])
def test_micro_batches_on_two_ranks_are_one_batch(lab: Path, run: str) -> None:
    assert all(0.25 <= share <= 1 for share in logged(lab / run, "train/busiest"))
    for metric in ("train/loss", "train/balance/loss", "train/busiest", "train/grad_norm"):
        assert logged(lab / run, metric) == pytest.approx(logged(lab / "one", metric), rel=1e-3), metric


@pytest.mark.slow
def test_an_objective_that_predicts_nothing_shows_nothing(lab: Path) -> None:
    shown = {file.name.partition("_step")[0] for file in (lab / "one" / "samples").iterdir()}
    assert "next_token" in shown and "balance" not in shown


@pytest.mark.slow
def test_without_layers_that_count_it_is_refused(lab: Path) -> None:
    refused = (lab / "refused.txt").read_text()
    assert "objective.balance uses statistics of layers, and no layer counts anything; choose a backbone.mlp" in refused
