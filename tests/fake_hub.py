"""A hub on this machine, which speaks what `huggingface_hub` asks for: repositories of commits, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "x" * 34
LARGE = (".safetensors", ".bin")


@dataclass
class Repository:
    """Branches by name, and the files of each commit, by path."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        listed = json.dumps(
            [len(self.commits), *sorted((name, hashlib.sha1(f).hexdigest()) for name, f in files.items())]
        )
        oid = hashlib.sha1(listed.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid


@dataclass
class Hub:
    """What there is, what was asked for, and what goes wrong.

    Attributes:
        requests: method and path of each.
        cut: bytes after which the connection breaks, once, by file.
        served: what is sent in the place of a file.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)

    def repository(self, name: str, **keys: bool) -> Repository:
        made = self.repositories[name] = Repository(**keys)
        made.commit("main", {".gitattributes": b""})
        return made


class Refused(Exception):
    """A status, and the code by which `huggingface_hub` knows why."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answered(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answered(self._post)

    def do_PUT(self) -> None:
        self._answered(self._put)

    def _answered(self, answer) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        try:
            answer()
        except Refused as refused:
            status, code = refused.args
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str], least: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:least])
        self.close_connection = least is not None

    def _json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _repository(self, name: str, *, writes: bool = False) -> Repository:
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not has_token):
            raise Refused(401 if not has_token else 404, "RepoNotFound")
        if writes and not has_token:
            raise Refused(401, "Unauthorized")
        return found

    def _commit(self, repository: Repository, revision: str) -> str:
        oid = repository.branches.get(revision, revision)
        if oid not in repository.commits:
            raise Refused(404, "RevisionNotFound")
        return oid

    def _get(self) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.path):
            repository = self._repository(found[1])
            oid = self._commit(repository, found[2] or "main")
            siblings = [described(name, content) for name, content in repository.commits[oid].items()]
            self._json({"id": found[1], "sha": oid, "private": repository.private, "siblings": siblings})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self._file(*found.groups())
        else:
            raise Refused(404, "EntryNotFound")

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository.gated and self.headers.get("Authorization") is None:
            raise Refused(401, "GatedRepo")
        oid = self._commit(repository, revision)
        if path not in repository.commits[oid]:
            raise Refused(404, "EntryNotFound")
        known = described(path, repository.commits[oid][path])
        content = self.hub.served.get(path, repository.commits[oid][path])
        headers = {"X-Repo-Commit": oid, "ETag": f'"{known["lfs"]["sha256"] if "lfs" in known else known["blobId"]}"'}
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        least = self.hub.cut.pop(path, None) if self.command == "GET" else None
        self._send(206 if begin else 200, content[begin:], headers, least)

    def _post(self) -> None:
        if self.path == "/api/repos/create":
            asked = json.loads(self.body)
            name = f"{asked['organization']}/{asked['name']}"
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized")
            status = 409 if name in self.hub.repositories else 200
            if status == 200:
                self.hub.repository(name, private=asked.get("private") or asked.get("visibility") == "private")
            self._json({"url": f"{self.hub.url}/{name}"}, status)
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", self.path):
            repository = self._repository(found[1], writes=True)
            status = 409 if found[2] in repository.branches else 200
            repository.branches.setdefault(found[2], repository.branches["main"])
            self._json({}, status)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.path):
            self._repository(found[1], writes=True)
            paths = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            self._json({"files": [{"path": p, "uploadMode": modes[p], "shouldIgnore": False} for p in paths]})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path):
            objects = json.loads(self.body)["objects"]
            href = f"{self.hub.url}/large/"
            actions = [{**each, "actions": {"upload": {"href": href + each["oid"]}}} for each in objects]
            self._json({"transfer": "basic", "objects": actions})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.path):
            self._json(self._committed(found[1], found[2]))
        else:
            raise Refused(404, "EntryNotFound")

    def _put(self) -> None:
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.uploaded[oid] = self.body
        self._send(200, b"", {})

    def _committed(self, name: str, branch: str) -> dict[str, str]:
        repository = self._repository(name, writes=True)
        files = dict(repository.commits[self._commit(repository, branch)])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, repository.branches[branch]):
                raise Refused(412, "PreconditionFailed")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(branch, files)
        return {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid}


def described(name: str, content: bytes) -> dict:
    """A file as a listing has it: git's hash of a small one, SHA-256 of a large one."""
    small = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    known = {"rfilename": name, "size": len(content), "blobId": small}
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        known["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return known


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
