"""Train SimCSE and its successors under one protocol, and add their rows to experiments/successors/SCALE.csv.

Run: SIMCSE_DATA=DIR python -m experiments.protocol SCALE [--only NAME...] [--at-once N] [KEY=VALUE...]

SCALE is `miniature` or `paper`: the methods of conf/sweep/[miniature/]successors.yaml. Each method is trained with seed 0 in
every cell of the grid of that file. STS-B dev chooses its cell, which is trained with three seeds. SimCSE and the three
methods that are best on STS-B dev get five. Stop it at any time: the same command goes on with the runs that have no row.
`python -m experiments.methods` then writes the tables and the figure.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from experiments import methods, rows
from experiments.readmes import DEV
from experiments.rows import Row
from experiments.run import RUNS, run_missing
from experiments.settings import Job, composed_of, need_data, words_of_sweep
from experiments.verdicts import scores
from simcse_lit.config.schema import SentEvalConfig
from simcse_lit.evaluation.senteval import SentEval

GRID = ("optimizer.lr", "data.batch_size")
FEW, MANY, FINALISTS = 3, 5, 3
SCORED, LABELLED = RUNS / "STS-B-train.tsv", RUNS / "TREC-train.tsv"  # what some methods read, made from SentEval's files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", choices=("miniature", "paper"))
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="runs side by side; default: one a core")
    parser.add_argument("--only", action="append", metavar="NAME", help="a method; default: all. Give it again for more")
    parser.add_argument("--rows", type=Path, help="file of the rows; default: experiments/successors/SCALE.csv")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    if given.scale == "miniature":
        need_data()
    path = given.rows or methods.FOLDER / f"{given.scale}.csv"
    jobs = grid(given.scale, given.overrides)
    names = list(dict.fromkeys(job.config["name"] for job in jobs))
    if unknown := [name for name in given.only or () if name not in names]:
        raise SystemExit(f"--only {unknown[0]}: there is no such method. Methods: {', '.join(names)}.")
    jobs = [job for job in jobs if not given.only or job.config["name"] in given.only]
    write_inputs(jobs)
    run_missing(jobs, path, given.at_once)
    chosen = best_cells(jobs, rows.read(path))
    run_missing(with_seeds(chosen, range(FEW)), path, given.at_once)
    finalists = [methods.BASELINE, *best_methods(chosen, rows.read(path))]
    run_missing(with_seeds([job for job in chosen if job.config["name"] in finalists], range(MANY)), path, given.at_once)
    return 0


def grid(scale: str, overrides: Sequence[str]) -> list[Job]:
    """Return a job for each method and each cell of the grid, all with the seed of the sweep."""
    sweep = "miniature/successors" if scale == "miniature" else "successors"
    return [_job(words) for words in words_of_sweep(sweep, overrides)]


def _job(words: tuple[str, ...]) -> Job:
    own = dict(word.split("=", 1) for word in words)
    # Composing takes a third of a second, so it is done once for all seeds and learning rates.
    composed = composed_of(tuple(word for word in words if not word.startswith(("seed=", "optimizer.lr="))))
    optimizer = {**composed.config["optimizer"], "lr": float(own["optimizer.lr"])}
    cell = [f"{key}={own[key]}" for key in GRID if key in own]
    changed = " ".join([f"name={composed.config['name']}", *cell])
    return Job(words, composed.experiment or "paper", changed, int(own["seed"]), {**composed.config, "optimizer": optimizer})


def write_inputs(jobs: Sequence[Job]) -> None:
    """Write the files that some jobs read: STS-B train with its scores, and the questions of TREC with their classes."""
    read = {job.config["data"]["train_file"]: SentEvalConfig(**job.config["senteval"]) for job in jobs}
    if files := read.get(str(SCORED)):
        pairs = SentEval(files).rows("STS/STSBenchmark/sts-train.csv")
        _write(SCORED, ["score", "sentence1", "sentence2"], (fields[4:7] for _, fields in pairs))
    if files := read.get(str(LABELLED)):
        questions = SentEval(files).lines("TREC/train_5500.label", "latin-1")
        _write(LABELLED, ["label", "text"], (line.split(" ", 1) for _, line in questions))


def _write(path: Path, head: list[str], lines: Iterable[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(fields) + "\n" for fields in (head, *lines)), encoding="utf-8")


def best_cells(jobs: Sequence[Job], found: Sequence[Row]) -> list[Job]:
    """Return for each method the job that is best on the development set."""
    best: dict[str, Job] = {}
    for job in jobs:
        name = job.config["name"]
        if name not in best or _dev(job, found) > _dev(best[name], found):
            best[name] = job
    return list(best.values())


def best_methods(chosen: Sequence[Job], found: Sequence[Row]) -> list[str]:
    """Return the names of the methods on text, beside SimCSE, that are best on the development set."""
    text = {method.name for method in methods.read_methods() if method.group == "text"}
    others = [job for job in chosen if job.config["name"] in text - {methods.BASELINE}]
    ranked = sorted(others, key=lambda job: -fmean(list(scores(found, job.setting, DEV).values())[:FEW]))
    return [job.config["name"] for job in ranked[:FINALISTS]]


def with_seeds(jobs: Iterable[Job], seeds: Iterable[int]) -> list[Job]:
    """Return each job with each seed."""
    return [_with_seed(job, seed) for seed in seeds for job in jobs]


def _with_seed(job: Job, seed: int) -> Job:
    words = tuple(word for word in job.words if not word.startswith("seed="))
    return replace(job, words=(*words, f"seed={seed}"), seed=seed)


def _dev(job: Job, found: Sequence[Row]) -> float:
    return scores(found, job.setting, DEV)[job.seed]


if __name__ == "__main__":
    sys.exit(main())
