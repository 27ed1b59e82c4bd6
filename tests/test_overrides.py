"""An override means the same wherever it is written, and that is what Hydra's own command line means by it."""

import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from omegaconf import OmegaConf

from mmtx.commands.arguments import Paths, parse, parse_run
from mmtx.config.compose import Composer, compose
from mmtx.config.overrides import MOST_VALUES, quoted, read, written
from mmtx.config.stored import read_config, with_overrides
from mmtx.config.sweeps import compose_node, expand_sweep, with_sweep_files
from mmtx.errors import ConfigErrors, UserError
from mmtx.run import evaluation, resume
from mmtx.run.directory import RunDirectory
from mmtx.sweep.plan import plan, slug
from mmtx.sweep.run_sweep import _freeze
from mmtx.sweep.settings import split
from mmtx.sweep.space import search_space

BASE = ["experiment=vit_digits", "seed=7"]
VALUES = [
    *("010", "1_000", "0x10", "1e3", "1.5", "-3", "+3", ".5", "inf", "nan", "1e-3", "12:30", "1:2:3"),
    *("no", "yes", "on", "off", "true", "False", "null", "Null", "~", "None", "", " ", " a b "),
    *("'run #2'", "run #2", "@night", "a@b", r"it\'s", r"'it\'s'", '"it\'s"', "'a", r"first\ try", r"a\,b", r"a\=b"),
    *(
        "a=b",
        "'a=b'",
        r"c:\x",
        r"'\\'",
        r"a\\b",
        "%x?",
        "a|b*",
        "日本語",
        "'日本語'",
        "'010'",
        "'null'",
        "'1,2'",
        "\ttab",
    ),
    *(
        "[a,b]",
        "[a, [1, null], 'x y']",
        "[]",
        "[a",
        "{image:0.3}",
        "{image: 0.3, b: {c: [1]}}",
        "{}",
        "{'a':1}",
        "{1:2}",
    ),
    *("${seed}", "'${seed}'", "x${seed}y", r"\${seed}", r"'\${seed}'", "${seed", "[${seed},1]", "$x"),
    *("str(1)", "int(3.7)", "float('2')", "bool(true)", "sort([2,1])", "int(x)", "foo(1)", "foo", "f(", "[range(1,3)]"),
    *("range(1,3),4", "#", "a#b", "&", "!x", "*x", "- x", "|", ">", "a: b", "2026-11-26", "1.", "9" * 5000, "[" * 500),
]
NOWHERE = "${no.such}"


@pytest.fixture(scope="module")
def hydras():
    """What Hydra itself makes of each value; none of those that it refuses."""
    known, parser = {}, OverridesParser.create()
    for value in VALUES:
        try:
            override = parser.parse_override(f"key={value}")
        except Exception:  # Hydra raises many kinds
            continue
        if override.value_type is ValueType.ELEMENT and "range(" not in value:
            known[value] = in_config(override.value())
    return known


@pytest.fixture(scope="module")
def hydras_sweeps():
    """What Hydra itself makes of the first of two swept values: it becomes a text of the grammar, and a value again."""
    known, parser = {}, OverridesParser.create()
    for value in VALUES:
        try:
            first = next(parser.parse_override(f"key={value},other").sweep_string_iterator())
        except Exception:
            continue
        if "range(" not in value:
            known[value] = in_config(parser.parse_override(f"key={first}").value())
    return known


def in_config(value):
    """A value as it is in a config, where it may refer to another."""
    config = OmegaConf.create({"seed": 7, "key": None})
    OmegaConf.update(config, "key", value)
    return OmegaConf.to_container(config, resolve=True)["key"]


@pytest.fixture(scope="module")
def composer():
    with Composer() as composer:
        composer.compose(BASE)
        yield composer


