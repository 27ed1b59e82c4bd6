"""Checkpoints and configs of strangers run no code, and secrets reach no file."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy
import pytest
import torch
import yaml
from random_damage import damaged
from run_cli import TINY, mmtx, text_of

from mmtx.commands.main import main
from mmtx.config import check
from mmtx.config.construct import construct
from mmtx.config.redaction import redacted
from mmtx.config.targets import resolve
from mmtx.errors import UserError
from mmtx.experiment import build, construct_source
from mmtx.run.checkpoint_content import contents, load, read_checkpoint
from mmtx.run.checkpoint_file import write_checkpoint

PLUGIN = """
import pathlib
pathlib.Path("marker").write_text("imported")
from mmtx.nn.norms import RMSNorm as Norm
class Evil(Norm): pass
"""
WORDS = ["data=digits", "modality=[image]", "objective=[classify]", *TINY, "logger=[]", "callbacks=[]"]


@pytest.fixture(scope="module")
def content():
    """What a checkpoint holds."""
    experiment = build(WORDS)
    weights = {f"learner.{key}": value for key, value in experiment.learner.state_dict().items()}
    return {"state_dict": weights, "mmtx": contents(experiment)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a package of a stranger in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_lab.py").write_text(PLUGIN)
    yield tmp_path
    sys.modules.pop("evil_lab", None)
    assert not (tmp_path / "marker").exists(), "code of a stranger ran"


class Evil:
    def __reduce__(self):
        return os.system, ("echo ran > marker",)


def signed(file, content):
    """With the manifest that a checkpoint has: anybody can write one."""
    digest = hashlib.sha256(content).hexdigest()
    file.write_bytes(content + b'\n{"size": %d, "sha256": "%s"}\n' % (len(content), digest.encode()))
    return file


def archive_of(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def repacked(content, change=None, method=zipfile.ZIP_STORED):
    """The same archive with members changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", method) as new:
        for member in old.infolist():
            data = old.read(member)
            new.writestr(member.filename, change(member.filename, data) if change else data)
    return out.getvalue()


def hostile_files(content):
    legacy = io.BytesIO()
    torch.save({**content, "x": Evil()}, legacy, _use_new_zipfile_serialization=False)
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)
    arrays = io.BytesIO()
    numpy.savez(arrays, x=numpy.array([Evil()], dtype=object))
    whole = archive_of(content)
    return {
        "pickle": pickle.dumps(Evil()),
        "old": legacy.getvalue(),
        "archive": archive_of({**content, "x": Evil()}),
        "member": repacked(whole, lambda name, data: pickle.dumps(Evil()) if name.endswith("data.pkl") else data),
        "script": script.getvalue(),
        "npz": arrays.getvalue(),
        "packed": repacked(whole, method=zipfile.ZIP_DEFLATED),
    }


@pytest.mark.filterwarnings("ignore:.*(torch.jit|pickle protocol)")
@pytest.mark.parametrize("kind", ["pickle", "old", "archive", "member", "script", "npz", "packed"])
def test_hostile_checkpoints_are_refused(kind, content, folder):
    harmful = hostile_files(content)[kind]
    (folder / "bare.ckpt").write_bytes(harmful)
    for file in (folder / "bare.ckpt", signed(folder / "signed.ckpt", harmful)):
        with pytest.raises(UserError, match=file.name):
            load(file)


def test_a_config_in_a_checkpoint_does_not_say_whom_to_trust(content, folder, capfd):
    config = {**content["mmtx"]["config"], "plugins": ["evil_lab", "subprocess", "mmtx", ""]}
    config["backbone"] = {**config["backbone"], "norm": {"_target_": "evil_lab.Evil", "_partial_": True}}
    write_checkpoint(folder / "a.ckpt", {**content, "mmtx": {**content["mmtx"], "config": config}})
    with pytest.raises(UserError, match="_target_=evil_lab.Evil is not a class of mmtx"):
        load(folder / "a.ckpt")
    assert main(["evaluate", str(folder / "a.ckpt")]) == 2
    assert "add plugins=[evil_lab]" in capfd.readouterr().err
    data = {"_target_": "mmtx.run.RunDirectory", "path": str(folder / "there")}
    with pytest.raises(UserError, match="is no dataset|is missing|is not"):
        construct_source({**config, "data": data})
    assert "evil_lab" not in sys.modules


def test_whom_the_user_trusts_is_imported(folder):
    try:
        assert resolve("evil_lab.Evil", ["evil_lab"]).__name__ == "Evil"
    finally:
        (folder / "marker").unlink()


def test_checkpoints_that_are_built_wrongly_are_refused(content, folder):
    mmtx = content["mmtx"]
    spec = mmtx["specs"]["image"]
    pixels = spec["fields"]["pixels"]
    wrong_dtype = {**mmtx["specs"], "image": {**spec, "fields": {"pixels": {**pixels, "dtype": "load"}}}}
    vocabulary = {**mmtx["specs"], "image": {**spec, "vocabulary": {"kind": "subprocess.Popen", "state": {}}}}
    key, weight = next((k, w) for k, w in content["state_dict"].items() if w.dim() == 2)
    states = [
        [],
        {"mmtx": 3},
        {"mmtx": mmtx},
        {**content, "mmtx": {**mmtx, "specs": []}},
        {**content, "mmtx": {**mmtx, "config": {}}},
        {**content, "mmtx": {**mmtx, "config": {**mmtx["config"], "backbone": 3}}},
        {**content, "mmtx": {**mmtx, "specs": wrong_dtype}},
        {**content, "mmtx": {**mmtx, "specs": vocabulary}},
        {**content, "state_dict": {}},
        {**content, "state_dict": {**content["state_dict"], key: torch.zeros(1).expand(10**6, 10**6)}},
        {**content, "state_dict": {**content["state_dict"], key: "text"}},
    ]
    write_checkpoint(folder / "good.ckpt", content)
    assert torch.equal(load(folder / "good.ckpt").state_dict()[key.removeprefix("learner.")], weight)
    for number, state in enumerate(states):
        write_checkpoint(folder / f"{number}.ckpt", state) if isinstance(state, dict) else signed(
            folder / f"{number}.ckpt", archive_of(state)
        )
        with pytest.raises(UserError):
            load(folder / f"{number}.ckpt")


