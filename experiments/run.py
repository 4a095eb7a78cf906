"""Train what experiments/rows.csv lacks of a miniature sweep, and add a row for each score as soon as a run ends.

Run: SIMCSE_DATA=DIR python -m experiments.run NAME... [--at-once N] [--keep] [KEY=VALUE...]

NAME is a sweep of conf/sweep/miniature/. Overrides hold for every job, for example `trainer.precision=bf16-mixed` or
`seed=0,1,2,3,4`. Stop it at any time: the same command goes on with the runs that have no row.
"""

import argparse
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments import rows
from experiments.rows import Row
from experiments.settings import SWEEPS, Job, jobs_of_sweep, need_data
from simcse_lit.config.hydra_words import explain
from simcse_lit.reporting.run.curves import read_metrics
from simcse_lit.scores import by_task, read_scores

RUNS = Path("multirun") / "rows"
MEMORY = "peak_memory"  # file in a run folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="NAME or KEY=VALUE")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="runs side by side; default: one a core")
    parser.add_argument("--keep", action="store_true", help=f"keep the run folders, in {RUNS}/")
    parser.add_argument("--rows", type=Path, default=rows.ROWS, help="file of the rows; default: %(default)s")
    given = parser.parse_intermixed_args()
    need_data()
    if given.at_once < 1:
        raise SystemExit(f"--at-once={given.at_once}: must be 1 or more.")
    overrides = [word for word in given.words if "=" in word]
    names = [word for word in given.words if "=" not in word]
    if not names or (unknown := [name for name in names if name not in SWEEPS]):
        what = "Name a sweep" if not names else f"{unknown[0]}: there is no such sweep"
        raise SystemExit(f"{what}. Sweeps: {', '.join(SWEEPS)}.")
    try:
        jobs = [job for name in names for job in jobs_of_sweep(name, overrides)]
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(explain(error, "train") or str(error)) from error
    run_missing(jobs, given.rows, given.at_once, keep=given.keep)
    return 0


def run_missing(jobs: Sequence[Job], path: Path, at_once: int, *, keep: bool = False) -> None:
    """Train the jobs that have no row yet, several side by side, and add their rows to the file.

    Raises:
        SystemExit: a run failed; the others were finished and have rows.
    """
    found = rows.read(path)
    missing: dict[tuple[tuple[str, str], int], Job] = {}
    for job in sorted(jobs, key=scored):  # of two that differ in what they score, the one that scores more
        if not is_done(job, found):
            missing[job.setting, job.seed] = job
    print(f"{len(jobs)} jobs, {len(missing)} without a row in {path.name}", flush=True)
    failed = []
    for place, (job, seconds, folder) in enumerate(in_processes(list(missing.values()), at_once), 1):
        title = f"{place}/{len(missing)} {job.experiment} {job.changed} seed={job.seed}".replace("  ", " ")
        if not (folder / "scores.json").is_file() or not read_scores(folder).get("after"):
            failed.append(title)
            print(f"{title}: failed, see {folder / 'console.log'}", flush=True)
            continue
        added = rows_of(job, seconds, folder)
        replaced = {(row.setting, row.seed) for row in added}
        rows.write([*(row for row in rows.read(path) if (row.setting, row.seed) not in replaced), *added], path)
        print(f"{title}: {next(iter(added[-1].scores.values())):.2f} in {seconds:.0f} s", flush=True)
        if not keep:
            shutil.rmtree(folder)
    if failed:
        raise SystemExit("Failed:\n" + "\n".join(failed))


def is_done(job: Job, found: Sequence[Row]) -> bool:
    """Tell whether a job has all its rows: of training, and of the untrained encoder and the test sets if it scores them."""
    own = [row for row in found if (row.setting, row.seed) == (job.setting, job.seed)]
    evaluation = job.config["evaluation"]
    tests = [row for row in own if set(job.config["tasks"]) & set(row.scores)]
    return (
        any(row.is_last for row in own)
        and (not evaluation["before"] or any(row.step == 0 for row in own))
        and (not evaluation["test"] or any(row.is_last for row in tests))
    )


