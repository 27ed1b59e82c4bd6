"""The range test of the learning rate."""

import math

import numpy
import pytest
from matplotlib.figure import Figure
from run_cli import TINY, mmtx, text_of

from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.errors import UserError
from mmtx.experiment import build
from mmtx.run.tuning.learning_rate import Curve, draw, range_test, smooth, suggest

SMALL = ["experiment=vit_digits", *TINY, "loader.batch_size=8"]


def falling(steepest):
    """A loss that falls as a logistic function of the logarithm of the rate, and then grows."""
    rates = [10 ** (-6 + 6 * i / 99) for i in range(100)]
    return Curve(rates, [1 / (1 + (rate / steepest) ** 2) + (rate / 0.3) ** 4 for rate in rates])


@pytest.mark.parametrize("steepest", [1e-4, 1e-3, 4e-3])
def test_the_rate_of_the_steepest_fall_is_found(steepest):
    """Where a logistic function is half."""
    noise = 0.002 * numpy.random.default_rng(0).standard_normal(100)
    rates, losses = falling(steepest)
    assert suggest(Curve(rates, losses)) == pytest.approx(steepest, rel=0.15)
    assert suggest(Curve(rates, list(losses + noise))) == pytest.approx(steepest, rel=0.6)


def test_a_loss_that_never_falls_has_no_rate():
    rates = falling(1e-3).rates
    with pytest.raises(UserError, match="falls at none of these rates"):
        suggest(Curve(rates, list(map(float, range(100)))))


def test_smoothing_by_hand():
    assert smooth([3.0, 0.0, 6.0, 3.0], 1).tolist() == [1.5, 3.0, 3.0, 4.5]


def test_the_rate_rises_exponentially_and_the_losses_are_those_of_training(tmp_path):
    """The first step's loss does not depend on the rate."""
    curve = range_test(compose(SMALL), 1e-5, 1e-1, 20)
    assert curve.rates == pytest.approx([1e-5 * 1e4 ** (step / 20) for step in range(20)])
    batches, learner = next(iter(build(SMALL).data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1))), None
    learner = build(SMALL).learner
    assert curve.losses[0] == pytest.approx(float(learner(batches[0])["classify"].mean_loss()), rel=1e-5)
    assert all(map(math.isfinite, curve.losses))


def test_it_ends_where_the_loss_grows():
    curve = range_test(compose([*SMALL, "optim.clip_norm=null"]), 1e-3, 1e4, 60)
    assert len(curve.losses) < 60 and curve.losses[-1] > 4 * min(curve.losses)


def test_the_picture(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    curve = falling(1e-3)
    draw(curve, 1e-3, tmp_path / "a.png")
    raw, smoothed, line = figures[0].axes[0].lines
    assert raw.get_ydata().tolist() == curve.losses and list(line.get_xdata()) == [1e-3, 1e-3]
    assert len(smoothed.get_ydata()) == 100 and (tmp_path / "a.png").stat().st_size


def test_the_command_draws_and_gives_the_command_of_the_run(tmp_path):
    done = mmtx("tune", "lr", *SMALL, "num_steps=40", "lowest=1e-4", "out=lr.png", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    *_, found, command = done.stdout.splitlines()
    assert found.startswith("the loss falls fastest at optim.lr=") and found.endswith(": lr.png")
    assert command.startswith("mmtx train experiment=vit_digits ") and command.rpartition(" ")[2] in found
    assert [file.name for file in tmp_path.iterdir()] == ["lr.png"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "mmtx tune finds lr or batch_size"),
        (["rate"], "mmtx tune finds lr or batch_size"),
        (["lr", *SMALL, "lowest=2"], "lowest=2.0 must be above 0 and below highest=1.0"),
        (["lr", *SMALL, "lowest=a"], "lowest=a is not a number"),
        (["lr", *SMALL, "num_steps=3"], "num_steps=3 must be at least 10"),
        (["lr", *SMALL, "num_steps=10", "out=no/such/folder/a.png"], "out=no/such/folder/a.png"),
        (["lr", "-m", "seed=1,2"], "leave out -m"),
        (["lr", "run_dir=a"], "leave out run_dir"),
        (["lr", "backbone.dimm=3"], "backbone.dimm=3"),
        (
            ["batch_size", *SMALL, "trainer.accelerator=cpu"],
            "trainer.accelerator=cpu is a CPU here, which has no memory of its own",
        ),
        (["batch_size", *SMALL, "highest=0"], "highest=0 must be at least 1"),
    ],
)
def test_mistakes_are_named(arguments, problem, capsys):
    assert main(["tune", *arguments]) == 2
    assert problem in capsys.readouterr().err
