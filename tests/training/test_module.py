"""Steps, sums and counts: the same gradient however the global batch is cut."""

import contextlib
import json

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from run_cli import TINY, mmtx, text_of
from whole_checkpoint import whole_checkpoint

from mmtx.config.compose import compose
from mmtx.experiment import assemble, build
from mmtx.run.checkpoint_content import load
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training import trainer
from mmtx.training.precision import precision_plugin
from mmtx.training.schedules import Constant, Cosine, Linear, WarmupStableDecay
from mmtx.training.weight_average import WeightAverage

RAGGED = ["experiment=spell_digits", *TINY, "trainer.max_steps=4", "optim.warmup_steps=0", "logger=[]", "callbacks=[]"]
"""Names have three to five letters, so every batch is ragged, and micro-batches hold unequal numbers of targets."""


def train_here(folder, *overrides):
    """A run in this process; its training losses, gradient norms and final weights."""
    experiment = assemble(compose([*RAGGED, *overrides]))
    run = RunDirectory(folder)
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    return result_of(run.path)


def result_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    weights = whole_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return (
        torch.tensor([step["train/loss"] for step in steps]),
        torch.tensor([step["train/grad_norm"] for step in steps]),
        torch.cat([weights[key].flatten() for key in sorted(weights)]),
    )


def assert_equal_runs(one, other):
    for mine, theirs in zip(one[:2], other[:2], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one[2], other[2], rtol=1e-4, atol=1e-4)  # Adam turns tiny differences into signs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train_here(tmp_path_factory.mktemp("whole") / "run", "loader.batch_size=16")


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory):
    return train_here(
        tmp_path_factory.mktemp("both") / "run", "loader.batch_size=16", "objective=[classify,next_token]"
    )


def test_accumulation_changes_nothing(whole, tmp_path):
    cut = train_here(tmp_path / "run", "loader.batch_size=4", "trainer.accumulate_grad_batches=4")
    assert_equal_runs(cut, whole)