@pytest.mark.parametrize(
    ("numbers", "is_signed"),
    [
        pytest.param(range(30), True, id="few"),
        pytest.param(range(30), False, id="few-unsigned"),
        pytest.param(range(30, 500), True, id="many", marks=pytest.mark.slow),
    ],
)
def test_damaged_checkpoints(numbers, is_signed, content, folder):
    """Also where the manifest fits the damage, as that of a stranger would."""
    small = archive_of({"mmtx": content["mmtx"], "state_dict": {"learner.x": torch.arange(6.0)}})
    refused = 0
    for number in numbers:
        harmed = damaged(small, number, times=1 + number % 3)
        file = folder / "a.ckpt"
        signed(file, harmed) if is_signed else file.write_bytes(harmed)
        try:
            read_checkpoint(file)
        except UserError as error:
            refused += 1
            assert file.name in str(error)
    assert refused > len(numbers) / 3


TARGETS = [
    *("os.system", "builtins.eval", "builtins.open", "subprocess.Popen", "numpy.load", "torch.load", "torch.hub.load"),
    *("torch.utils.cpp_extension.load_inline", "logging.os.makedirs", "functools.partial", "evil_lab.Evil"),
    *("mmtx.experiment.torch.load", "mmtx.experiment.copy.deepcopy", "mmtx.run.job.Path", "mmtx.experiment.construct"),
    *("mmtx.data.loaders.DataLoader", "mmtxx.Evil", "mmtx", "", "mmtx..nn", "mmtx.\x00.a", "torch.optimx.Evil"),
]


@pytest.mark.parametrize("target", TARGETS, ids=[ascii(target) for target in TARGETS])
@pytest.mark.parametrize("how", ["node", "nested", "list", "partial"])
def test_targets_of_strangers_are_refused(target, how, content, folder):
    config = dict(content["mmtx"]["config"])
    part, node = {"list": "data", "nested": "backbone"}.get(how, "optim"), {"_target_": target}
    if how == "list":
        config["data"] = {**config["data"], "augment": [node]}
    elif how == "nested":
        config["backbone"] = {**config["backbone"], "mlp": {**config["backbone"]["mlp"], "activation": node}}
    else:
        config["optim"] = {**node, "_partial_": how == "partial", "_args_": ["echo ran > marker"]}
    before = set(sys.modules)
    assert any("_target_=" in finding.message for finding in check.findings(config))
    with pytest.raises(UserError, match="_target_="):
        construct(config[part])
    assert not {"evil_lab", "torch.utils.cpp_extension"} & (set(sys.modules) - before)


def test_other_underscores_are_unknown_keys(content):
    config = {**content["mmtx"]["config"]}
    config["optim"] = {**config["optim"], "_args_": [1], "_instantiator": "os.system"}
    assert {finding.path for finding in check.findings(config)} == {"optim._args_", "optim._instantiator"}


def test_pythons_own_modules_cannot_be_trusted():
    for plugin in ("subprocess", "os", "builtins", "subprocess.run"):
        with pytest.raises(UserError, match="is not a class of mmtx$"):
            resolve("subprocess.Popen" if plugin.startswith("sub") else f"{plugin}.x", [plugin])


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_become_what_they_are_read_from(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "abcdefgh12345")
    monkeypatch.setenv("SHORT_KEY", "run")
    given = {"a": ["x abcdefgh12345", 3, None], "run": "https://me:pass@host/x"}
    assert redacted(given) == {"a": ["x ${oc.env:MY_API_KEY}", 3, None], "run": "https://***@host/x"}


def test_a_secret_in_clear_is_refused_before_anything_is_saved(folder, capfd):
    assert main(["train", *WORDS, "+data.api_key=canary-7d1f9b", "run_dir=run"]) == 2
    assert "data.api_key is a secret" in capfd.readouterr().err
    assert not (folder / "run").exists()


def test_no_secret_reaches_a_file(folder):
    env = {"WANDB_API_KEY": "canary" + "0" * 34, "MY_TOKEN": "canary-7d1f9b", "WANDB_MODE": "offline"}
    words = [*WORDS[:-2], "callbacks=[]", "trainer.max_steps=1", "run_dir=run"]
    words += ["name='of ${oc.env:MY_TOKEN} and ${oc.env:WANDB_API_KEY}'"]
    done = mmtx("train", *words, cwd=folder, env=env)
    assert done.returncode == 0, text_of(done)
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert config["name"] == "of ${oc.env:MY_TOKEN} and ${oc.env:WANDB_API_KEY}"
    found = subprocess.run(["grep", "-rl", "canary", str(folder / "run")], capture_output=True, text=True).stdout
    assert not found and (folder / "run" / "checkpoints" / "last.ckpt").is_file()
