"""Fixtures that several test files share: real data, a small encoder, and the real command line in a subprocess."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from playwright.sync_api import Browser, sync_playwright

from simcse_lit.config import CONF_DIR, installed
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.train import validate
from simcse_lit.config.schema import EvaluateConfig, TrainConfig
from tests.quick_hydra import quicken_hydra
from tests.warm_start import ROOT, WarmStart, run_warm

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Brings = Callable[[str, Mapping[str, str]], None]

SHARED = "SIMCSE_TESTS_WARM_START"  # names the address of that process to xdist's workers; `inherited` hides it

quicken_hydra()

STATE = tempfile.TemporaryDirectory(prefix="simcse-lit-tests-")  # for the key that signs run folders, not the user's own
os.environ["XDG_STATE_HOME"] = STATE.name

LIMIT_S = 1800.0  # of any process that a test starts: a stuck one ends some day, a busy machine fails no test
OLD = ROOT / "tests" / "old"  # what version 0.1 wrote
DATA = Path(os.environ.pop("SIMCSE_DATA", "") or ROOT.parent / "shared" / "data")  # what is run here does not see it


SLOW_S = 0.5
SLOW = Path(__file__).with_name("slow.txt")  # seconds of each slow test, and of each file that has no other; longest first


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-slow", action="store_true", help=f"write {SLOW.name} from how long each test takes")


def pytest_configure(config: pytest.Config) -> None:
    """Start the process that commands are forked from, for all of xdist's workers; it imports while they collect."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        started = WarmStart(inherited())
        os.environ[SHARED] = started.address
        config.add_cleanup(started.close)


def slow_names() -> list[str]:
    return [line.split(maxsplit=1)[1] for line in SLOW.read_text(encoding="utf-8").splitlines()]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file whose tests are all slow, where they are left out."""
    whole = {ROOT / name for name in slow_names() if "::" not in name}
    return True if "not slow" in config.getoption("markexpr") and collection_path in whole else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests of slow.txt; when pytest has left out what -m leaves out, deal the rest out to xdist's workers."""
    place = {name: number for number, name in enumerate(slow_names())}
    for item in items:
        if item.nodeid in place:
            item.add_marker("slow")
    yield
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = dealt(items, place, workers)


def dealt(items: list[pytest.Item], place: Mapping[str, int], workers: int) -> list[pytest.Item]:
    """Put the longest tests at the start of each worker's share, so that none is left for the end."""
    slow = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])
    rest = iter([item for item in items if item.nodeid not in place])
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        share = (len(items) - len(ordered)) // (workers - worker)  # as --dist worksteal cuts
        own = slow[worker::workers]
        ordered += [*own, *islice(rest, max(0, share - len(own)))]
    return [*ordered, *rest]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write slow.txt, if that was asked for.

    Where setting a test up takes so long, all tests of its file are slow: whichever runs first pays for what they share.
    """
    if not config.getoption("--write-slow"):
        return
    seconds: dict[str, float] = {}
    shared: set[str] = set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration
                if report.when == "setup" and report.duration >= SLOW_S:
                    shared.add(report.location[0])
    slow = {name: taken for name, taken in seconds.items() if taken >= SLOW_S or name.partition("::")[0] in shared}
    quick = {name.partition("::")[0] for name in seconds if name not in slow}
    for file in {name.partition("::")[0] for name in slow} - quick:
        slow[file] = sum(taken for name, taken in slow.items() if name.startswith(f"{file}::"))
    lines = sorted(slow.items(), key=lambda line: (-line[1], line[0]))
    SLOW.write_text("".join(f"{taken:.1f} {name}\n" for name, taken in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def simcse_data() -> Path:
    """The folder with SentEval/, nli/ and wiki/. Without it real-data tests are skipped, but on CI they fail."""
    folder = DATA
    if not (folder / "SentEval").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real data; there is none in {folder} (SIMCSE_DATA)")
        pytest.skip("no real data: set SIMCSE_DATA")
    return folder.resolve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Without one tests of pages are skipped, but on CI they fail."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser; there is no chromium on PATH")
        pytest.skip("no chromium on PATH")
    flags = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=[f"--{flag}" for flag in (*flags, "no-first-run")])
        yield started
        started.close()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenised corpora of all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def brings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brings]:
    """Call it with a group and values by name, for a package that is installed with these entry points alone."""

    def bring(of: str, values: Mapping[str, str]) -> None:
        there = [EntryPoint(name, value, of) for name, value in values.items()]
        monkeypatch.setattr(installed, "entry_points", lambda group: there if group == of else [])
        forget()

    def forget() -> None:
        installed.entries.cache_clear()
        installed.installed.cache_clear()

    yield bring
    monkeypatch.undo()
    forget()


@pytest.fixture
def cli(tmp_path: Path, cache_dir: Path) -> Cli:
    """Run `python -m simcse_lit.train ARGUMENTS` in a folder of its own; keyword `env` adds to the environment, and
    `command` names another command than train.
    """

    def run(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        timeout: float = LIMIT_S,
        interpreter: str = sys.executable,
        command: str = "train",
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [interpreter, "-m", f"simcse_lit.{command}", *arguments],
            cwd=tmp_path,
            env={**inherited(), "SIMCSE_CACHE": str(cache_dir), **(env or {})},
            capture_output=True,
            text=True,
            errors="backslashreplace",  # of a command that was told another encoding
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def warm_start() -> Iterator[str]:
    """Where the process listens that commands are forked from."""
    if SHARED in os.environ:
        yield os.environ[SHARED]
        return
    started = WarmStart(inherited())
    yield started.address
    started.close()


@pytest.fixture
def warm_cli(warm_start: str, tmp_path: Path, cache_dir: Path) -> Cli:
    """As `cli`, but the libraries are imported already, which saves most of the time that a short command takes."""
    return forked(warm_start, tmp_path, {**inherited(), "SIMCSE_CACHE": str(cache_dir)})


def forked(address: str, folder: Path, environment: Mapping[str, str]) -> Cli:
    """Run a command as `cli` does, from a process that is there already."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, timeout: float = LIMIT_S, command: str = "train"
    ) -> "subprocess.CompletedProcess[str]":
        whole = [f"simcse_lit.{command}", *arguments]
        return run_warm(address, whole, cwd=folder, env={**environment, **(env or {})}, timeout=timeout)

    return run


def inherited() -> dict[str, str]:
    """The environment of the tests without what would change a command."""
    hidden = ("SIMCSE_", "WANDB_", "HF_", "HYDRA_", "COLUMNS")
    return {key: value for key, value in os.environ.items() if not key.startswith(hidden)}


@pytest.fixture(scope="session")
def my_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package examples/my_lab installed, and nothing else."""
    folder = tmp_path_factory.mktemp("my_lab")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(ROOT / "examples" / "my_lab")], check=True, timeout=LIMIT_S)
    return folder


def train_config(*overrides: str) -> TrainConfig:
    """What `python -m simcse_lit.train OVERRIDES` is given."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return validate(compose("train", ["run_dir=unused", *overrides]))


def evaluate_config(*overrides: str) -> EvaluateConfig:
    """What `python -m simcse_lit.evaluate OVERRIDES` is given, of an encoder that need not exist."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return validate_evaluation(compose("evaluate", ["checkpoint=none", "run_dir=unused", *overrides]))


def metrics(run: Path) -> dict[str, list[float]]:
    """Each column of a run's metrics.csv, without its empty cells."""
    columns: dict[str, list[float]] = {}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    columns.setdefault(name, []).append(float(value))
    return columns
