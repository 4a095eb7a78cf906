"""Commands from a process that has imported the libraries already, and forks itself for each: a start costs no imports.

A command is a process of its own all the same, with its own arguments, folder, environment, output and exit status. What is
decided while libraries are imported, and everything about a start itself, is for `conftest.cli`, which starts a new Python.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.quick_hydra import quicken_hydra, read_all_verbs

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
    """The process that forks, seen from who starts it.

    Args:
        environment: of this process, in which the libraries are imported; each command has one of its own.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = TemporaryDirectory()
        self.address = str(Path(self._folder.name, "socket"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()  # requests wait here until the libraries are imported
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm_start", str(listener.fileno())],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.kill()  # it may still be importing
        self._server.wait()
        self._folder.cleanup()


def run_warm(
    address: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """`python -m ARGUMENTS` from the process at an address, as `subprocess.run` would with its output captured."""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as connection:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "timeout": timeout}
        connection.connect(address)
        connection.sendall(json.dumps({**request, "streams": list(map(str, streams))}).encode() + b"\n")
        code = int(connection.makefile().readline())
        out, error = (path.read_text(encoding="utf-8") for path in streams)
    return subprocess.CompletedProcess(arguments, code, out, error)


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and answer it with the exit status; returns the request in the fork.

    Ends with the process that started this one, which holds the other end of standard input.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    quicken_hydra()
    read_all_verbs()
    gc.freeze()  # a fork would copy every page at its end, to collect what it never used
    assert threading.active_count() == 1, "a process with threads must not fork"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection = listener.accept()[0]
        if not os.fork():
            listener.close()
            return answered(connection)
        connection.close()
    return None


def answered(connection: socket.socket) -> dict[str, Any]:
    """Fork for one request, wait for its end, and answer; returns the request in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request: dict[str, Any] = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid:
        connection.sendall(f"{waited_for(pid, request['timeout'])}\n".encode())
        os._exit(0)
    connection.close()
    return request


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
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if not isinstance(stop.code, int | None):
            raise  # a message, which Python prints
        leave(stop.code or 0)


def leave(code: int) -> None:
    """End this process as Python does, but for taking a hundred libraries to pieces, which is longer than many a command."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__" and (request := serve(socket.socket(fileno=int(sys.argv[1])))):
    become(request)
