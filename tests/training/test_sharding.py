"""Two ranks compute what one computes, exchange gradients once a step, and keep whole only what they use at once."""

import json

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from run_cli import TINY
from test_resume import play
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.training.precision import precision_plugin
from mmtx.training.sharding import shard, unshard, without_sync

WORDS = ["experiment=spell_digits", *TINY, "backbone.num_layers=2", "logger=[]", "callbacks=[]"]


def trainer_with(strategy):
    return pl.Trainer(strategy=strategy, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)


@pytest.fixture(scope="module")
def mesh():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.fixture
def experiment(mesh):
    made = assemble(compose([*WORDS, "loader.batch_size=4", "trainer.max_steps=1"]))
    shard(made.learner, mesh, precision_plugin("bf16-mixed", "cpu"))
    return made


def test_blocks_but_the_last_are_sharded_between_forward_and_backward(experiment):
    learner, trainer = experiment.learner, trainer_with(ModelParallelStrategy())
    first, last = learner.model.backbone.blocks
    for whole in (None, True, False):  # as it begins, in a validation, behind it
        if whole is not None:
            unshard(trainer, learner, whole)
        kept = [_is_kept(module) for module in (first, last, learner)]
        assert kept == [bool(whole), True, True], whole


def _is_kept(module):
    return module._get_fsdp_state()._fsdp_param_group.post_forward_mesh_info is None


def backward(learner, batch):
    with torch.autocast("cpu", torch.bfloat16):
        sum(score.loss_sum for score in learner(batch).values()).backward()


def test_blocks_travel_as_bfloat16_and_gradients_as_float32(experiment):
    types, learner = [], experiment.learner
    for module in (learner.model.backbone.blocks[0].mlp, learner.model.backbone.final_norm):  # the latter is no block's
        module.register_forward_pre_hook(lambda module, _: types.append(next(module.parameters()).dtype))
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    backward(learner, batches[0])
    assert types == [torch.bfloat16, torch.float32]
    assert {parameter.grad.dtype for parameter in learner.parameters()} == {torch.float32}


def test_shards_get_no_gradient_before_the_last_micro_batch(experiment):
    learner = experiment.learner
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=2, rank=0, num_ranks=1)
    assert isinstance(learner, FSDPModule)
    with without_sync(trainer_with(ModelParallelStrategy()), learner):
        backward(learner, batches[0])
    assert all(parameter.grad is None for parameter in learner.parameters())
    backward(learner, batches[1])
    assert all(parameter.grad is not None for parameter in learner.parameters())


def test_ddp_exchanges_gradients_with_the_last_micro_batch(mesh):
    reduced, model = [], nn.Linear(3, 1)
    trainer = trainer_with(DDPStrategy())
    trainer.strategy.model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def hook(_, bucket):
        reduced.append(bucket.buffer().clone())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    trainer.strategy.model.register_comm_hook(None, hook)
    x = torch.arange(6.0).reshape(2, 3)
    with without_sync(trainer, model):
        trainer.strategy.model(x[:1]).sum().backward()
    trainer.strategy.model(x[1:]).sum().backward()
    (gradient,) = reduced
    assert sorted(gradient.tolist()) == [2.0, 3.0, 5.0, 7.0]  # of the bias, and sums of columns


COMPILED = ["trainer.devices=2", "loader.batch_size=4", "trainer.accumulate_grad_batches=2", "backbone.compile=true"]
RUNS = {
    "one": ["loader.batch_size=16"],
    "ddp": [*COMPILED, "trainer.strategy=ddp"],
    "fsdp2": [*COMPILED, "trainer.strategy=fsdp2"],
    "fsdp2-bf16": [*COMPILED, "trainer.strategy=fsdp2", "trainer.precision=bf16-mixed"],
}


MIXERS = {"R": "lstm", "N": "min_gru", "S": "s4d", "M": "mamba2", "D": "gated_delta", "K": "short_conv"}
RECURRENT = [
    "experiment=mqar",
    "backbone.dim=32",
    "backbone.num_heads=2",
    "data.longest=64",
    "data.num_train=100",
    "data.num_val=8",
    "logger=[]",
    "callbacks=[]",
    "log_every_steps=1",
    "data.num_test=8",
    "data.test_lengths=[64]",
    "backbone.num_layers=6",
    "backbone.layers=RNSMDK",
    *(f"+backbone/attention@backbone.kinds.{letter}.mixer={name}" for letter, name in MIXERS.items()),
    *(f"+backbone/mlp@backbone.kinds.{letter}.mlp=gelu" for letter in MIXERS),
]


@pytest.mark.slow
@pytest.mark.parametrize("words", [WORDS, RECURRENT], ids=["attention", "recurrences"])
def test_two_ranks_equal_one_where_blocks_are_compiled(words, tmp_path):
    words = ["train", *words, "trainer.max_steps=4", "optim.warmup_steps=0", "trainer.accelerator=cpu"]
    cases = [{"words": [*words, *more, f"run_dir={name}"], "cwd": str(tmp_path)} for name, more in RUNS.items()]
    done = play(cases)
    assert [each["code"] for each in done] == [0] * len(RUNS), [each["output"] for each in done]
    one, *others = (_losses(tmp_path / name) for name in RUNS)
    for found, tolerance in zip(others, (1e-5, 1e-5, 1e-3), strict=True):  # bfloat16 has 8 bits
        assert found == pytest.approx(one, rel=tolerance)


def _losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]
