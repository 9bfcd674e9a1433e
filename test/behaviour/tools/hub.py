"""A model hub on the loopback interface: as much of it as huggingface_hub's snapshot_download asks for."""

import contextlib
import hashlib
import http.server
import json
import os
import threading
import urllib.parse

REPOSITORY = "org/a-model"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        files = self.server.files
        if path.startswith(f"/api/models/{REPOSITORY}"):
            revision = path.rsplit("/", 1)[-1]
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            info = {"id": REPOSITORY, "sha": _commit(revision), "siblings": siblings, "private": False, "tags": []}
            tree = [{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in files.items()]
            return self._reply(json.dumps(tree if "/tree/" in path else info).encode(), {"Content-Type": "application/json"})
        prefix = f"/{REPOSITORY}/resolve/"
        if path.startswith(prefix):
            revision, name = path[len(prefix) :].split("/", 1)
            if name in files:
                headers = {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": _commit(revision), "Accept-Ranges": "bytes"}
                return self._reply(files[name], headers)
        self.send_error(404)

    def _reply(self, body, headers):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _commit(revision):
    return revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest()


def _etag(data):
    return hashlib.sha1(data).hexdigest()


@contextlib.contextmanager
def serving(files):
    """Serves `files` and yields download(local_dir, **options)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files = files
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(
        HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HOME=os.environ["SCRATCH"] + "/hf",
        NO_PROXY="127.0.0.1",
    )
    from huggingface_hub import snapshot_download

    try:
        yield lambda directory, **options: snapshot_download(REPOSITORY, local_dir=directory, **options)
    finally:
        server.shutdown()
        server.server_close()
