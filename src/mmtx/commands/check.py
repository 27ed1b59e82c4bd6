"""``mmtx check``."""

from mmtx.commands.arguments import parse_run
from mmtx.commands.printed import summary

HELP = """\
usage: mmtx check [-m] [--config FILE] [key=value ...]

Composes and builds everything that 'mmtx train' would, reads the data, and prints every problem at once, or a summary.
"""


def run(arguments: list[str]) -> int:
    config_file, is_sweep, overrides, _ = parse_run(arguments)
    if is_sweep:
        return _check_sweep(config_file, overrides)
    from mmtx.config.stored import read_or_compose
    from mmtx.experiment import assemble
    from mmtx.run.begun_with import pinned_config
    from mmtx.run.fitted_source import fitted_state_for
    from mmtx.run.reward_judges import give_judges

    config = pinned_config(read_or_compose(config_file, overrides))
    experiment = assemble(config, fitted_state_for(config))
    if experiment.config["init_from"]:
        from mmtx.run.init_parts import begin

        print(*begin(experiment.learner, experiment.config), sep="\n")
    give_judges(experiment.learner, experiment.data.source.specs)
    print(f"ok: {summary(experiment)}")
    return 0


def _check_sweep(config_file: str | None, overrides: list[str]) -> int:
    from mmtx.sweep.settings import check_launcher, check_sweeper, plan_sweep, split

    owned = split(overrides)
    check_launcher(owned.launcher)
    for each in plan_sweep(owned, check_sweeper(owned.sweeper), config_file):
        print(f"{' '.join(each.job.overrides) or each.job.name}: ok")
    return 0