def test_accumulation_changes_nothing_for_objectives_with_unequal_counts(whole_of_two, tmp_path):
    words = ["loader.batch_size=4", "trainer.accumulate_grad_batches=4", "objective=[classify,next_token]"]
    assert_equal_runs(train_here(tmp_path / "run", *words), whole_of_two)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.strategy=ddp", "loader.batch_size=8"],
        pytest.param(
            ["trainer.strategy=ddp", "loader.batch_size=4", "trainer.accumulate_grad_batches=2"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["trainer.strategy=fsdp2", "loader.batch_size=4", "trainer.accumulate_grad_batches=2"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ddp", "ddp-accumulated", "fsdp2-accumulated"],
)
def test_two_processes_equal_one(words, whole_of_two, tmp_path):
    both = ["objective=[classify,next_token]", "trainer.devices=2", "trainer.accelerator=cpu", "run_dir=run"]
    done = mmtx("train", *RAGGED, *both, *words, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, text_of(done)
    assert_equal_runs(result_of(tmp_path / "run"), whole_of_two)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    evaluated = mmtx("evaluate", "run", cwd=tmp_path)
    found = json.loads(evaluated.stdout)
    assert all(found[key] == pytest.approx(metrics[key], rel=1e-5) for key in found)


def test_two_processes_augment_and_mix_as_one_does(tmp_path):
    """Pictures and mixup draw by the block of the step, whichever rank has it."""
    words = ["modality=[image]", "objective=[classify]", "objective.classify.mixup=0.4", "loader.batch_size=8"]
    words += ["modality/picture_augment@modality.image.augment=random", "modality.image.patch_size=4"]
    one = train_here(tmp_path / "one", *words, "trainer.accumulate_grad_batches=2")
    both = [*words, "trainer.devices=2", "trainer.accelerator=cpu", "run_dir=run"]
    done = mmtx("train", *RAGGED, *both, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, text_of(done)
    assert_equal_runs(result_of(tmp_path / "run"), one)


CAPTIONED = ["encode=[image]", "objective=[seq2seq]", "trainer.max_steps=2"]
"""Pictures are encoded, and their names written."""


@pytest.fixture(scope="module")
def one_that_listens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "run"
    return train_here(folder, *CAPTIONED, "loader.batch_size=16"), folder


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
def test_two_processes_with_an_encoder_equal_one(strategy, one_that_listens, tmp_path):
    """In what they learn, and in the texts that they write: of unequal lengths, each rank its own."""
    one, folder = one_that_listens
    both = ["trainer.devices=2", "trainer.accelerator=cpu", f"trainer.strategy={strategy}", "run_dir=run"]
    done = mmtx("train", *RAGGED, *CAPTIONED, *both, "loader.batch_size=8", cwd=tmp_path, timeout=240)
    assert done.returncode == 0, text_of(done)
    assert_equal_runs(result_of(tmp_path / "run"), one)
    metrics, expected = (json.loads((run / "metrics.json").read_text()) for run in (tmp_path / "run", folder))
    assert metrics.keys() == expected.keys()
    for key in metrics:  # half a batch is padded to the longest of its own
        if not key.startswith(("train/tokens_per_second", "train/fill", "train/data_wait")):
            assert metrics[key] == pytest.approx(expected[key], rel=1e-4), key


def test_a_failure_on_the_ranks_is_told(tmp_path):
    words = ["trainer.devices=2", "trainer.accelerator=cpu", "run_dir=run", "optim.lr=1e30"]
    done = mmtx("train", *RAGGED, *words, cwd=tmp_path, timeout=240)
    assert done.returncode == 2 and "not finite" in done.stderr, text_of(done)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed" and "not finite" in status["error"]


def test_the_gradient_is_that_of_the_mean_over_all_predictions(tmp_path):
    """One step of the Trainer against one step by hand, on the samples that the loader gives."""
    words = [*RAGGED, "loader.batch_size=4", "trainer.accumulate_grad_batches=3", "trainer.max_steps=1"]
    experiment = assemble(compose(words))
    (batches,) = experiment.data.train_loader(num_steps=1, accumulate=3, rank=0, num_ranks=1)
    scores = [experiment.learner(batch)["next_token"] for batch in batches]
    mean = sum(score.loss_sum for score in scores) / sum(score.count for score in scores)
    norm = torch.stack([g.norm() for g in torch.autograd.grad(mean, list(experiment.learner.parameters()))]).norm()
    losses, norms, _ = train_here(tmp_path / "run", *words[len(RAGGED) :])
    assert float(losses[0]) == pytest.approx(float(mean.detach()), rel=1e-5)
    assert float(norms[0]) == pytest.approx(float(norm), rel=1e-4)


def test_the_moving_average_is_what_is_evaluated_and_loaded(tmp_path):
    train_here(tmp_path / "run", "loader.batch_size=8", "optim.ema_decay=0.5")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    learner = load(tmp_path / "run")
    name = "model.backbone.blocks.0.mlp.up.weight"
    assert torch.equal(learner.state_dict()[name], checkpoint["average"][name])
    assert not torch.equal(learner.state_dict()[name], checkpoint["state_dict"][f"learner.{name}"])


def test_the_moving_average_by_hand():
    module = torch.nn.Linear(1, 1, bias=False)
    average, expected = WeightAverage(module, 0.9), float(module.weight.detach())
    for update in range(1, 6):
        torch.nn.init.constant_(module.weight, float(update))
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
        average.update(module)
    average.swap(module)
    assert float(module.weight) == pytest.approx(expected)
    average.swap(module)
    assert float(module.weight) == 5.0


def test_a_shared_embedding_is_averaged_under_all_its_names(tmp_path):
    for name in ("source", "target"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"ab c{i % 7} de" for i in range(60)) + "\n")
    files = [f"data.{name}={tmp_path}/{name}.txt" for name in ("source", "target")]
    words = ["experiment=translation", *files, "modality.target.share=source", *TINY[:3], "optim.ema_decay=0.5"]
    experiment = assemble(compose([*words, "trainer.max_steps=3", "optim.warmup_steps=0", "logger=[]", "callbacks=[]"]))
    run = RunDirectory(tmp_path / "run")
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    average = torch.load(run.last, weights_only=True)["average"]
    source, target = (load(run.path).model.tokenizers[name].embedding.weight for name in ("source", "target"))
    assert torch.equal(source, average["model.tokenizers.source.embedding.weight"]) and torch.equal(source, target)


def test_the_moving_average_of_half_precision_moves():
    module = torch.nn.Linear(1, 1, bias=False).bfloat16()
    torch.nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, 0.999)
    torch.nn.init.constant_(module.weight, 2.0)
    for _ in range(5000):
        average.update(module)
    average.swap(module)
    assert average.is_swapped and float(module.weight) == pytest.approx(2.0, abs=0.02)
    average.swap(module)
    assert float(module.weight) == 2.0 and not average.is_swapped


def test_a_loss_scaler_changes_no_gradient(whole, tmp_path, monkeypatch):
    """Clipped is what the gradient is, not what the scaler has made of it. A scaler of the CPU stands in for CUDA's."""
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=65536.0))
    monkeypatch.setattr(trainer, "precision_plugin", lambda *_: scaled)
    monkeypatch.setattr(scaled, "forward_context", contextlib.nullcontext)  # float16 would round
    assert_equal_runs(train_here(tmp_path / "run", "loader.batch_size=16"), whole)


