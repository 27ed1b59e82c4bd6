"""The ``mmtx`` command. Nothing heavy is imported before it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmtx.commands.arguments import Places, parse, parse_run, refuse, take
from mmtx.commands.help import COMMAND_HELP, HELP
from mmtx.errors import InvalidValue, UserError, nearest
from mmtx.process import stopping
from mmtx.process.launch import launch, requeued
from mmtx.process.streams import in_utf8, outlast_readers

if TYPE_CHECKING:
    from mmtx.experiment import Experiment
    from mmtx.run.directory import RunDirectory

RUN = Places(1, 1, "name one run directory or checkpoint, and then key=value")
RUNS = Places(1, None, "name at least one directory of a run or a sweep")
STOPPED = Places(1, 1, "name the directory of one run or sweep, and then key=value")
IMPORT = Places(2, 2, "name a public model and the run directory that it becomes: mmtx import PATH OUT")
EXPORT = Places(2, 2, "name a run and where it goes: mmtx export RUN OUT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; without `arguments`, the one that this process has been started for."""
    if arguments is not None:
        return _stoppable(list(arguments))
    in_utf8()
    output = outlast_readers()
    code = _stoppable(sys.argv[1:])
    sys.stdout.flush()
    if output.lost is None:
        return code
    print(f"mmtx: standard output cannot be written: {output.lost.strerror}", file=sys.stderr)
    return code or int(sys.argv[1] not in OF_A_RUN)


def _stoppable(arguments: list[str]) -> int:
    try:
        with stopping.attended():
            return _run(arguments)
    except stopping.Interrupted as stop:
        print(f"mmtx: {stop}", file=sys.stderr)
        return stop.exit_code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("mmtx"))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _fail(f"there is no command '{name}'; commands are {', '.join(COMMANDS)}")
    if any(argument in ("-h", "--help") for argument in rest):
        print(COMMAND_HELP[name], end="")
        return 0
    try:
        _refuse_unreadable(rest)
        return COMMANDS[name](rest)
    except UserError as error:
        if os.environ.get("MMTX_DEBUG"):
            raise
        return _fail(str(error))
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's own words, which name neither path nor user
            raise
        return _fail("a home directory cannot be found: write paths without ~, or set HOME; XDG_CACHE_HOME for caches")


def train(arguments: list[str]) -> int:
    config_file, is_sweep, overrides, run_dir = parse_run(arguments)
    from mmtx.config.compose import read_or_compose
    from mmtx.experiment import assemble
    from mmtx.run.directory import RunDirectory, fresh_directory
    from mmtx.run.job import begin, start
    from mmtx.run.source import fitted_state_for

    if is_sweep:
        from mmtx.sweep.command import run_sweep

        return run_sweep(config_file, overrides, run_dir)
    _refuse_sweep(overrides)
    here = launch()
    if here.by is not None and run_dir is None:
        raise UserError(f"ranks that {here.by} has started need one directory: give run_dir=DIR")
    config = read_or_compose(config_file, overrides)
    experiment = assemble(config, fitted_state_for(config))
    here.check(experiment.training.num_devices, experiment.training.num_nodes)
    run = RunDirectory(run_dir or fresh_directory(config["name"]))
    if requeued() and run.config.is_file():
        return resume([str(run.path)])
    if not here.is_main:
        return start(experiment, run)
    print(f"run directory: {run.path}")
    print(_summary(experiment), flush=True)
    code = begin(experiment, run)
    if code == 0:
        _print_results(run)
        if config.get("hint"):
            print(config["hint"])
    print(f"run directory: {run.path}", flush=True)
    return code


def resume(arguments: list[str]) -> int:
    from pathlib import Path

    (place,), _, overrides = parse(arguments, STOPPED, {})
    if (Path(place) / "sweep.json").is_file():
        from mmtx.sweep.command import resume_sweep

        return resume_sweep(place, overrides)
    from mmtx.run.directory import RunDirectory
    from mmtx.run.resume import resume as resume_run

    run = RunDirectory(place)
    if run.config.is_file():
        print(f"run directory: {run.path}", flush=True)
    code = resume_run(Path(place), overrides)
    if code == 0:
        _print_results(run)
    print(f"run directory: {run.path}", flush=True)
    return code


def check(arguments: list[str]) -> int:
    config_file, is_sweep, overrides, _ = parse_run(arguments)
    from mmtx.config.compose import read_or_compose
    from mmtx.experiment import assemble
    from mmtx.run.source import fitted_state_for

    if is_sweep:
        from mmtx.sweep.command import check_launcher, check_sweeper, plan_sweep, split

        words = split(overrides)
        check_launcher(words.launcher)
        for each in plan_sweep(words, check_sweeper(words.sweeper), config_file):
            print(f"{' '.join(each.job.overrides) or each.job.name}: ok")
        return 0
    _refuse_sweep(overrides)
    config = read_or_compose(config_file, overrides)
    experiment = assemble(config, fitted_state_for(config))
    if experiment.config.get("init_from"):
        from mmtx.run.initial import initialise_from

        place, plugins = experiment.config["init_from"], experiment.config["plugins"]
        print(initialise_from(experiment.learner, place, plugins, experiment.config))
    print(f"ok: {_summary(experiment)}")
    return 0


