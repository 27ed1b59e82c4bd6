"""As much of a W&B server as W&B's own client needs to upload a run to this machine."""

import gzip
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0" * 40


class Server(ThreadingHTTPServer):
    """Remembers the rows and the description of each run by its id."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.rows, self.runs, self.ended, self.artifacts = {}, {}, {}, []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """A client that goes in the middle of a request is none of ours."""

    @property
    def environment(self):
        return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": self.url, "WANDB_MODE": None}

    def metric_rows(self, run_id):
        """Rows without W&B's own columns and without pictures and tables."""
        return [row for row in self._rows(run_id) if not any(name.startswith("samples/") for name in row)]

    def samples(self, run_id):
        """Pictures, films and tables by name."""
        return {name: value for row in self._rows(run_id) for name, value in row.items() if name.startswith("samples/")}

    def _rows(self, run_id):
        rows = [json.loads(row) for _, row in sorted(self.rows.get(run_id, {}).items())]
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer({})

    def do_PUT(self):
        self._body()
        self._answer({})

    def do_POST(self):
        body = self._body()
        if self.path == "/graphql":
            query = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s*(\w+)", query["query"])
            self._answer({"data": self._graphql(operation and operation[1], query.get("variables") or {})})
            return
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if stream:
            self._take_rows(stream[1], json.loads(body))
        self._answer({})

    def log_message(self, *args):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _take_rows(self, run_id, sent):
        history = sent.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        with self.server.lock:
            rows = self.server.rows.setdefault(run_id, {})
            rows |= {history["offset"] + i: line for i, line in enumerate(history["content"])}
            if sent.get("complete"):
                self.server.ended[run_id] = sent.get("exitcode")

    def _graphql(self, operation, variables):
        project = {"id": "P", "name": variables.get("project") or "p", "entity": {"id": "E", "name": "me"}}
        if operation == "UpsertBucket":
            with self.server.lock:
                known = self.server.runs.setdefault(variables["name"], {})
                known |= {name: value for name, value in variables.items() if value is not None}
            bucket = {"id": variables["name"], "name": variables["name"], "displayName": known.get("displayName")}
            bucket |= {"description": None, "config": "{}", "sweepName": None, "project": project}
            return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}
        if operation == "RunResumeStatus":
            return {"model": project | {"bucket": self._resumed(variables["name"])}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":  # of a table, or a checkpoint; as if it were here already
            latest = {"id": "A", "versionIndex": 0}
            artifact = {"id": "A", "state": "COMMITTED", "artifactSequence": {"id": "S", "latestArtifact": latest}}
            with self.server.lock:
                self.server.artifacts.append(variables)
            return {"createArtifact": {"artifact": artifact}}
        viewer = {"id": "V", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        versions = {"max_cli_version": "99.0.0", "min_cli_version": "0.0.1"}
        return {"viewer": viewer, "serverInfo": {"features": [], "cliVersionInfo": versions}}

    def _resumed(self, run_id):
        rows = self.server.rows.get(run_id)
        if not rows:
            return None
        tail = [line for _, line in sorted(rows.items())][-1:]
        return {
            "name": run_id,
            "id": run_id,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "summaryMetrics": "{}",
            "config": "{}",
            "tags": [],
            "wandbConfig": '{"t": {}}',
        }


@contextmanager
def wandb_server():
    """A server for as long as the block lasts."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
