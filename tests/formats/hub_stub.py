"""A hub in this process: the few addresses of the real one that pull and push ask for."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by name, each a list of commits; a commit is its files by path.

    large: files at least this long are told to be LFS files, as on the real hub.
    asked: (method, path) of every request. refuse: status with which all are answered, if any.
    """

    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    large: int = 1000
    refuse: int = 0
    address: str = ""

    def add(self, repo_id: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files beside the former ones; return its id."""
        history = self.commits.setdefault(repo_id, [])
        history.append({**(history[-1] if history else {}), **files})
        return self.commit_id(repo_id, len(history) - 1)

    def commit_id(self, repo_id: str, number: int) -> str:
        """The id of a commit."""
        return hashlib.sha1(f"{repo_id} {number}".encode()).hexdigest()

    def files(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The id and the files of a commit, by its id or as `main`."""
        history = self.commits.get(repo_id, [])
        for number, files in reversed(list(enumerate(history))):
            name = self.commit_id(repo_id, number)
            if revision in ("main", name):
                return name, files
        return None


@contextmanager
def hub_stub() -> Iterator[Hub]:
    """Run a hub for the length of the block."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = self.chunks()
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path))
            if hub.refuse:
                self.say(hub.refuse, {"error": "no"})
                return
            parts = path.strip("/").split("/")
            if "resolve" in parts:
                self.give_file(parts)
            elif parts[:2] == ["api", "models"]:
                self.api("/".join(parts[2:4]), parts[4:], body)
            elif path == "/api/repos/create":
                made = json.loads(body)
                hub.commits.setdefault(f"{made.get('organization') or 'me'}/{made['name']}", [{}])
                self.say(200, {"url": f"{hub.address}/me/x"})
            else:
                self.say(200, {"errors": [], "warnings": []})

        def chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def api(self, repo_id: str, rest: list[str], body: bytes) -> None:
            found = hub.files(repo_id, rest[1] if len(rest) > 1 else "main")
            if found is None:
                self.say(404, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
            elif rest[:1] == ["tree"]:
                self.say(200, [self.entry(*item) for item in found[1].items()])
            elif rest[:1] == ["preupload"]:
                files = [
                    {**f, "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.say(200, {"files": files})
            elif rest[:1] == ["commit"]:
                lines = [json.loads(line) for line in body.decode().splitlines()]
                new = [line["value"] for line in lines if line["key"] == "file"]
                name = hub.add(repo_id, {f["path"]: base64.b64decode(f["content"]) for f in new})
                url = f"{hub.address}/{repo_id}/commit/{name}"
                self.say(200, {"commitOid": name, "commitUrl": url, "success": True})
            else:
                names = [{"rfilename": name} for name in found[1]]
                self.say(200, {"id": repo_id, "sha": found[0], "siblings": names})

        def entry(self, path: str, content: bytes) -> dict[str, Any]:
            size, oid = len(content), hashlib.sha1(content).hexdigest()
            told = {"type": "file", "path": path, "size": size, "oid": oid}
            if size < hub.large:
                return told
            checksum = hashlib.sha256(content).hexdigest()
            return told | {"lfs": {"oid": checksum, "size": size, "pointerSize": 100}}

        def give_file(self, parts: list[str]) -> None:
            at = parts.index("resolve")
            found = hub.files("/".join(parts[:at]), parts[at + 1])
            name = "/".join(parts[at + 2 :])
            if found is None or name not in found[1]:
                self.say(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound"})
                return
            content = found[1][name]
            kind = hashlib.sha1 if len(content) < hub.large else hashlib.sha256
            headers = {"ETag": f'"{kind(content).hexdigest()}"', "X-Repo-Commit": found[0]}
            self.say(200, content, headers)

        def say(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
