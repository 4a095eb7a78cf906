"""A loopback stand-in for the Hugging Face Hub, for tests that run the real clients.

`HubServer` serves a folder of repositories over the part of the Hub's HTTP protocol with which
huggingface_hub, transformers and datasets look up, list, download and push models. Tests enter it and run the
code under test in a subprocess whose environment is `HubServer.environment(cache)`.

The folder holds models/OWNER/NAME/<files>, models/NAME/<files> (a legacy id: a folder with files
directly in it) and datasets/OWNER/NAME/<files>. A repository has one commit, on branch main; ETags
are git blob ids, as in the tree listings.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

COMMIT = "c0ffee0000000000000000000000000000c0ffee"

_DATE = "2024-01-01T00:00:00.000Z"
_REPO = r"([^/]+(?:/[^/]+)?)"
_RESOLVE_URL = re.compile(rf"/(?:(datasets)/)?{_REPO}/resolve/([^/]+)/(.+)")
_PUSH_URL = re.compile(rf"/api/models/{_REPO}/(preupload|commit)/main")
_API_URL = re.compile(rf"/api/(models|datasets)/{_REPO}(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?")


class _Reply(NamedTuple):
    body: bytes
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


class _HubError(Exception):
    """A refusal, with the X-Error-Code that clients turn into their exceptions."""

    def __init__(self, status: int, code: str, message: str) -> None:
        headers = [("X-Error-Code", code), ("X-Error-Message", message)]
        if code == "EntryNotFound":  # clients remember the absence, under this commit
            headers.append(("X-Repo-Commit", COMMIT))
        self.reply = _Reply(message.encode(), status, headers)


def _json(value: object, headers: Sequence[tuple[str, str]] = ()) -> _Reply:
    body = json.dumps(value).encode()
    return _Reply(body, headers=[*headers, ("Content-Type", "application/json")])


def _file(data: bytes, byte_range: str) -> _Reply:
    """The whole file, or the part that a Range header asks for."""
    headers = [("ETag", f'"{_blob_id(data)}"'), ("X-Repo-Commit", COMMIT)]
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", byte_range)
    if match is None:
        return _Reply(data, headers=headers)
    start = int(match[1])
    part = data[start : int(match[2] or len(data)) + 1]
    extent = f"{start}-{start + len(part) - 1}" if part else "*"
    headers.append(("Content-Range", f"bytes {extent}/{len(data)}"))
    return _Reply(part, 206 if part else 416, headers)


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


def card_errors(content: str) -> list[str]:
    """What the Hub has against the metadata of a model card: each result needs a task, a named data set and metrics."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    try:
        metadata = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata must be a mapping"]
    errors = []
    index = metadata.get("model-index", [])
    for place, model in enumerate(index):
        at = f"model-index[{place}]"
        if not isinstance(model.get("name"), str) or not model.get("results"):
            errors.append(f'"{at}" needs a name and results')
        for number, result in enumerate(model.get("results", [])):
            here = f"{at}.results[{number}]"
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                if not isinstance(result.get(part), dict):
                    errors.append(f'"{here}.{part}" is required')
                    continue
                wrong = [key for key in keys if not isinstance(result[part].get(key), str) or not result[part][key]]
                errors += [f'"{here}.{part}.{key}" is required' for key in wrong]
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not metrics:
                errors.append(f'"{here}.metrics" is required')
                continue
            for metric in metrics:
                if not isinstance(metric.get("type"), str):
                    errors.append(f'"{here}.metrics.type" is required')
                value = metric.get("value")
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                    errors.append(f'"{here}.metrics.value" must be a number')
    base = metadata.get("base_model")
    if base is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(base)):
        errors.append('"base_model" must be the id of a model')
    return errors


