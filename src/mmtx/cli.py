"""The ``mmtx`` command. Nothing heavy is imported before it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmtx.help import COMMAND_HELP, HELP

if TYPE_CHECKING:
    from mmtx.experiment import Experiment
    from mmtx.run.directory import RunDirectory


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
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
    from mmtx.errors import UserError

    try:
        return COMMANDS[name](rest)
    except UserError as error:
        if os.environ.get("MMTX_DEBUG"):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130


def train(arguments: list[str]) -> int:
    config_file, is_sweep, overrides = _options(arguments)
    from mmtx.compose import read_or_compose
    from mmtx.errors import UserError
    from mmtx.experiment import assemble
    from mmtx.run.directory import RunDirectory, fresh_directory
    from mmtx.run.job import is_main, prepare, start
    from mmtx.training.trainer import started_by_launcher

    overrides, run_dir = _run_dir(overrides)
    if is_sweep:
        from mmtx.sweep.command import run_sweep

        return run_sweep(config_file, overrides, run_dir)
    _refuse_sweep(overrides)
    if started_by_launcher() and run_dir is None:
        raise UserError("ranks that torchrun or srun has started need one directory: give run_dir=DIR")
    config = read_or_compose(config_file, overrides)
    experiment = assemble(config)
    run = RunDirectory(run_dir or fresh_directory(config["name"]))
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) and run.config.is_file():
        return resume([str(run.path)])
    if not is_main():
        return start(experiment, run)
    prepare(config, run)
    print(f"run directory: {run.path}")
    print(_summary(experiment), flush=True)
    code = start(experiment, run)
    if code == 0:
        _print_results(run)
        if config.get("hint"):
            print(config["hint"])
    print(f"run directory: {run.path}", flush=True)
    return code


def resume(arguments: list[str]) -> int:
    place, _, overrides = _place_and_options(arguments, {})
    from pathlib import Path

    if (Path(place) / "sweep.json").is_file():
        from mmtx.sweep.command import resume_sweep

        return resume_sweep(place, overrides)
    from mmtx.run.directory import RunDirectory
    from mmtx.run.resume import resume as resume_run

    run = RunDirectory(place)
    print(f"run directory: {run.path}", flush=True)
    code = resume_run(Path(place), overrides)
    if code == 0:
        _print_results(run)
    print(f"run directory: {run.path}", flush=True)
    return code


def check(arguments: list[str]) -> int:
    config_file, is_sweep, overrides = _options(arguments)
    from mmtx.compose import read_or_compose
    from mmtx.experiment import assemble

    overrides, _ = _run_dir(overrides)
    if is_sweep:
        from mmtx.sweep.command import check_launcher, check_sweeper, plan_sweep, split

        words = split(overrides)
        check_launcher(words.launcher)
        check_sweeper(words.sweeper)
        for each in plan_sweep(words, config_file):
            print(f"{' '.join(each.job.overrides) or each.job.name}: ok")
        return 0
    _refuse_sweep(overrides)
    experiment = assemble(read_or_compose(config_file, overrides))
    if experiment.config.get("init_from"):
        from mmtx.run.initial import initialise_from

        print(initialise_from(experiment.learner, experiment.config["init_from"], experiment.config["plugins"]))
    print(f"ok: {_summary(experiment)}")
    return 0


def evaluate(arguments: list[str]) -> int:
    known = {"split": "test", "checkpoint": None, "drop": None, "modality": None}
    place, options, overrides = _place_and_options(arguments, known)
    import json
    from pathlib import Path

    from mmtx.compose import with_overrides
    from mmtx.errors import InvalidValue, UserError
    from mmtx.evaluate import evaluate_learner
    from mmtx.experiment import construct_source, data_module
    from mmtx.run.directory import newest_checkpoint
    from mmtx.run.loading import load, read_checkpoint
    from mmtx.run.metrics import finite
    from mmtx.run.subset import load_set

    if options["split"] not in ("train", "val", "test"):
        raise InvalidValue("split", options["split"], "is none of train, val, test")
    if options["checkpoint"] is not None:
        place = str(Path(place) / "checkpoints" / f"{options['checkpoint']}.ckpt")
    file = newest_checkpoint(place)
    # whose code may run is for the user to say, and not for a checkpoint
    config = with_overrides({**read_checkpoint(file)["mmtx"]["config"], "plugins": []}, overrides)
    source = construct_source(config)
    if options["modality"] is None:
        learner = load(file, config["plugins"])
    else:
        learner, fresh = load_set(file, _names("modality", options["modality"]), source.specs, config["plugins"])
        if fresh:
            print(f"mmtx: new to this checkpoint, and as they start: {', '.join(fresh)}", file=sys.stderr)
    data = data_module(config, source, list(learner.specs))
    metrics = evaluate_learner(learner, data, options["split"], _names("drop", options["drop"] or []))
    if metrics is None:
        raise UserError(f"the data has no split '{options['split']}'; choose split=val or split=train")
    print(json.dumps(finite(metrics), indent=2))
    return 0


def generate(arguments: list[str]) -> int:
    from mmtx.errors import UserError, nearest
    from mmtx.write.command import DEFAULTS, TEXTS, write

    place, options, overrides = _place_and_options(arguments, DEFAULTS, TEXTS)
    if overrides:
        key = overrides[0].partition("=")[0]
        raise UserError(f"unknown key {overrides[0]}; {nearest(key, DEFAULTS)}")
    print(write(place, options))
    return 0


def report(arguments: list[str]) -> int:
    from mmtx.report.command import DEFAULTS, write_report

    places, options = _places_and_options(arguments, DEFAULTS)
    print(write_report(places, options))
    return 0


def sync(arguments: list[str]) -> int:
    from mmtx.errors import InvalidValue
    from mmtx.run.sync import sync as upload

    places, options = _places_and_options(arguments, {"parallel": 8})
    if not isinstance(options["parallel"], int) or options["parallel"] < 1:
        raise InvalidValue("parallel", options["parallel"], "is not a whole number above 0")
    return upload(places, options["parallel"])


def import_public(arguments: list[str]) -> int:
    import yaml

    from mmtx.errors import UserError
    from mmtx.interop import from_pretrained
    from mmtx.run.exchange import save_as_run, shape_of

    places = [argument for argument in arguments if "=" not in argument]
    if len(places) != 2 or places[0].startswith("-"):
        raise UserError("name a public model and the run directory that it becomes: mmtx import PATH OUT")
    given = (argument.partition("=") for argument in arguments if argument not in places)
    learner = from_pretrained(places[0], {key: yaml.safe_load(value) for key, _, value in given})
    run = save_as_run(learner, places[1])
    assert learner.config is not None
    print(f"{learner.config['name']}: {learner.num_parameters:,} parameters")
    print(f"to train on: init_from={places[0]} {shape_of(learner)}")
    print(f"run directory: {run.path}")
    return 0


def export(arguments: list[str]) -> int:
    from mmtx.errors import UserError, nearest
    from mmtx.run.exchange import FORMATS

    form, places, rest = "hf", [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument.startswith("--format"):
            form = argument.partition("=")[2] or (rest.pop(0) if rest else "")
        else:
            places.append(argument)
    if form not in FORMATS:
        raise UserError(f"--format {form}: there is no such format; {nearest(form, FORMATS)}")
    if len(places) != 2 or any(place.startswith("-") for place in places):
        raise UserError("name a run and where it goes: mmtx export RUN OUT")
    FORMATS[form](*places)
    print(f"written: {places[1]}")
    return 0


def list_options(arguments: list[str]) -> int:
    from mmtx.compose import describe_options
    from mmtx.errors import UserError, nearest

    described = describe_options()
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


def _fail(message: str) -> int:
    print(f"mmtx: {message}", file=sys.stderr)
    return 2


def _options(arguments: list[str]) -> tuple[str | None, bool, list[str]]:
    """``--config FILE``, ``-m``, and the overrides."""
    from mmtx.errors import UserError

    config_file, is_sweep, overrides = None, False, []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("-m", "--multirun"):
            is_sweep = True
        elif argument == "--config":
            if not rest:
                raise UserError("--config needs a file: --config RUN/config.yaml")
            config_file = rest.pop(0)
        elif argument.startswith("--config="):
            config_file = argument.partition("=")[2]
        elif argument.startswith("-") or ("=" not in argument and not argument.startswith("~")):
            raise UserError(f"cannot read '{argument}'; choices and values are given as key=value")
        else:
            overrides.append(argument)
    return config_file, is_sweep, overrides


def _run_dir(overrides: list[str]) -> tuple[list[str], str | None]:
    """Takes ``run_dir=`` (or Hydra's own name for it) out of the overrides."""
    run_dir, rest = None, []
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ("run_dir", "hydra.run.dir", "hydra.sweep.dir"):
            run_dir = None if value in ("null", "") else value.strip("'\"")
        else:
            rest.append(override)
    return rest, run_dir


def _refuse_sweep(overrides: list[str]) -> None:
    from mmtx.errors import UserError
    from mmtx.sweep.command import split

    for override in overrides:
        words = split([override])
        if words.launcher or words.sweeper or override.startswith("sweep="):
            raise UserError(f"{override} is of a sweep; add -m, or leave it out")


def _place_and_options(arguments: list[str], known: dict, texts: Sequence[str] = ()) -> tuple[str, dict, list[str]]:
    """The run or checkpoint, the command's own options, and what is left."""
    from pathlib import Path

    import yaml

    from mmtx.errors import UserError

    places = [a for a in arguments if "=" not in a or Path(a).exists()]  # a sweep names its jobs by their overrides
    if len(places) != 1 or places[0].startswith("-"):
        raise UserError("name one run directory or checkpoint, and then key=value")
    options, overrides = dict(known), []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument in places:
            continue
        if key not in known:
            overrides.append(argument)
        elif key in texts:
            options[key] = value
        else:
            options[key] = (
                float(value) if isinstance(known[key], float) and _is_number(value) else yaml.safe_load(value)
            )
    return places[0], options, overrides


def _places_and_options(arguments: list[str], known: dict) -> tuple[list[str], dict]:
    """Directories, and the command's own options."""
    from pathlib import Path

    import yaml

    from mmtx.errors import UserError, nearest

    places = [a for a in arguments if "=" not in a or Path(a).exists()]
    options = dict(known)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument in places:
            continue
        if key not in known:
            raise UserError(f"unknown key {argument}; {nearest(key, known)}")
        options[key] = yaml.safe_load(value)
    if not places:
        raise UserError("name at least one directory of a run or a sweep")
    return places, options


def _names(key: str, value: object) -> list[str]:
    """A list of names, as it was given on the command line."""
    from mmtx.errors import InvalidValue

    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidValue(key, value, "is not a list of names", f"{key}=[image,text]")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