def test_float16_on_a_cpu_is_float16_with_a_scaler():
    plugin = precision_plugin("16-mixed", "cpu")
    with plugin.forward_context():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float16
    assert isinstance(plugin, MixedPrecision) and plugin.scaler is not None and plugin.scaler.is_enabled()


def test_bfloat16_weights_leave_tables_and_batches_as_they_are(tmp_path):
    experiment = assemble(compose([*RAGGED, "loader.batch_size=16", "trainer.precision=bf16-true"]))
    experiment.learner.register_buffer("table", torch.tensor([257.0]))
    run = RunDirectory(tmp_path / "run")
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    assert {parameter.dtype for parameter in experiment.learner.parameters()} == {torch.bfloat16}
    assert experiment.learner.table.item() == 257.0  # which bfloat16 has not
    saved = torch.load(run.last, weights_only=True)
    kept = {key: {state[key].dtype for state in saved["optimizer"]["state"].values()} for key in ("step", "exp_avg_sq")}
    assert kept == {"step": {torch.float32}, "exp_avg_sq": {torch.bfloat16}}
    losses, _, weights = result_of(run.path)
    assert torch.isfinite(losses).all() and weights.isfinite().all()


def test_only_matrices_that_multiply_are_decayed():
    experiment = build(["experiment=spell_digits", *TINY])
    learner = experiment.learner
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    groups = experiment.optimisation.optimizer(learner).param_groups
    decayed, rest = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert decayed | rest == set(names.values()) and not decayed & rest
    assert "model.backbone.blocks.0.mlp.up.weight" in decayed and "model.tokenizers.image.projection.weight" in decayed
    assert not any(word in name for name in decayed for word in ("bias", "norm", "embedding"))


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(), {0.0: 1.0, 1.0: 1.0}),
        (Linear(final=0.2), {0.0: 1.0, 0.5: 0.6, 1.0: 0.2}),
        (Cosine(final=0.0), {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        (WarmupStableDecay(final=0.0, decay_fraction=0.25), {0.0: 1.0, 0.75: 1.0, 0.875: 0.5, 1.0: 0.0}),
    ],
)
def test_schedules(schedule, points):
    for progress, factor in points.items():
        assert schedule(progress) == pytest.approx(factor)


def test_warm_up_by_steps_and_epochs():
    optimisation = build(["optim.warmup_steps=4", "optim.warmup_epochs=2", "optim/schedule=constant"]).optimisation
    factors = [optimisation.factor(step, 100, steps_per_epoch=3.0) for step in range(12)]
    assert factors == sorted(factors) and factors[0] == pytest.approx(1 / 11)
    assert factors[9] < 1.0 and factors[10] == 1.0


def test_epochs_and_steps_end_a_run_at_whichever_comes_first():
    experiment = build(["data=digits", "trainer.max_epochs=2", "loader.batch_size=100"])
    assert experiment.total_steps == -(-2 * 1293 // 100)
    assert build(["data=digits", "trainer.max_epochs=2", "trainer.max_steps=5"]).total_steps == 5
