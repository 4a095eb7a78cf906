"""What the first numbers of a vector score, with Matryoshka and without: experiments/successors/dimensions.csv.

Run: SIMCSE_DATA=DIR python -m experiments.dimensions [--at-once N] [KEY=VALUE...]

It trains `loss=matryoshka`, and the same run without Matryoshka, with three seeds, and scores both on STS-B test with
`truncate_dim=` each of five widths. Stop it at any time: the same command goes on with the runs that are missing.
`python -m experiments.methods` then writes the table and the figure.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.figures import draw_dimensions
from experiments.readmes import mean_and_sd
from experiments.run import RUNS, in_processes
from experiments.settings import Job, need_data
from simcse_lit import compose
from simcse_lit.evaluate import main as evaluate
from simcse_lit.scores import read_scores
from simcse_lit.tables import markdown_table

PATH = Path(__file__).parent / "successors" / "dimensions.csv"
WIDTHS = (384, 256, 128, 64, 32)
SEEDS = range(3)
TASK = "STS-B"
PRESET = "miniature-successors"
# Matryoshka keeps its head at evaluation, so the run without it keeps the head too.
LOSSES = {"Matryoshka": ("loss=matryoshka",), "without": ("loss=unsup", "projection=mlp")}
Scores = dict[str, dict[int, dict[int, float]]]  # by loss, width and seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="runs side by side; default: one a core")
    parser.add_argument("--path", type=Path, default=PATH, help="the file of scores; default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    need_data()
    jobs = {(loss, seed): job_of(loss, seed, given.overrides) for loss in LOSSES for seed in SEEDS}
    missing = [job for job in jobs.values() if not is_trained(job)]
    print(f"{len(jobs)} runs, {len(missing)} to train", flush=True)
    for job, seconds, folder in in_processes(missing, given.at_once):
        if not is_trained(job):
            raise SystemExit(f"{' '.join(job.words)}: failed, see {folder / 'console.log'}")
        print(f"{job.changed} seed={job.seed}: {seconds:.0f} s", flush=True)
    exports = {str(RUNS / job.folder / "export"): key for key, job in jobs.items()}
    with given.path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["loss", "width", "seed", TASK])
        for width in WIDTHS:
            for export, score in scores_of(list(exports), width).items():
                loss, seed = exports[export]
                writer.writerow([loss, width, seed, f"{score:.5g}"])
    return 0


def job_of(loss: str, seed: int, overrides: Sequence[str]) -> Job:
    """Return the run of a loss with a seed, which scores nothing but the development set."""
    changed = (*LOSSES[loss], "evaluation.test=false", "analyses=none", *overrides)
    return Job((f"experiment={PRESET}", *changed, f"seed={seed}"), PRESET, " ".join(changed), seed, config={})


def is_trained(job: Job) -> bool:
    """Tell whether the run folder of a job holds a finished run."""
    folder = RUNS / job.folder
    return (folder / "scores.json").is_file() and bool(read_scores(folder).get("after"))


def scores_of(exports: Sequence[str], width: int) -> dict[str, float]:
    """Score exports on STS-B test by the first numbers of their vectors.

    Args:
        exports: the folders.
        width: numbers to keep.

    Returns:
        Spearman x 100 by folder.
    """
    folder = RUNS / f"dimensions-{width}"
    words = [f"checkpoint=[{','.join(exports)}]", f"tasks={TASK}", f"truncate_dim={width}", "bootstrap.samples=0"]
    evaluate(compose("evaluate", [*words, f"embedding_cache={RUNS / 'embeddings'}", f"hydra.run.dir={folder}"]))
    encoders = json.loads((folder / "results.json").read_text(encoding="utf-8"))["encoders"]
    return {encoder["checkpoint"]: encoder["tasks"][TASK]["spearman"] for encoder in encoders}


def read(path: Path = PATH) -> Scores:
    """Read the scores; none if there is no file yet."""
    found: Scores = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                widths = found.setdefault(line["loss"], {})
                widths.setdefault(int(line["width"]), {})[int(line["seed"])] = float(line[TASK])
    return found


def part(found: Mapping[str, Mapping[int, Mapping[int, float]]]) -> str:
    """Return the table of the page and its figure."""
    table = [["numbers kept", *found]]
    table += [[str(width), *(mean_and_sd(of[width]) for of in found.values())] for width in WIDTHS]
    return f"{markdown_table(table)}\n\n![STS-B test by the numbers kept](dimensions.svg)"


def draw(path: Path = PATH) -> None:
    """Draw the figure, if there are scores."""
    if found := read(path):
        draw_dimensions(found, path.with_suffix(".svg"))


if __name__ == "__main__":
    sys.exit(main())