class _Repo:
    """One repository's folder at its one commit, read without leaving the served root."""

    def __init__(self, root: Path, kind: str, name: str, revision: str) -> None:
        self._root = root
        self._folder = root / kind / name
        owner = root / kind / name.partition("/")[0]
        folder = None if ".." in name.split("/") else self.find("")
        known = folder is not None and folder.is_dir()
        if not known or any(path.is_file() for path in owner.iterdir()) == ("/" in name):
            # An anonymous caller isn't told a private repository from a missing one.
            raise _HubError(401, "RepoNotFound", "Invalid username or password.")
        if revision not in ("main", "refs/convert/parquet", COMMIT):
            raise _HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def find(self, name: str) -> Path | None:
        """Where `name` leads once links are followed; None if it is missing or out of bounds."""
        try:
            path = self._folder.joinpath(name).resolve(strict=True)
        except (OSError, ValueError):
            return None
        inside = ".." not in PurePosixPath(name).parts and path.is_relative_to(self._root)
        return path if inside else None

    def names(self, path: str, recursive: bool) -> list[str]:
        """The files and folders under the folder `path`."""
        top = self.find(path)
        if top is None or not top.is_dir():
            raise _HubError(404, "EntryNotFound", f"{path} does not exist on main")
        found = self._folder.joinpath(path).glob("**/*" if recursive else "*")
        names = sorted(entry.relative_to(self._folder).as_posix() for entry in found)
        return [name for name in names if self.find(name)]

    def entry(self, name: str, expand: bool = False) -> dict[str, object]:
        path = self._folder / name
        kind, data = ("file", path.read_bytes()) if path.is_file() else ("directory", b"")
        entry = {"type": kind, "path": name, "size": len(data), "oid": _blob_id(data)}
        commit = {"id": COMMIT, "title": "Upload", "date": _DATE}
        return entry | {"lastCommit": commit} if expand else entry


class _Handler(BaseHTTPRequestHandler):
    # The base class speaks HTTP/1.0: a reply ends its connection, so none outlives the server.

    def __init__(self, hub: "HubServer", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            pushes = self.command == "POST" and re.search(r"^/api/repos/create$|/(preupload|commit)/main$", self.path)
            if pushes and "Authorization" not in self.headers:
                raise _HubError(401, "Unauthorized", "Invalid username or password.")
            reply = self.hub.reply(self.command, self.path, body, self.headers.get("Range", ""))
        except _HubError as error:
            reply = error.reply
        self.send_response(reply.status)
        for name, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_HEAD = do_POST = do_GET


class HubServer:
    """Context manager: serves `root` at `url`, noting each 'METHOD path' in `requests`."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"
        self.requests: list[str] = []

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, cache: Path) -> dict[str, str]:
        """The whole environment of a subprocess that talks to this server and to nothing else."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",  # a Space does it, wherever HF_ENDPOINT points
            "no_proxy": "*",
        }

    def reply(self, method: str, target: str, body: bytes, byte_range: str) -> _Reply:
        url = urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        if method != "POST" and (match := _RESOLVE_URL.fullmatch(url.path)):
            kind, name, revision, path = (unquote(part or "models") for part in match.groups())
            file = _Repo(self._root, kind, name, revision).find(path)
            if file is None or not file.is_file():
                raise _HubError(404, "EntryNotFound", "Entry not found")
            return _file(file.read_bytes(), byte_range)
        if method == "POST" and (pushed := self._push(url.path, body)):
            return pushed
        api = _API_URL.fullmatch(url.path)
        if api is None or (api[3] == "paths-info") != (method == "POST"):
            raise _HubError(404, "NotFound", f"{method} {url.path} is not served here")
        kind, name, action, revision, path = (unquote(part or "") for part in api.groups())
        repo = _Repo(self._root, kind, name, revision or "main")
        query = parse_qs(body.decode() if method == "POST" else url.query)
        expand = query.get("expand") == ["true"]
        if action == "tree":
            names = repo.names(path, recursive=query.get("recursive") == ["true"])
            start = int(query.get("cursor", ["0"])[0])
            stop = start + (50 if expand else 1000)
            following = urlencode(query | {"cursor": [str(stop)]}, doseq=True)
            link = ("Link", f'<{self.url}{url.path}?{following}>; rel="next"')
            page = [repo.entry(name, expand) for name in names[start:stop]]
            return _json(page, [link] if stop < len(names) else [])
        if action == "paths-info":
            paths = query.get("paths", [])
            return _json([repo.entry(path, expand) for path in paths if repo.find(path)])
        files = [e for e in map(repo.entry, repo.names("", recursive=True)) if e["type"] == "file"]
        siblings = [{"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]} for e in files]
        return _json({"id": name, "sha": COMMIT, "lastModified": _DATE, "siblings": siblings})

    def _push(self, path: str, body: bytes) -> _Reply | None:
        """Making a repository of models, and a commit to it whose files all travel in it; None for another request."""
        if path == "/api/validate-yaml":
            errors = [{"message": error} for error in card_errors(json.loads(body)["content"])]
            return _json({"errors": errors, "warnings": []})._replace(status=400 if errors else 200)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            (self._root / "models" / name).mkdir(parents=True, exist_ok=True)
            return _json({"url": f"{self.url}/{name}", "name": name, "private": asked.get("private")})
        match = _PUSH_URL.fullmatch(path)
        if match is None:
            return None
        if match[2] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            return _json({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                file = self._root / "models" / match[1] / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))
        return _json({"commitUrl": f"{self.url}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})
