"""What is downloaded from a hub is whole, pinned, and checked; what cannot be is one line."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from fake_hub import TOKEN, Hub

from mmtx.errors import UserError
from mmtx.hub.address import Address
from mmtx.hub.snapshot import Snapshot, forget_commits, snapshot

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 400, "notes.txt": b"not of the model"}


def fetched(place: str = "hub://lab/model") -> Snapshot:
    return snapshot(place, lambda folder: None)


@pytest.fixture
def model(hub: Hub) -> str:
    """The commit of a model on the hub."""
    return hub.repository("lab/model").commit("main", dict(FILES))


def test_the_files_of_a_model_come_with_their_hashes(hub: Hub, model: str) -> None:
    found = fetched()
    assert found.address == Address("lab/model", model)
    assert found.files == {n: hashlib.sha256(FILES[n]).hexdigest() for n in ("config.json", "model.safetensors")}
    assert {file.name: file.read_bytes() for file in found.folder.iterdir()} == {n: FILES[n] for n in found.files}


def test_a_commit_that_was_downloaded_needs_no_network(hub: Hub, model: str) -> None:
    first = fetched()
    hub.requests.clear()
    assert fetched(str(first.address)) == first
    assert not hub.requests


def test_a_branch_is_looked_up_once_in_a_process(hub: Hub, model: str) -> None:
    first = fetched()
    newer = hub.repositories["lab/model"].commit("main", {**FILES, "config.json": b'{"a": 1}'})
    assert fetched() == first
    forget_commits()
    assert fetched().address.revision == newer != model


def test_offline_a_branch_is_what_it_was(hub: Hub, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetched()
    hub.repositories["lab/model"].commit("main", {**FILES, "config.json": b'{"a": 1}'})
    forget_commits()
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetched() == first
    with pytest.raises(
        UserError, match=r"^hub://lab/other: HF_HUB_OFFLINE is set, and HF_HOME=.* does not hold it whole"
    ):
        fetched("hub://lab/other")
    assert not hub.requests


def test_half_a_download_is_no_model(hub: Hub, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks within the weights; what came is kept, and the rest is read by the next try."""
    monkeypatch.setattr("huggingface_hub.file_download.http_get", failing_once())
    with pytest.raises(UserError, match="^hub://lab/model: "):
        fetched()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="does not hold it whole"):
        fetched()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert fetched().files.keys() == {"config.json", "model.safetensors"}


KILLED_IN_THE_WEIGHTS = """
import os, signal, sys
import huggingface_hub.file_download as download
from mmtx.hub.snapshot import snapshot

real = download.http_get

def http_get(url, temp_file, **keys):
    if url.endswith(".safetensors"):
        temp_file.write(b"half")
        temp_file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(url, temp_file, **keys)

download.http_get = http_get
snapshot("hub://lab/model", lambda folder: None)
"""


def test_a_process_that_is_killed_in_a_download_leaves_nothing_half(hub: Hub, model: str) -> None:
    """By SIGKILL; the next one downloads what is missing."""
    done = subprocess.run([sys.executable, "-c", KILLED_IN_THE_WEIGHTS], capture_output=True, text=True, timeout=180)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(Path(os.environ["HF_HOME"]).rglob("*.incomplete"))
    found = fetched()
    assert {name: (found.folder / name).read_bytes() for name in found.files} == {n: FILES[n] for n in found.files}


def failing_once():
    import huggingface_hub.file_download

    real, broken = huggingface_hub.file_download.http_get, []

    def http_get(url: str, *args, **keys):
        if url.endswith(".safetensors") and not broken:
            broken.append(url)
            raise OSError("the connection was reset")
        return real(url, *args, **keys)

    return http_get


def test_a_broken_connection_is_gone_on_with(hub: Hub, model: str) -> None:
    """At once or by the next try, as the version of the library has it."""
    hub.cut["model.safetensors"] = 10_000
    with suppress(UserError):
        fetched()
    assert (fetched().folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_is_damaged_on_the_way_is_named(hub: Hub, model: str, name: str) -> None:
    content = FILES[name]
    hub.served[name] = content[:-1] + b"!"
    with pytest.raises(
        UserError, match=rf"^hub://lab/model@{model}: {name} is not what was uploaded; delete (\S+), and"
    ):
        fetched()


def test_what_changes_later_is_named(hub: Hub, model: str) -> None:
    file = fetched().folder / "model.safetensors"
    blob = file.resolve()
    blob.write_bytes(b"another" + FILES["model.safetensors"][7:])
    with pytest.raises(UserError, match=f"model.safetensors is not what was uploaded; delete {blob}"):
        fetched()
    blob.unlink()
    assert (fetched().folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_cannot_be_read_is_not_downloaded(hub: Hub, model: str) -> None:
    def check(folder: Path) -> None:
        raise UserError((folder / "config.json").read_text())

    with pytest.raises(UserError, match="^{}$"):
        snapshot("hub://lab/model", check)
    assert not any("model.safetensors" in request for request in hub.requests)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("hub://lab/nothing", "there is no such repository at .*, or it is private, and there is no token that may"),
        ("hub://lab/secret", "there is no such repository at .*, or it is private, and there is no token that may"),
        ("hub://lab/terms", "is gated: accept its terms at .*/lab/terms, and read it with a token; there is no token"),
        ("hub://lab/model@v2", "the repository has no revision 'v2'; name one of .*/lab/model/tree/main"),
        ("hub://lab/empty", "holds no weights that mmtx reads; it has .gitattributes"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub: Hub, model: str, place: str, problem: str) -> None:
    hub.repository("lab/secret", private=True).commit("main", FILES)
    hub.repository("lab/terms", gated=True).commit("main", FILES)
    hub.repository("lab/empty")
    with pytest.raises(UserError, match=f"^{place}.* {problem}[^\n]*$"):
        fetched(place)


def test_a_token_opens_what_is_private(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repository("lab/secret", private=True).commit("main", FILES)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetched("hub://lab/secret").files
    forget_commits()
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(UserError, match="the token at hand may not read it"):
        fetched("hub://lab/secret")


def test_without_a_network_it_is_one_line(hub: Hub, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^hub://lab/model: http://127.0.0.1:9 cannot be reached \([^\n]*\); check the"
    ):
        fetched()


def test_without_the_library_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtx.hub.user_errors.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^hub://lab/model needs huggingface_hub: pip install 'mmtx\[hub\]'"):
        fetched()


@pytest.mark.parametrize(
    "place", ["hub://model", "hub://a/b/c", "hub://a b/c", "hub://../b", "hub://a/b@", "hub://a/b@../x"]
)
def test_what_is_no_address_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="is not owner/name|is no name of a branch"):
        Address.parse(place)