@pytest.fixture
def saved(composer, tmp_path, monkeypatch):
    """The file of a saved config, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    file = Path("run/config.yaml")
    file.write_text(yaml.safe_dump(composer.compose(BASE)))
    return file


class Entrance:
    """Where overrides are written, and the config that each makes of them."""

    def __init__(self, composer, file, monkeypatch):
        self.composer, self.file, self.monkeypatch = composer, file, monkeypatch

    def train(self, words):
        return self.composer.compose([*BASE, *words])

    def train_config(self, words):
        return read_config(self.file, words)

    def sweep(self, words):
        return self.train(expand_sweep([*words, "log_every_steps=1,2"])[1])

    def sweep_config(self, words):
        return self.train_config(expand_sweep([*words, "log_every_steps=1,2"])[1])

    def search(self, words):
        return self.train(search_space([*words, "log_every_steps=1,2"])[0])

    def sweep_file(self, words):
        return self.train(in_sweep_file(words))

    def evaluate(self, words):
        self.monkeypatch.setattr(evaluation.check, "findings", lambda config: [])
        return evaluation._config(self.composer.compose(BASE), words, evaluation.DEFAULTS)

    def resume(self, words):
        configs = []

        def assemble(config, *_):
            configs.append(config)
            raise UserError("far enough")

        self.monkeypatch.setattr(resume, "assemble", assemble)
        self.monkeypatch.setattr(resume, "find_checkpoint", lambda run: None)
        with pytest.raises(UserError) as error:
            resume.resume(Path("run"), words)
        if configs:
            return configs[0]
        raise error.value


def in_sweep_file(words):
    """Overrides given by the lines of a file."""
    Path("conf/sweep").mkdir(parents=True, exist_ok=True)
    lines = dict(word.split("=", 1) for word in words)
    Path("conf/sweep/mine.yaml").write_text(yaml.safe_dump(lines, allow_unicode=True))
    return with_sweep_files(["sweep=mine"])


ENTRANCES = [name for name in vars(Entrance) if not name.startswith("_")]


@pytest.mark.parametrize("name", ENTRANCES)
def test_a_value_is_what_hydra_says_wherever_it_is_written(name, hydras, composer, saved, monkeypatch):
    entrance = getattr(Entrance(composer, saved, monkeypatch), name)
    group = "checkpoint" if name == "resume" else "data"
    config = entrance([f"{group}.key{VALUES.index(value)}={value}" for value in hydras])
    found = {value: config[group][f"key{VALUES.index(value)}"] for value in hydras}
    assert repr(found) == repr(hydras)  # 1 is not 1.0, and nan is nan
    refused = [value for value in VALUES if value not in hydras]
    assert {"run #2", "日本語", "foo(1)", "a=b"} <= {*refused}
    with pytest.raises(ConfigErrors) as caught:
        entrance([f"{group}.key{VALUES.index(value)}={value}" for value in refused])
    assert len(caught.value.findings) == len(refused), caught.value
    for value, finding in zip(refused, caught.value.findings, strict=True):
        assert f"{group}.key{VALUES.index(value)}={value[:20]}" in finding.replace("\\\\", "\\"), finding
    with pytest.raises(UserError, match="no.such"):
        entrance([f"{group}.key={NOWHERE}"])


def test_an_option_is_what_hydra_says(hydras):
    for value in VALUES:
        if value not in hydras:
            with pytest.raises(UserError, match=r"^(cannot read the override|.* names several values)"):
                parse([f"drop={value}"], Paths(0, 0, ""), {"drop": None})
        elif "${" not in value:
            given = parse(
                [f"drop={value}", "prompt=a=b # 'c"], Paths(0, 0, ""), {"drop": None, "prompt": None}, ["prompt"]
            )
            assert repr(given[1]["drop"]) == repr(hydras[value])
            assert given[1]["prompt"] == "a=b # 'c"


@pytest.mark.parametrize("name", ["sweep", "sweep_config", "sweep_file", "search"])
def test_a_swept_value_is_what_hydra_says(name, hydras_sweeps, composer, saved, monkeypatch):
    words = {value: f"data.key{VALUES.index(value)}={value},other" for value in VALUES}
    known = [word for value, word in words.items() if value in hydras_sweeps]
    if name == "search":
        firsts = [f"{axis.key}={axis.choices[0]}" for axis in search_space(known)[1]]
    else:
        known = in_sweep_file(known) if name == "sweep_file" else known
        firsts = [expand_sweep([word])[0][0] for word in known]
    entrance = Entrance(composer, saved, monkeypatch)
    config = (entrance.train_config if name == "sweep_config" else entrance.train)(firsts)
    found = {value: config["data"][f"key{VALUES.index(value)}"] for value in hydras_sweeps}
    assert repr(found) == repr(hydras_sweeps)
    for value, word in words.items():
        if value not in hydras_sweeps:
            with pytest.raises(ConfigErrors, match="^1 problem in the config"):
                search_space([word]) if name == "search" else expand_sweep([word])


CHANGES = [
    ["hint=a", "hint=b"],
    ["+hint=a"],
    ["++hint=a"],
    ["+seed=3"],
    ["++seed=3"],
    ["+new.key=1"],
    ["~hint"],
    ["~optim.schedule"],
    ["~type_embeddings", "+type_embeddings=false"],
    ["~seed=7"],
    ["~seed=8"],
    ["~no.such"],
    ["seed@there=1"],
    ["modality_dropout={image:0.3}", "modality_dropout.text=0.1"],
    ["freeze=[a]", "freeze=[b,c]"],
    ["optim.lr=${backbone.dim}"],
    ["logger=[]"],
    ["~logger"],
    ["callbacks=[progress]"],
    ["modality.text.vocabulary=3"],
    ["=5"],
    ["seed"],
    ["seed=1,2"],
    ["seed=interval(1,2)"],
    ["hydra.job.name=mine"],
    ["hydra.job.chdir=true"],
    ["hydra.nonsense=1"],
    ["hydra/job_logging=none"],
    ["+hydra.job.env_set.A=1"],
    ["~hydra.job"],
    ["hydra.searchpath=[file:///x]"],
    ["hydra={}"],
]


@pytest.mark.parametrize("changes", CHANGES, ids=" ".join)
def test_a_change_of_a_saved_config_is_that_of_a_new_one(changes, composer):
    def told(make):
        try:
            return make()
        except UserError as error:
            return str(error)

    new = told(lambda: composer.compose([*BASE, *changes]))
    again = told(lambda: with_overrides(composer.compose(BASE), changes))
    assert new == again or changes == ["~logger"] and isinstance(new, str) and isinstance(again, str)
    if "hydra" in changes[0]:
        assert "is nothing that mmtx does; of Hydra's own settings it takes hydra.run.dir" in new


def test_a_choice_of_a_group_behind_a_saved_config_is_refused(composer):
    config = composer.compose(BASE)
    for choice in ("optim=adamw", "optim={lr:1}", "backbone/mlp=gelu", "lora=default", "experiment=vit_digits"):
        with pytest.raises(ConfigErrors, match="swaps a group of a saved config"):
            with_overrides(config, [choice])


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("seed=range(1,5,0)", "never ends"),
        ("seed=range(0.5,1,0.0)", "never ends"),
        ("seed=range(1,inf)", "never ends"),
        ("seed=range(5,1)", f"has no values; a sweep has between 1 and {MOST_VALUES}"),
        ("seed=shuffle(range(1,1000000000))", f"has 999999999 values; a sweep has between 1 and {MOST_VALUES}"),
        ("seed=interval(1,2)", "add hydra/sweeper=optuna"),
        ("seed=range(1,3),range(4,6)", "a value of its own"),
        ("experiment=glob(vit_digitz*)", "matches nothing; did you mean 'vit_digits'?"),
        ("seed=glob(*)", "matches nothing"),
    ],
)
def test_a_sweep_over_nothing_that_can_be_counted_is_one_line(word, problem):
    with pytest.raises(ConfigErrors, match=r"^1 problem in the config:\n  - .*") as error:
        expand_sweep([word])
    assert problem in str(error.value) and str(error.value).count("\n") == 1
    if "interval" not in word and "shuffle" not in word:
        with pytest.raises(ConfigErrors) as error:
            search_space([word])
        assert str(error.value).count("\n") == 1


def test_a_sweep_has_a_number_of_jobs_that_can_be_planned():
    with pytest.raises(ConfigErrors, match=r"the sweep has 1000000 jobs; at most 100000"):
        expand_sweep(["seed=range(0,1000)", "log_every_steps=range(0,1000)"])


def test_functions_of_hydra_in_a_sweep():
    recipes = [job[0] for job in expand_sweep(["experiment=glob([vit_*,gpt_*],exclude=*_m*)"])]
    assert recipes == sorted(recipes) and {"experiment=vit_digits", "experiment=gpt_python"} <= {*recipes}
    assert "experiment=vit_mnist" not in recipes and all("=vit_" in each or "=gpt_" in each for each in recipes)
    (axis,) = search_space(["experiment=glob(vit_d*)"])[1]
    assert axis.choices == ("vit_digits",)
    assert expand_sweep(["a=range(3,0,-1)"]) == [["a=3"], ["a=2"], ["a=1"]]
    assert expand_sweep(["a=sort(3,1,2)"]) == [["a=1"], ["a=2"], ["a=3"]]
    assert sorted(expand_sweep(["a=shuffle(1,2)"])) == [["a=1"], ["a=2"]]
    assert len({job[0] for job in expand_sweep(["a=shuffle([1,2,3,4,5,6,7,8,9])", "seed=range(0,9)"])}) == 1
    assert search_space(["a=range(1,1000000000)"])[1][0].high == 999999999


def test_of_a_key_given_twice_the_last_is_what_is_swept():
    assert expand_sweep(["seed=1,2", "seed=3,4"]) == [["seed=3"], ["seed=4"]]
    assert expand_sweep(["seed=1,2", "seed=3"]) == [["seed=3"]]


def test_the_lines_of_a_sweep_file_are_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/sweep").mkdir(parents=True)
    (tmp_path / "conf/sweep/mine.yaml").write_text(
        "hydra/sweeper: optuna\nseed: 010\nname: no\nhint: \"'run #2'\" # in a text\n"
        "init_from: null\nfreeze:\n- a\n- 'b'\n"
        "modality_dropout: {image: 0.3}\noptim.lr: tag(log,interval(1e-4,1e-1))\n"
    )
    assert with_sweep_files(["sweep=mine", "optim.lr=1"]) == [
        *("hydra/sweeper=optuna", "seed=010", "name=no", "hint='run #2'", "init_from=null", "freeze=[a,b]"),
        *("modality_dropout={image:0.3}", "optim.lr=1"),
    ]
    for word, problem in (
        ("sweep=min", "did you mean 'mine'"),
        ("sweep=a,b", "there is no such"),
        ("sweep=", "no such"),
    ):
        with pytest.raises(ConfigErrors, match=problem):
            with_sweep_files([word])
    (tmp_path / "conf/sweep/mine.yaml").write_text("- seed=1\n")
    with pytest.raises(UserError, match="no list of overrides"):
        with_sweep_files(["sweep=mine"])


def test_settings_of_the_launcher_are_of_the_same_grammar():
    assert compose_node("launcher", "slots", ["launcher.devices=cpu:2"])["devices"] == "cpu:2"
    assert compose_node("launcher", "ray", ["launcher='slots'", "launcher.devices=[0,1]"])["devices"] == [0, 1]
    for word in (
        "launcher.devices=cpu:1,cpu:2",
        "launcher=slots,ray",
        "launcher.devices=#",
        "launcher.devices=range(1,0,0)",
    ):
        with pytest.raises(ConfigErrors) as error:
            compose_node("launcher", "slots", [word])
        assert str(error.value).count("\n") == 1


FOLDERS = ["lr=0.003,seed=1-062db5", "000,lr=0.0012-9f1c00", "modality=image,text-0badc0", "run #2", "it's", "~a"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_of_a_job_is_given_back_as_it_is(name, composer, saved):
    place = f"sweep/{name}"
    Path(place).mkdir(parents=True)
    for word in (f"init_from={place}", f"++init_from={Path(place).absolute()}"):
        wanted = word.partition("=")[2]
        assert composer.compose([*BASE, word])["init_from"] == wanted
        assert read_config(saved, [word])["init_from"] == wanted
        (recorded,) = with_sweep_files([word])  # means the same in another directory
        assert expand_sweep([word, "seed=1,2"]) == [[recorded, f"seed={seed}"] for seed in (1, 2)]
        assert search_space([word, "seed=1,2"])[0] == [recorded]
        assert composer.compose([*BASE, recorded])["init_from"] == wanted
    assert parse_run([f"run_dir={place}"])[3] == place
    paths, options, _ = parse([place, f"out={place}"], Paths(1, 1, ""), {"out": None}, texts=("out",))
    assert (paths, options) == ([place], {"out": place})


def test_several_folders_of_jobs_are_a_sweep(composer, saved):
    paths = ["s/lr=0.003,seed=1-062db5", "s/lr=0.003,seed=2-11aa00", "s/plain"]
    for place in paths:
        Path(place).mkdir(parents=True)
    jobs = expand_sweep([f"init_from={','.join(paths)}"])
    assert [composer.compose([*BASE, *job])["init_from"] for job in jobs] == paths
    assert len({slug(job) for job in jobs}) == 3


def test_what_is_not_there_is_told_with_how_to_write_it():
    with pytest.raises(UserError) as error:
        read("init_from=s/lr=0.003,seed=1")
    advice = str(error.value).partition("; as a text: ")[2]
    (typed,) = shlex.split(advice)
    assert read(typed).value() == "s/lr=0.003,seed=1"


@pytest.mark.parametrize("text", [*FOLDERS, *VALUES, "a\nb", "'", "\\", "\\'", "x\\", r"\\${x}"], ids=ascii)
def test_any_text_can_be_written_in_the_grammar(text, composer):
    words = [f"hint={quoted(text)}", f"hint={written(text)}"]
    assert [composer.compose([*BASE, word])["hint"] for word in words] == [text] * 2
    assert read(f"freeze={written([text, 1, None, True, [0.5]])}").value()[1:] == [1, None, True, [0.5]]


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("run_dir='a b'", "a b"),
        ('hydra.run.dir="a b"', "a b"),
        (r"hydra.sweep.dir=a\,b", "a,b"),
        ("run_dir=~/x=1,y", "~/x=1,y"),
        ("run_dir=010", "010"),
        ("run_dir=1e3", "1e3"),
        ("run_dir=a,b", "a,b"),
        ("run_dir='null'", "null"),
        ("run_dir=null", None),
        ("run_dir=", None),
    ],
)
def test_the_directory_of_a_run_is_what_is_written(word, path):
    assert parse_run([word])[3] == path


def test_a_directory_that_refers_to_other_keys_is_refused():
    with pytest.raises(UserError, match=r"hydra.run.dir=out/\$\{now:%Y\} refers to other keys"):
        parse_run(["hydra.run.dir=out/${now:%Y}"])


def test_a_launcher_is_not_taken_for_a_job_whatever_it_is_written_like():
    words = split(
        ["++hydra.launcher.devices=cpu:2", "+hydra/launcher=slots", "sweeper.n_trials=3", "name='hydra.launcher.x'"]
    )
    assert words.launcher == ["launcher.devices=cpu:2", "launcher=slots"]
    assert words.sweeper == ["sweeper.n_trials=3"] and words.jobs == ["name='hydra.launcher.x'"]


def test_a_saved_config_knows_hydras_interpolations_though_it_is_read_without_hydra(composer):
    OmegaConf.clear_resolver("now")
    assert with_overrides(composer.compose(BASE), ["hint=${now:%Y}"])["hint"].startswith("20")


@pytest.mark.parametrize("text", ["${seed}", "x${oc.env:HOME}y", r"\${seed}", r"a\\${", "${"])
def test_a_text_that_looks_like_a_reference_stays_that_text_in_what_is_saved(text, composer, tmp_path):
    config = composer.compose([*BASE, f"hint={quoted(text)}"])
    assert config["hint"] == text
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.write_config(config)
    assert read_config(run.config)["hint"] == text
    (planned,) = plan(["seed=3"], str(run.config))
    assert planned.config["hint"] == text
    _freeze(planned, tmp_path)
    assert read_config(tmp_path / planned.job.name / "config.yaml")["hint"] == text


def test_the_command_that_a_resume_names_can_be_pasted(saved, monkeypatch):
    run = Path("it's, lr=1 #2")
    Path("run").rename(run)
    with pytest.raises(UserError) as error:
        resume.resume(run, ["hint='run #2'", "optim.lr=2"])
    typed = shlex.split(str(error.value).partition("A new run from its weights: ")[2])
    file, is_sweep, overrides, run_dir = parse_run(typed[2:])
    assert typed[:2] == ["mmtx", "train"] and not is_sweep and run_dir is None
    config = read_config(file, overrides)
    assert (config["hint"], config["init_from"]) == ("run #2", str(run.absolute()))


def test_a_folder_that_is_gone_is_named():
    with pytest.raises(UserError, match=r"^name one; there is no s/lr=1,seed=2$"):
        parse(["s/lr=1,seed=2", "split=val"], Paths(1, 1, "name one"), {"split": "test"})


def test_a_python_program_composes_by_the_same_rules():
    assert compose([*BASE, "hint='run #2'", "name=12:30"])["name"] == "12:30"


def test_a_list_of_defaults_in_the_wrong_order_has_a_message(tmp_path, monkeypatch):
    """Hydra has none where the override before is a list."""
    recipe = "# @package _global_\ndefaults:\n  - override /modality: [text]\n  - /data: digits\n"
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigErrors, match="wrong order: its `override` entries stand behind all others"):
        compose(["experiment=mine"])
