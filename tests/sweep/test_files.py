"""The sweeps in ``conf/sweep``: every job composes, and what they claim of it holds."""

import pytest

from mmtx.config.compose import Composer, compose
from mmtx.config.groups import describe_options
from mmtx.config.overrides import read_all
from mmtx.config.sweeps import expand_sweep, with_sweep_files
from mmtx.experiment import assemble
from mmtx.nn.roles import LOOKED_UP, counts_by_role

OPTIONS = describe_options()
TASKS = [task for task in ("parity", "mqar", "sequential_digits", "gpt_python") if task in OPTIONS["experiment"]]
GRIDS = ["scaling", "width_rates", "optimisers"]


def size(overrides):
    counts = counts_by_role(assemble(compose(overrides)).learner)
    return sum(count for role, count in counts.items() if role not in LOOKED_UP)


def values_of(sweep, key):
    (override,) = [each for each in read_all(with_sweep_files([f"sweep={sweep}"])) if each.key_or_group == key]
    return [str(value) for value in override.value().list]


@pytest.mark.parametrize("sweep", GRIDS)
def test_every_job_composes(sweep):
    jobs = expand_sweep(with_sweep_files([f"sweep={sweep}"]))
    with Composer() as composer:
        configs = [composer.compose(job) for job in jobs]
    assert len(configs) > 8 and all(
        each["trainer"]["val_every_steps"] == each["trainer"]["max_steps"] for each in configs
    )


@pytest.mark.parametrize("task", TASKS)
def test_mixers_of_the_board_have_equally_many_parameters(task):
    """Within 5%, without embeddings and positions."""
    mixers = values_of("why_transformers", "backbone.layers")
    assert len(mixers) >= 5
    fixed = ["sweep=why_transformers", f"experiment={task}", "optim.lr=1e-3"]
    fixed += ["data.max_chars=20000"] * (task == "gpt_python")
    sizes = {mixer: size(with_sweep_files([*fixed, f"backbone.layers={mixer}"])) for mixer in mixers}
    assert max(sizes.values()) < 1.05 * min(sizes.values()), sizes
    assert min(sizes.values()) > 90_000, sizes


def test_pools_of_tasks_are_all_learnt_from() -> None:
    """As many tasks as the sweep says, by each job."""
    jobs = expand_sweep(with_sweep_files(["sweep=icl_pool"]))
    with Composer() as composer:
        pools = [composer.compose(job)["data"]["tasks"] for job in jobs]
    assert pools == [1, 4, 16, 64, 256, 1024, 4096]
