"""A run goes to a hub and comes back to the bit; a run that begins with it keeps its commit and its files."""

from __future__ import annotations

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
import yaml
from fake_hub import TOKEN, Hub
from run_cli import TINY, text_of
from run_cli import mmtx as run_mmtx

import mmtx
from mmtx.commands.main import main
from mmtx.errors import UserError
from mmtx.hub.address import Address
from mmtx.hub.snapshot import forget_commits
from mmtx.run.checkpoint_content import read_checkpoint, weights_of
from mmtx.run.directory import newest_checkpoint
from mmtx.run.push import push
from mmtx.sweep.plan import plan

SMALL = [*TINY, "data=digits", "modality=[image]", "objective=[classify]", "trainer.max_steps=2", "logger=[]"]
SMALL += ["callbacks=[]", "trainer.accelerator=cpu", "trainer.devices=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *SMALL, f"run_dir={run}"]) == 0
    return run


@pytest.fixture
def pushed(hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Address:
    """Its address on the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return push(str(trained), Address("lab/digits"), license="apache-2.0")


def test_what_comes_back_is_the_same_to_the_bit(hub: Hub, trained: Path, pushed: Address) -> None:
    assert pushed.is_pinned and pushed.revision == hub.repositories["lab/digits"].branches["main"]
    here, there = (read_checkpoint(newest_checkpoint(place)) for place in (trained, "hub://lab/digits"))
    ours, theirs = weights_of(here), weights_of(there)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    for key in ("config", "specs", "fitted", "fingerprint", "step"):
        assert here["mmtx"][key] == there["mmtx"][key]
    one, other = mmtx.load(trained), mmtx.load("hub://lab/digits")
    batch = mmtx.batch.fake_batch(one.specs, 3)
    with torch.no_grad():
        sums = [learner(batch)["classify"].loss_sum for learner in (one, other)]
    assert torch.equal(*sums)


def test_one_commit_has_the_files_of_the_model_alone(hub: Hub, pushed: Address) -> None:
    repository = hub.repositories["lab/digits"]
    assert len(repository.commits) == 2  # the empty one of a new repository, and this one
    names = {"README.md", "config.yaml", "mmtx.json", "model.safetensors"}
    assert repository.commits[pushed.revision].keys() == {".gitattributes", *names}


def test_the_card_says_how_it_is_used_from_there(hub: Hub, pushed: Address, capsys: pytest.CaptureFixture) -> None:
    """The lines to be pasted work, but for the training, whose steps are checked alone."""
    page = hub.repositories["lab/digits"].commits[pushed.revision]["README.md"].decode()
    _, head, body = page.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    commands = [line[2:].partition("  #")[0].split() for line in body.splitlines() if line.startswith("$ mmtx")]
    assert [words[1] for words in commands] == ["evaluate", "train"]
    assert main(commands[0][1:]) == 0
    assert json.loads(capsys.readouterr().out)["test/loss"] > 0
    assert main(["check", *commands[1][2:]]) == 0
    assert "0 weights matched" not in capsys.readouterr().out


def test_a_run_that_begins_there_keeps_commit_and_files(hub: Hub, pushed: Address, tmp_path: Path) -> None:
    assert main(["train", *SMALL, "init_from=hub://lab/digits", "run_dir=run"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["init_from"] == f"hub://lab/digits@{pushed.revision}"
    kept = json.loads(Path("run/init_from.json").read_text())
    assert kept["address"] == str(pushed) and kept["sha256"].keys() == {"config.yaml", "mmtx.json", "model.safetensors"}


def test_a_run_that_begins_again_refuses_other_files(
    hub: Hub, pushed: Address, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Another hub has other weights under the same commit; and the run never saved a checkpoint of its own."""
    assert main(["train", *SMALL, "init_from=hub://lab/digits", "run_dir=run"]) == 0
    for file in ("checkpoints", ".checkpointed", "status.json"):
        path = Path("run", file)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    Path("run/checkpoints").mkdir()
    Path("run/status.json").write_text('{"state": "interrupted"}')
    files = hub.repositories["lab/digits"].commits[pushed.revision]
    files["config.yaml"] += b"# changed\n"
    shutil.rmtree(tmp_path / "hf_home")
    capsys.readouterr()
    assert main(["resume", "run"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"mmtx: init_from={pushed}: config.yaml changed since this run began with it")
    assert message.count("\n") == 1
    files["config.yaml"] = files["config.yaml"].removesuffix(b"# changed\n")
    shutil.rmtree(tmp_path / "hf_home")
    assert main(["resume", "run"]) == 0


def test_what_is_not_there_is_refused_before_there_is_a_run(hub: Hub, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    hub.repository("lab/xlnet").commit("main", {"config.json": b'{"model_type": "xlnet"}', "model.safetensors": b""})
    for name, problem in {"nothing": "there is no such repository", "xlnet": "of the family 'xlnet'"}.items():
        assert main(["train", *SMALL, f"init_from=hub://lab/{name}", "run_dir=run"]) == 2
        message = capsys.readouterr().err
        assert (
            message.startswith(f"mmtx: init_from=hub://lab/{name}") and problem in message and message.count("\n") == 1
        )
        assert not Path("run").exists()
    assert not any("resolve" in request and request.endswith("model.safetensors") for request in hub.requests)


def test_the_jobs_of_a_sweep_are_of_one_commit(hub: Hub, pushed: Address) -> None:
    hub.requests.clear()
    forget_commits()
    jobs = plan([*SMALL, "init_from=hub://lab/digits", "seed=1,2"], None)
    assert {job.config["init_from"] for job in jobs} == {str(pushed)}
    assert downloads(hub) == 1


@pytest.mark.slow
def test_ranks_of_a_launcher_begin_with_the_commit_of_rank_0(hub: Hub, pushed: Address, tmp_path: Path) -> None:
    """Rank 1 has an endpoint of its own, where nobody answers a question about the branch."""
    nowhere = {"HF_ENDPOINT": f"{hub.url}/nowhere"}
    done = on_two_ranks([*SMALL[:-1], "trainer.devices=2", "init_from=hub://lab/digits"], tmp_path, {}, nowhere)
    assert [each.returncode for each in done] == [0, 0], "\n".join(map(text_of, done))
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["init_from"] == str(pushed)


def on_two_ranks(words: list[str], folder: Path, *environments: dict[str, str]) -> list[CompletedProcess]:
    """Two processes as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}

    def rank(number: int) -> CompletedProcess:
        own = {**meet, "RANK": str(number), "LOCAL_RANK": str(number), **environments[number]}
        return run_mmtx("train", *words, "run_dir=run", cwd=folder, env=own, interpreter=True)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(rank, range(2)))


def test_who_comes_at_the_same_time_waits_for_one_download(hub: Hub, pushed: Address) -> None:
    hub.requests.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(newest_checkpoint, ["hub://lab/digits"] * 4))
    assert len(set(found)) == 1 and downloads(hub) == 1


def downloads(hub: Hub) -> int:
    return sum(r.startswith("GET") and r.endswith("model.safetensors") for r in hub.requests)


def test_a_branch_of_its_own(hub: Hub, trained: Path, pushed: Address) -> None:
    other = push(str(trained), Address("lab/digits", "v2"))  # the card has no licence
    assert hub.repositories["lab/digits"].branches == {"main": pushed.revision, "v2": other.revision}
    assert mmtx.load("hub://lab/digits@v2").num_parameters == mmtx.load(trained).num_parameters


def test_a_model_that_replaces_another_leaves_nothing_of_it(hub: Hub, trained: Path, pushed: Address) -> None:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"", "notes.md": b"by hand"}
    repository = hub.repository("lab/old")
    repository.commit("main", files)
    there = repository.commits[push(str(trained), Address("lab/old")).revision]
    assert there.keys() == {"notes.md", "README.md", "config.yaml", "mmtx.json", "model.safetensors"}


def test_private_is_private(hub: Hub, trained: Path, pushed: Address) -> None:
    push(str(trained), Address("lab/secret"), private=True)
    assert hub.repositories["lab/secret"].private
    before = dict(hub.repositories["lab/digits"].commits)
    with pytest.raises(UserError, match="^hub://lab/digits is there already, and not private"):
        push(str(trained), Address("lab/digits"), private=True)
    assert hub.repositories["lab/digits"].commits == before


def test_without_a_token_nothing_is_written(hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^hub://lab/new: .* refuses access \(401\), as there is no token that may"):
        push(str(trained), Address("lab/new"))
    assert not hub.repositories


def test_a_folder_is_uploaded_with_its_card(hub: Hub, trained: Path, pushed: Address, tmp_path: Path) -> None:
    """What a person wrote into the card stays; the lines to be pasted are for the hub; other files stay at home."""
    assert main(["export", str(trained), "out", "--format", "mmtx"]) == 0
    card = Path("out/README.md")
    assert "mmtx evaluate out" in card.read_text()
    card.write_text(card.read_text().replace("# default", "# My digits"))
    Path("out/.env").write_text("secret")
    there = hub.repositories["lab/digits"].commits[push("out", Address("lab/digits")).revision]
    page = there["README.md"].decode()
    assert "# My digits" in page and "mmtx evaluate hub://lab/digits " in page and "evaluate out" not in page
    assert ".env" not in there
    assert "mmtx evaluate out" in card.read_text()


def test_it_becomes_a_run_again(hub: Hub, trained: Path, pushed: Address) -> None:
    assert main(["import", "hub://lab/digits", "again"]) == 0
    here, there = (weights_of(read_checkpoint(newest_checkpoint(place))) for place in (trained, "again"))
    assert all(torch.equal(here[key], there[key]) for key in here)
    assert json.loads(Path("again/metrics.json").read_text()) == json.loads((trained / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run"], "name a run or a folder and where it goes"),
        (["run", "digits"], "'digits' is not owner/name"),
        (["run", "lab/digits@v2"], "give the branch as --revision v2"),
        (["run", "lab/digits", "--format", "onnx"], "a hub takes no such format"),
        (["nowhere", "lab/digits"], "is no run and no folder"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(arguments, problem, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["push", *arguments]) == 2
    message = capsys.readouterr().err
    assert problem in message and message.count("\n") == 1


@pytest.mark.slow
def test_the_real_command_line(hub: Hub, trained: Path, tmp_path: Path) -> None:
    """A process of its own, which reads HF_ENDPOINT and HF_TOKEN."""
    words = ["push", trained, "lab/digits", "--private", "--license", "mit"]
    done = run_mmtx(*words, cwd=tmp_path, env={"HF_TOKEN": TOKEN}, interpreter=True)
    assert done.returncode == 0, text_of(done)
    repository = hub.repositories["lab/digits"]
    oid = repository.branches["main"]
    assert f"uploaded: hub://lab/digits@{oid}\nto look at: {hub.url}/lab/digits/tree/{oid}\n" in done.stdout
    assert repository.private and b"license: mit" in repository.commits[oid]["README.md"]
