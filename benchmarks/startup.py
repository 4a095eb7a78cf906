"""How long a user waits for help, for the message about a mistyped key, for an import, and for the first training step.
Each in a fresh process, medians. The first step is that of the quickstart, whose corpus an earlier run has tokenised,
from the start of the command to the end of the step.

Run: python benchmarks/startup.py [--rounds N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytorch_lightning as pl
from harness import Column, machine, report

TRAIN = [sys.executable, "-m", "simcse_lit.train"]
COMMANDS = {
    "train --help": [*TRAIN, "--help"],
    "evaluate --help": [sys.executable, "-m", "simcse_lit.evaluate", "--help"],
    "train --cfg job": [*TRAIN, "--cfg", "job"],
    "a mistyped key": [*TRAIN, "loss.temprature=1"],
    "import simcse_lit": [sys.executable, "-c", "import simcse_lit"],
}
if find_spec("simcse_lit.__main__"):
    COMMANDS["simcse_lit --help"] = [sys.executable, "-m", "simcse_lit", "--help"]
FIRST_STEP = [*TRAIN, "experiment=quickstart", "trainer.max_steps=1", "evaluation.before=false", "evaluation.test=false",
              "+callbacks.first._target_=startup.FirstStep"]  # fmt: skip


class FirstStep(pl.Callback):
    """Writes the seconds since the start of the command, and ends the process."""

    def on_train_batch_end(self, *_: object) -> None:
        Path(os.environ["FIRST_STEP"]).write_text(str(time.time() - float(os.environ["STARTED"])))
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in (*COMMANDS, "first training step")}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(-1, rounds):  # the first warms the disk cache
            for name, command in COMMANDS.items():
                start = time.perf_counter()
                subprocess.run(command, cwd=folder, capture_output=True)
                if round_ >= 0:
                    seconds[name].append(time.perf_counter() - start)
            if round_ < 2:
                answer = Path(folder) / "first"
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent),
                               os.environ.get("PYTHONPATH")))), "FIRST_STEP": str(answer), "STARTED": str(time.time()),
                               "SIMCSE_CACHE": folder}  # fmt: skip
                subprocess.run(FIRST_STEP, cwd=folder, capture_output=True, env=environment, check=True)
                if round_ >= 0:
                    seconds["first training step"].append(float(answer.read_text()))
    rows = [[name, statistics.median(times), max(times)] for name, times in seconds.items()]
    columns = [Column("command"), Column("median", "s", ".2f"), Column("longest", "s", ".2f")]
    report("startup", __doc__, "Start-up", columns, rows, machine("transformers", "hydra-core"))


if __name__ == "__main__":
    main()
