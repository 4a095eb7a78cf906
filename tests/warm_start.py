"""Commands from a process that has imported the libraries already, and forks itself for each: a start costs no imports.

A command is a process of its own all the same, with its own arguments, folder, environment, output and exit status. What is
decided while libraries are imported, and everything about a start itself, is for `conftest.cli`, which starts a new Python.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    "simcse_lit.cli.composed",
    "simcse_lit.train",
    "simcse_lit.evaluate",
    "simcse_lit.encode",
    "simcse_lit.search",
    "simcse_lit.report",
    "simcse_lit.evaluation.transfer",
    "transformers.models.bert.modeling_bert",
)


class WarmStart:
    """The process that forks, seen from the tests."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_start"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """`python -m ARGUMENTS`, as `subprocess.run` would with its output captured."""
        assert self._server.stdin and self._server.stdout
        with TemporaryDirectory() as folder:
            streams = [Path(folder, name) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "timeout": timeout}
            print(json.dumps({**request, "streams": list(map(str, streams))}), file=self._server.stdin, flush=True)
            code = int(self._server.stdout.readline())
            out, error = (path.read_text(encoding="utf-8") for path in streams)
        return subprocess.CompletedProcess(arguments, code, out, error)

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(timeout=60)


def serve() -> dict[str, Any] | None:
    """Fork for each request on standard input and answer with its exit status; returns the request in the fork."""
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a process with threads must not fork"
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if not pid:
            return request
        print(waited_for(pid, request["timeout"]), flush=True)
    return None


def waited_for(pid: int, timeout: float) -> int:
    """Exit status of a fork as `subprocess` has it; -9 when it was killed because it took too long."""
    last = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > last:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def become(request: dict[str, Any]) -> None:
    """Be `python -m ARGUMENTS` from here on."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in enumerate(request["streams"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [request["cwd"], *(path for path in asked if path and path not in here)]
    module, *arguments = request["arguments"]
    sys.argv[1:] = arguments
    sys.modules.pop(module, None)  # what it imports stays; runpy warns of a module that is there already
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__" and (request := serve()):
    become(request)
