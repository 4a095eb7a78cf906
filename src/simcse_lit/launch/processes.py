"""Starts child processes, passes signals on, collects their outcome, and makes sure that none outlives its parent.

Independent of Hydra and torch. `launcher.py` starts a process for each job, `ranks.py` one that holds the ranks of a job.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from simcse_lit.launch import handover
from simcse_lit.launch.handover import Outcome

PERIOD_S = 0.05
PARENT = "SIMCSE_PARENT"  # variable: id of the process that starts another
# Variables of a rank. A child does not belong to its parent's group, so it inherits none of them.
RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "ROLE_NAME",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_NTASKS",  # Lightning takes it as a sign that SLURM started the ranks
    "SLURM_NPROCS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_STEP_NUM_TASKS",
)
# The user's value. `cli.composed.run` sets the variable for Hydra, and children must not inherit that.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0")


class Stopped(SystemExit):
    """A signal reached this process and stopped all its children. The exit status is 128 + signal, as in a shell."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the variables of a rank, plus `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in RANK_VARIABLES and not name.startswith("TORCHELASTIC_")
    }
    return {**inherited, "HYDRA_FULL_ERROR": FULL_ERROR, **variables}


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even by SIGKILL. Does nothing on other systems."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(os.environ.pop(PARENT)):  # the parent is already dead
        sys.exit(1)


class Child:
    """A process in a separate session, so that Ctrl-C reaches it only through its parent."""

    def __init__(self, command: Sequence[str], *, cwd: str, variables: Mapping[str, str], console: Path | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="simcse-"))
        self._started = time.monotonic()
        output: Any = console.open("wb") if console else None
        own = {handover.VARIABLE: str(self._folder), PARENT: str(os.getpid())}
        if console:
            own["PYTHONIOENCODING"] = "utf-8"  # the encoding of every file of a run
        try:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=child_environment({**variables, **own}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if console else None,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def outcome(self) -> Outcome:
        """Return what it handed over and set `seconds`. Call it once, after its end."""
        self.seconds = time.monotonic() - self._started
        found, code = handover.collect(self._folder), self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        if code == 0 or found.error:
            return found
        return Outcome(error=describe_exit(code))

    def send(self, signum: int) -> None:
        """Send it a signal."""
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Kill it and everything in its session."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def describe_exit(code: int) -> str:
    """Describe the end of a process that left no message."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}."
    if code > 128:  # it handled the signal and then ended
        return f"stopped by {signal.Signals(code - 128).name}."
    return f"ended with status {code} and without a message."


class Supervisor:
    """Within `with`, stops every child and then this process on SIGINT, SIGTERM or SIGHUP; leaving it kills the rest.

    Args:
        grace: seconds that children have to end after the signal is passed on, before they are killed. A second signal
            kills them immediately.
        announce: whether to report on standard error that they are being stopped.
    """

    def __init__(self, *, grace: float, announce: bool) -> None:
        self._grace = grace
        self._announce = announce
        self._children: list[Child] = []
        self._signals: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Supervisor":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) != signal.SIG_IGN:  # ignored under nohup or in a background job
                    self._handlers[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children:
            child.kill()
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        if self._signals and kind is None:  # the signal came after the last child had ended
            raise Stopped(self._signals[0])

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)

    def start(self, command: Sequence[str], *, cwd: str, variables: Mapping[str, str], console: Path | None = None) -> Child:
        """Start a command. Its output goes to the file `console`, or to this process's output."""
        child = Child(command, cwd=cwd, variables=variables, console=console)
        self._children.append(child)
        return child

    def ended(self) -> list[Child]:
        """Wait until children end, and return those that did.

        Raises:
            Stopped: a signal came; all children have ended.
        """
        while True:
            if self._signals:
                self._stop()
            done = [child for child in self._children if not child.running]
            if done:
                self._children = [child for child in self._children if child not in done]
                return done
            time.sleep(PERIOD_S)

    def _stop(self) -> None:
        if self._announce:
            print("\nStopping. Press Ctrl-C again to kill.", file=sys.stderr, flush=True)
        for child in self._children:
            child.send(self._signals[0])
        last = time.monotonic() + self._grace
        while any(child.running for child in self._children) and time.monotonic() < last and len(self._signals) == 1:
            time.sleep(PERIOD_S)
        raise Stopped(self._signals[0])  # __exit__ kills the rest
