"""A stand-in for the public Hugging Face hub, over HTTP on this machine: the few routes that huggingface_hub asks for
the facts, the tree and the files of one data set. Files can be cut off once, or swapped behind the hub's back."""

import json
import re
import threading
from base64 import b64decode
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`files`: path -> bytes at COMMIT; tars are LFS files, whose SHA-256 the tree states. `asked`: all requests;
    `cut`: paths whose first download ends in the middle; `swapped`: what is sent in place of a file."""

    def __init__(self, repository, files):
        self.repository, self.files = repository, files
        self.asked, self.cut, self.swapped = [], set(), {}
        self.large, self.token = {}, None

    def entry(self, path):
        content = self.files[path]
        found = {"type": "file", "path": path, "size": len(content), "oid": sha1(content).hexdigest()}
        if path.endswith(".tar"):
            digest = sha256(content).hexdigest()
            found["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_GET(self):
        hub, path = self.server.hub, self.path.split("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(rf"/api/datasets/{hub.repository}(/revision/(\w+))?", path):
            if found[2] not in (None, COMMIT):
                return self.answer(b"{}", 404, X_Error_Code="RevisionNotFound")
            siblings = [{"rfilename": name} for name in hub.files]
            return self.answer(json.dumps({"id": hub.repository, "sha": COMMIT, "siblings": siblings}).encode())
        if path == f"/api/datasets/{hub.repository}/tree/{COMMIT}":
            return self.answer(json.dumps([hub.entry(name) for name in hub.files]).encode())
        if found := re.fullmatch(rf"/datasets/{hub.repository}/resolve/{COMMIT}/(.+)", path):
            return self.file(hub, found[1])
        return self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def file(self, hub, name):
        content, facts = hub.swapped.get(name, hub.files[name]), hub.entry(name)
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{facts.get("lfs", facts)["oid"]}"', "Accept_Ranges": "bytes"}
        if self.command == "GET" and (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")):
            start, end = int(asked[1]), int(asked[2] or len(content) - 1)
            rest = content[start : end + 1]
            return self.answer(rest, 206, Content_Range=f"bytes {start}-{end}/{len(content)}", **headers)
        if self.command == "GET" and name in hub.cut:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self.answer(content, **headers)


class UploadHandler(Handler):
    """The routes of an upload: a repository is made, files are announced, large ones sent by themselves, and all of
    them come with one commit. What was sent lies in `hub.files`; a `hub.token` is asked for."""

    def do_POST(self):
        hub, path = self.server.hub, self.path.split("?")[0]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        hub.asked.append((self.command, path, content))
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(b'{"error": "Invalid username or password."}', 401)
        asked = json.loads(content.splitlines()[0])
        if path == "/api/repos/create":
            return self.reply({"url": f"{hub.url}/{hub.repository}", "id": hub.repository})
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if path == f"/api/models/{hub.repository}/preupload/main":
            return self.reply({"files": [self.announced(one["path"]) for one in asked["files"]]})
        if path == f"/{hub.repository}.git/info/lfs/objects/batch":
            actions = lambda one: {"upload": {"href": f"{hub.url}/put/{one['oid']}", "header": {}}}  # noqa: E731
            objects = [one | {"actions": actions(one)} for one in asked["objects"]]
            return self.reply({"transfer": "basic", "objects": objects})
        assert path == f"/api/models/{hub.repository}/commit/main", path
        for line in map(json.loads, content.splitlines()[1:]):
            value, sent = line["value"], line["key"] == "file"
            hub.files[value["path"]] = b64decode(value["content"]) if sent else hub.large[value["oid"]]
        url = f"{hub.url}/{hub.repository}/commit/{COMMIT}"
        return self.reply({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def announced(self, path):
        mode = "lfs" if path.endswith((".safetensors", ".pt2")) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == f"/put/{sha256(content).hexdigest()}"
        self.server.hub.large[sha256(content).hexdigest()] = content
        self.answer(b"")

    def reply(self, value):
        self.answer(json.dumps(value).encode(), Content_Type="application/json")

    def answer(self, content, status=200, **headers):
        super().answer(content, status, **headers)
        if self.command != "GET" and self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving(repository, files, handler=Handler):
    """A hub with one repository; its address is `url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.hub = Hub(repository, files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
