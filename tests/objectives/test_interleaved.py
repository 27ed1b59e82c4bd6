"""Words and a picture in one document, of which both are learnt: each as if it were learnt alone."""

from __future__ import annotations

import PIL.Image
import pytest
import torch

from mmtx.batch import Batch
from mmtx.commands.main import main
from mmtx.data.collate import collate
from mmtx.experiment.assemble import Experiment, build

SMALL = ("backbone.dim=32", "backbone.num_layers=2", "backbone.num_heads=2", "logger=[]")


@pytest.fixture(scope="module")
def both() -> Experiment:
    made = build(["experiment=interleaved", *SMALL])
    with torch.no_grad():
        for parameter in made.learner.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)  # heads and gates that begin at zero
    return made


def documents(made: Experiment, places: str, count: int = 12) -> Batch:
    """Training samples whose caption is before, or after, or either."""
    train, found = made.data.source.train(), []
    for index in range(10 * count):
        sample = train[index]
        if places == "either" or ("before" in sample) == (places == "before"):
            found.append(sample)
    return collate(found[:count], made.learner.specs)


def losses_and_gradients(made: Experiment, batch: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    learner = made.learner.train()
    learner.zero_grad()
    prepared = learner.prepare(batch, torch.Generator().manual_seed(3))
    means = {name: score.loss_sum / score.count for name, score in learner(prepared).items()}
    torch.stack([*means.values()]).sum().backward()
    gradients = {name: each.grad.clone() for name, each in learner.named_parameters() if each.grad is not None}
    return {name: float(loss.detach()) for name, loss in means.items()}, gradients


def test_the_sum_is_that_of_each_alone(both):
    batch = documents(both, "either")
    losses, gradients = losses_and_gradients(both, batch)
    assert losses.keys() == {"seq2seq", "flow"}
    added: dict[str, torch.Tensor] = {}
    for name in losses:
        alone = build(["experiment=interleaved", f"objective=[{name}]", *SMALL])
        own = alone.learner.state_dict()
        alone.learner.load_state_dict({key: both.learner.state_dict()[key] for key in own})
        its_losses, its_gradients = losses_and_gradients(alone, batch)
        assert its_losses[name] == pytest.approx(losses[name], rel=1e-5)
        for key, value in its_gradients.items():
            added[key] = added.get(key, 0.0) + value
    assert added.keys() == gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(added[key], value, rtol=1e-4, atol=1e-6)


def velocity(made: Experiment, batch: Batch) -> torch.Tensor:
    flow, count = made.learner.eval().objective("flow"), len(batch)
    noise = torch.randn(count, 16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return flow.velocity(made.learner.model, batch, {"image": noise}, torch.full((count,), 0.3))["image"]


def changed(batch: Batch, name: str) -> Batch:
    return batch.with_values(name, ids=batch[name]["ids"].flip(1))


def test_a_picture_is_made_from_the_words_before_it_alone(both):
    before, after = documents(both, "before"), documents(both, "after")
    assert not torch.allclose(velocity(both, before), velocity(both, changed(before, "before")), atol=1e-4)
    torch.testing.assert_close(velocity(both, after), velocity(both, changed(after, "text")))


def test_words_are_written_from_the_picture_as_it_is(both):
    """Whatever noise there was: the picture that is made is another one."""
    batch, losses = documents(both, "after"), []
    for seed in (1, 2):
        prepared = both.learner.train().prepare(batch, torch.Generator().manual_seed(seed))
        losses.append({name: float(score.loss_sum.detach()) for name, score in both.learner(prepared).items()})
    assert losses[0]["seq2seq"] == losses[1]["seq2seq"]
    assert losses[0]["flow"] != losses[1]["flow"]


def test_a_run_draws_words_and_describes_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["trainer.max_steps=2", "trainer.val_every_steps=2", "loader.eval_batch_size=32", "callbacks=[]"]
    assert main(["train", "experiment=interleaved", *SMALL, *few, "run_dir=run"]) == 0
    PIL.Image.new("L", (8, 8), 100).save("seven.png")
    capsys.readouterr()
    assert main(["generate", "run", "prompt=the digit seven", "count=4", "num_steps=2", "out=grid.png"]) == 0
    assert PIL.Image.open("grid.png").size[0] > 8
    assert main(["generate", "run", "image=seven.png"]) == 0
    assert capsys.readouterr().out.startswith("written: grid.png\n")
