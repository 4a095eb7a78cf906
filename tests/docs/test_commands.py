"""Every command that a document shows runs in a folder with the files that the documents name, or is listed with a reason.

Models and data sets of the Hub are small stand-ins under the same names, and SentEval's files are cut, so nothing here says
anything about scores or speed. Of a sweep only the first job runs.
"""

import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import LIMIT_S, Cli
from tests.docs.conftest import Workspace
from tests.docs.documents import OURS, Command, commands

LISTS = yaml.safe_load(Path(__file__).with_name("commands.yaml").read_text(encoding="utf-8"))
MADE = ("hydra.run.dir=", "hydra.sweep.dir=", "output=", "folder=", "out=")  # folders and files that a command makes


def matches(patterns: Sequence[str], line: str) -> bool:
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), line) for pattern in patterns)


def listed(line: str) -> bool:
    return any(matches(entry["commands"], line) for entry in LISTS["not_run"])


PLACES = {  # what a verb's own help calls them
    "docs/reference/commands.md": {
        "RUN": "outputs/first",
        "MODEL": "outputs/first/export",
        "RAW": "google-bert/bert-base-uncased",
        "A": "outputs/first/export",
        "B": "multirun/temperature/0/export",
        "INDEX": "index",
        "FOLDER": "converted",
        "VERB": "train",
        "multirun/unsup/TIME": "multirun/temperature",
    }
}


def shortened(line: str) -> str:
    """The command with what makes it short, if the list says so."""
    adds = [entry["adds"] for entry in LISTS["shortened"] if matches(entry["commands"], line)]
    return " ".join([line, *adds])


RUN = [command for command in commands() if not listed(command.line)]


def test_every_pattern_of_the_lists_is_a_command_of_a_document() -> None:
    lines = [command.line for command in commands()]
    patterns = [pattern for entry in (*LISTS["not_run"], *LISTS["shortened"]) for pattern in entry["commands"]]
    assert [pattern for pattern in patterns if not any(matches([pattern], line) for line in lines)] == []


def first_values(words: Sequence[str]) -> list[str]:
    """Each sweep cut to its first value."""
    cut = []
    for word, override in zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True):
        if override.is_sweep_override() and not override.is_interval_sweep():
            word = f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        cut.append(word)
    return cut


def clear_the_way(folder: Path, words: Sequence[str], verb: str = "") -> None:
    """Remove what the command is about to make, as it is before it is typed."""
    if any(word.startswith(("resume=", "add=", "delete=", "query=")) for word in words):
        return
    starts = [start for start in MADE if start != "folder=" or verb == "index"]  # search and serve read an index
    for word in words:
        for start in starts:
            made = folder / word.removeprefix(start)
            if word.startswith(start) and made.is_dir():
                shutil.rmtree(made)
            elif word.startswith(start):
                made.unlink(missing_ok=True)


@pytest.mark.long
@pytest.mark.parametrize("command", RUN, ids=lambda command: f"{command.document}: {command.line}"[:150])
def test_the_command_runs(command: Command, workspace: Workspace, copied: Path, typed: Cli) -> None:
    line = shortened(command.line)
    for name, place in PLACES.get(command.document, {}).items():
        line = re.sub(rf"\b{name}\b", place, line)
    ours = OURS.match(line)
    if ours and not re.search(r"[|<>;&]", line):
        verb, words = ours[1], shlex.split(ours[2])
        clear_the_way(copied, words, verb)
        if verb == "serve":
            serve(words, workspace, copied)
            return
        if "-m" in words:
            options = ["--config-dir", "my_conf"] if "--config-dir" in words else []
            words = ["-m", *options, *first_values([word for word in words if word not in ("-m", *options)])]
        done = typed(*words, command=verb)
    else:
        clear_the_way(copied, line.split())
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=copied,
            env=workspace.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


def serve(words: Sequence[str], workspace: Workspace, folder: Path) -> None:
    """Start the server on a free port, ask it how it is, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "simcse_lit.serve", *(word for word in words if not word.startswith("port="))]
    command.append(f"port={port}")
    process = subprocess.Popen(
        command, cwd=folder, env=workspace.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    assert process.stdout
    for text in process.stdout:
        said.append(text)
        if f":{port}" in text:
            break
    try:
        assert process.poll() is None, "".join(said)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
            assert reply.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