def evaluate(arguments: list[str]) -> int:
    import json

    from mmtx.run.evaluation import DEFAULTS, evaluate_run

    (place,), options, overrides = parse(arguments, RUN, DEFAULTS)
    print(json.dumps(evaluate_run(place, options, overrides), indent=2))
    return 0


def generate(arguments: list[str]) -> int:
    from mmtx.write.command import DEFAULTS, TEXTS, write

    (place,), options, others = parse(arguments, RUN, DEFAULTS, TEXTS)
    refuse(others, DEFAULTS)
    print(write(place, options))
    return 0


def report(arguments: list[str]) -> int:
    from mmtx.report.command import DEFAULTS, write_report

    places, options, others = parse(arguments, RUNS, DEFAULTS, texts=("out",))
    refuse(others, DEFAULTS)
    print(write_report(places, options))
    return 0


def sync(arguments: list[str]) -> int:
    from mmtx.run.sync import sync as upload

    places, options, others = parse(arguments, RUNS, {"parallel": 8})
    refuse(others, options)
    if not isinstance(options["parallel"], int) or options["parallel"] < 1:
        raise InvalidValue("parallel", options["parallel"], "is not a whole number above 0")
    return upload(places, options["parallel"])


def import_public(arguments: list[str]) -> int:
    import shlex

    from mmtx.config.overrides import written
    from mmtx.interop import from_pretrained
    from mmtx.run.exchange import save_as_run, shape_of

    (path, out), options, _ = parse(arguments, IMPORT, None)
    learner = from_pretrained(path, options)
    run = save_as_run(learner, out)
    assert learner.config is not None
    print(f"{learner.config['name']}: {learner.num_parameters:,} parameters")
    print(f"to train on: {shlex.join([f'init_from={written(path)}', *shape_of(learner)])}")
    print(f"run directory: {run.path}")
    return 0


def export(arguments: list[str]) -> int:
    from mmtx.run.exchange import FORMATS

    form, places = take(arguments, "--format", "a format: --format onnx")
    form = "hf" if form is None else form
    if form not in FORMATS:
        raise UserError(f"--format {form}: there is no such format; {nearest(form, FORMATS)}")
    EXPORT.check(places)
    FORMATS[form](*places)
    print(f"written: {places[1]}")
    return 0


def list_options(arguments: list[str]) -> int:
    from mmtx.config.compose import describe_options

    described = describe_options()
    arguments = [argument.removeprefix("hydra/") for argument in arguments]
    if len(arguments) > 1:
        raise UserError(f"name one group, not {', '.join(arguments)}")
    if arguments and arguments[0] not in described:
        raise UserError(f"there is no group '{arguments[0]}'; {nearest(arguments[0], described)}")
    for group, choices in described.items():
        if arguments and group != arguments[0]:
            continue
        print(f"{group}:")
        width = max(map(len, choices))
        for name, line in choices.items():
            print(f"  {name:<{width}}  {line}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "check": check,
    "evaluate": evaluate,
    "report": report,
    "sync": sync,
    "generate": generate,
    "import": import_public,
    "export": export,
    "list": list_options,
}


OF_A_RUN = ("train", "resume")
"""Commands whose result is a directory; that of the others is what they print."""


def _fail(message: str) -> int:
    print(f"mmtx: {message}", file=sys.stderr)
    return 2


def _refuse_unreadable(arguments: Sequence[str]) -> None:
    """Raises UserError where the working directory is gone, or a name is not UTF-8, as what is recorded of a run is."""
    try:
        places = [*arguments, os.getcwd()]
    except OSError as error:
        raise UserError(f"the working directory cannot be found ({error.strerror}); go to another") from None
    for place in places:
        try:
            place.encode()
        except UnicodeEncodeError:
            raise UserError(f"{place!r} is not UTF-8; rename it, or go by another path") from None


def _refuse_sweep(overrides: list[str]) -> None:
    from mmtx.config.overrides import OF_A_SWEEP

    for override in overrides:
        if OF_A_SWEEP.match(override) or override.lstrip("+").startswith("sweep="):
            raise UserError(f"{override} is of a sweep; add -m, or leave it out")


def _summary(experiment: Experiment) -> str:
    """The four choices in one line."""
    model = experiment.learner.model
    tokens = ", ".join(f"{name} ({model.tokenizer(name).max_tokens} tokens)" for name in model.names)
    return (
        f"{experiment.config['name']}: set [{tokens}], objectives [{', '.join(experiment.learner.objectives)}], "
        f"{experiment.learner.num_parameters:,} parameters, {experiment.total_steps:,} steps of "
        f"{experiment.data.batch_size * experiment.training.accumulate_grad_batches * experiment.training.num_ranks} "
        f"samples, {experiment.data.num_train:,} training samples"
    )


def _print_results(run: RunDirectory) -> None:
    import json

    metrics = json.loads(run.metrics.read_text())
    for stage in ("val", "test"):
        shown = [
            f"{key} {value:.4g}" for key, value in metrics.items() if key.startswith(f"{stage}/") and value is not None
        ]
        if shown:
            print("  ".join(shown))
    steps = {sample: sample.stem.rpartition("_step")[2] for sample in run.samples.glob("*_step*")}
    drawn = [sample for sample in steps if sample.suffix == ".png"] or list(steps)
    for sample in sorted(drawn):
        if steps[sample] == max(steps.values()):
            print(f"samples: {sample}")


if __name__ == "__main__":
    raise SystemExit(main())
