"""Whether a change made anything slower, A B B A in one run. Training: the sentences a second that the command of each
checkout reports for 12 supervised steps. Encoding, evaluation and tokenising: a process of each checkout encodes 400 lines
of Wikipedia, encodes and scores STS16, or reads and tokenises Wikipedia and NLI triplets, in turn. The last columns are the
ratio of the medians, and the median of the ratios of neighbours: a shared machine drifts by more than what is looked for,
but hardly within seconds.

Run: python benchmarks/checkouts.py COMMIT [--rounds N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import Column, machine, real_data, report, summary

from simcse_lit.reporting.run.curves import read_metrics

HERE = Path(__file__).resolve().parents[1]


def command(checkout: Path, folder: Path, verb: str, *arguments: str) -> str:
    """What a verb of a checkout prints on both streams."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "SIMCSE_CACHE": str(folder / "cache")}
    words = [sys.executable, "-m", f"simcse_lit.{verb}", *arguments]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: {verb}: {done.stderr}")
    return done.stdout + done.stderr


def training(checkout: Path, folder: Path) -> float:
    """Sentences a second of 12 supervised steps, without the first four."""
    text = f"data.train_file={real_data('nli/snli_triplets.csv')}"
    model = ("model=minilm-l3", "pooler=avg", "projection=mlp_train_only", "trainer=cpu")
    settings = ("loss=sup", "data=file", text, *model, "data.batch_size=64", "trainer.max_steps=12")
    settings += ("trainer.log_every_n_steps=4", "hydra.run.dir=run")
    unscored = ("evaluation.before=false", "evaluation.test=false", "trainer.val_check_interval=100", "demo.queries=[]")
    command(checkout, folder, "train", *settings, *unscored, "tasks@dev=samples-dev")
    rates = [rate for _, rate in read_metrics(folder / "run" / "metrics.csv")["train/sentences_per_second"]]
    return sum(rates[1:]) / len(rates[1:])


def in_turn(way: str, checkouts: Mapping[str, Path], rounds: int) -> dict[str, list[float]]:
    """The rates of a process of each checkout, which do the same work in turn."""
    worker = [sys.executable, str(Path(__file__).with_name("checkout.py")), way]
    rates: dict[str, list[float]] = {name: [] for name in checkouts}
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(
                subprocess.Popen(
                    worker,
                    env={**os.environ, "PYTHONPATH": str(checkout / "src")},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name, checkout in checkouts.items()
        }
        for side in sides.values():
            said(side)
        for number in range(rounds):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                print("again", file=sides[name].stdin, flush=True)
                rates[name].append(float(said(sides[name])))
    return rates


def said(side: "subprocess.Popen[str]") -> str:
    """The next line of a process."""
    assert side.stdout
    line = side.stdout.readline()
    if not line:
        raise SystemExit("a checkout failed; its message is above")
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what this checkout is compared with")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as other:
        subprocess.run(
            ["git", "-C", HERE, "worktree", "add", "--detach", other, given.commit], check=True, capture_output=True
        )
        try:
            sides = {"before": Path(other), "now": HERE}
            rows = [row("training", by_command(sides, given.rounds))]
            rows += [row(way, by_process(way, sides, given.rounds)) for way in ("encoding", "evaluation", "tokenising")]
        finally:
            subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", other], check=True)
    columns = [Column("work"), Column("before", "/s", ".0f"), Column("now", "/s", ".0f"), Column("medians", "", ".3f")]
    columns.append(Column("neighbours", "", ".3f"))
    report("checkouts", __doc__, "A change, A B B A", columns, rows, machine("transformers", "pytorch-lightning"))


def by_command(checkouts: Mapping[str, Path], rounds: int) -> dict[str, list[float]]:
    """The rates of the training command of both checkouts, in turn."""
    rates: dict[str, list[float]] = {name: [] for name in checkouts}
    for number in range(rounds):
        for name in list(checkouts)[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                rates[name].append(training(checkouts[name], Path(folder)))
    return rates


def by_process(way: str, checkouts: Mapping[str, Path], rounds: int) -> dict[str, list[float]]:
    """The rates of new processes of both checkouts in each round: one keeps its luck with memory all its life."""
    rates: dict[str, list[float]] = {name: [] for name in checkouts}
    for number in range(rounds):
        turned = dict(list(checkouts.items())[:: -1 if number % 2 else 1])
        for name, found in in_turn(way, turned, 10).items():
            rates[name] += found
    return rates


def row(way: str, rates: Mapping[str, list[float]]) -> list[Any]:
    """Both rates, the ratio of their medians, and the median of the ratios of neighbours."""
    before, now = rates["before"], rates["now"]
    pairs = [new / old for new, old in zip(now, before, strict=True)]
    return [way, summary(before), summary(now), statistics.median(now) / statistics.median(before), statistics.median(pairs)]


if __name__ == "__main__":
    main()