def scored(job: Job) -> int:
    """Count what a job scores beside the development set."""
    return int(job.config["evaluation"]["before"]) + int(job.config["evaluation"]["test"])


def in_processes(jobs: Sequence[Job], at_once: int) -> Iterator[tuple[Job, float, Path]]:
    """Train each job in a process of its own, forked from one that has imported torch, and yield those that end.

    Yields:
        The job, its seconds, and its run folder.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["simcse_lit.train", "simcse_lit.from_python"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // at_once))
    waiting = list(jobs)
    running: dict[Any, tuple[multiprocessing.context.ForkServerProcess, Job, float, Path]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop(0)
            folder = RUNS / job.folder
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            process = context.Process(target=train, args=(job.words, folder))
            process.start()
            running[process.sentinel] = (process, job, time.monotonic(), folder)
        for sentinel in multiprocessing.connection.wait(list(running)):
            process, job, started, folder = running.pop(sentinel)
            process.join()
            yield job, time.monotonic() - started, folder


def train(words: Sequence[str], folder: Path) -> None:
    """Train one job with its output in `console.log`."""
    from simcse_lit import compose
    from simcse_lit.train import main as train_main

    with (folder / "console.log").open("w", encoding="utf-8") as console, redirect_stdout(console), redirect_stderr(console):
        logging.basicConfig(stream=console, level=logging.INFO, format="%(message)s", force=True)
        train_main(compose("train", [*words, f"hydra.run.dir={folder}"]))
    (folder / MEMORY).write_text(f"{peak_memory():.3f}\n", encoding="utf-8")


def peak_memory() -> float:
    """Return the largest memory that this process held, in GB: of the GPU if there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def rows_of(job: Job, seconds: float, folder: Path) -> list[Row]:
    """Read the rows of a finished run: one for each validation; the first and the last have the test scores."""
    history = read_metrics(folder / "metrics.csv")
    scores = by_task(read_scores(folder))
    dev = next(iter(scores["after"]))
    validations = history["val/sts"]
    steps = validations[-1][0] + 1
    before = [0] if job.config["evaluation"]["before"] else []
    found = []
    for place, (logged, value) in enumerate(validations):
        step = 0 if before and place == 0 else logged + 1
        numbers = {dev: value}
        numbers |= {name.removeprefix("val/"): dict(of)[logged] for name, of in history.items() if name in MEASURED}
        if step in (0, steps):
            numbers |= scores["before" if step == 0 else "after"]
        if step == steps:
            numbers |= cost_of(job, folder, history)
        found.append((step, numbers))
    facts = {"precision": job.config["trainer"]["precision"], "seconds": round(seconds, 1), "commit": code_commit()}
    return [Row(job.experiment, job.changed, job.seed, step, steps, numbers, **facts) for step, numbers in found]


def cost_of(job: Job, folder: Path, history: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, float]:
    """Return the median wall time of a training step in seconds, if it was logged, and the peak memory in GB."""
    memory = {"peak_GB": float((folder / MEMORY).read_text(encoding="utf-8"))}
    if not (rates := [rate for _, rate in history.get("train/sentences_per_second", [])]):
        return memory
    data = job.config["data"]
    sentences = data["batch_size"] * len(data["views"] or data["columns"] * (1 + (len(data["columns"]) == 1)))
    return {"seconds_per_step": sentences / median(rates), **memory}


@cache
def code_commit() -> str:
    """Return the last commit that changed the code or its configuration, with "-dirty" if they hold other changes."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()

    commit = git("log", "-1", "--format=%h", "--", "src", "conf")
    return commit + ("-dirty" if git("status", "--porcelain", "--", "src", "conf") else "")


MEASURED = ("val/alignment", "val/uniformity", "val/effective_rank", "val/mean_cosine")

if __name__ == "__main__":
    sys.exit(main())
