"""What the gradient cache (`trainer.micro_batch_size`) costs in time, at a batch that fits in memory without it, and
saves in memory, at a large one. The encoder is the first three layers of all-MiniLM-L6-v2 with dropout, the text is
triplets of NLI, repeated. A B A B in one run, medians. Memory is the peak of a fresh process, with
`MALLOC_MMAP_THRESHOLD_=65536`, so that glibc gives back what is freed.

Run: python benchmarks/gradient_cache.py [--batch 2048] [--micro 64]. Triplets of SIMCSE_DATA if it is set, else bundled
ones.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from harness import Column, machine, report
from hydra import compose, initialize_config_dir
from torch import Tensor

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.train import validate
from simcse_lit.data.collation import ViewCollator
from simcse_lit.reporting.run import console
from simcse_lit.training.build import build

ROUNDS = 5
TIMED_BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--micro", type=int, default=64)
    chosen = parser.parse_args()
    # Memory first, while this process is small: on Linux a child starts with the peak of the process that made it.
    processes = multiprocessing.get_context("spawn")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc gives back what is freed, or its pools would be measured
    peaks = []
    for micro in (None, chosen.micro):
        with processes.Pool(1) as pool:
            peaks.append(pool.apply(memory, (chosen.batch, micro)))
    rows = [
        [f"resident memory before the step, batch {chosen.batch:,}", *(round(before) for before, _ in peaks), "MiB"],
        [f"peak resident memory, batch {chosen.batch:,}", *(round(peak) for _, peak in peaks), "MiB"],
    ]
    for length_chunks in ("never", "always"):
        module, batch = prepare(TIMED_BATCH, length_chunks)
        seconds: dict[int | None, list[float]] = {None: [], chosen.micro: []}
        for round_ in range(ROUNDS + 1):
            for micro, times in seconds.items():
                start = time.perf_counter()
                step(module, batch, micro)
                if round_:  # the first round warms up
                    times.append(time.perf_counter() - start)
        medians = [round(statistics.median(times), 2) for times in seconds.values()]
        rows.append([f"a step, batch {TIMED_BATCH}, `trainer.length_chunks={length_chunks}`", *medians, "s"])
    columns = [Column("quantity"), Column("whole"), Column(f"micro-batches of {chosen.micro}"), Column("unit")]
    columns.append(Column("over whole", "", ".2f"))
    rows = [[*row, row[2] / row[1]] for row in rows]
    report("gradient_cache", __doc__, "Gradient cache, three layers of MiniLM", columns, rows, machine())


def prepare(batch_size: int, length_chunks: str) -> tuple[Any, dict[str, Tensor]]:
    """Return a training module and one batch of triplets."""
    schema.register()
    resolvers.register()
    console.quiet_libraries()
    text = ["data=samples"]
    if "SIMCSE_DATA" in os.environ:
        text = ["data=file", f"data.train_file={Path(os.environ['SIMCSE_DATA']) / 'nli' / 'snli_triplets.csv'}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        settings = ["experiment=quickstart", *text, "senteval.dir=null", "run_dir=unused", "data.batch_size=128"]
        config = validate(compose("train", [*settings, f"trainer.length_chunks={length_chunks}"]))
    module, data = build(config)
    module._log_loss = lambda name, loss: None  # type: ignore[method-assign]  # there is no trainer
    rows = [row % len(data.corpus) for row in range(batch_size)]
    return module, next(
        iter(torch.utils.data.DataLoader(data.corpus, batch_sampler=[rows], collate_fn=ViewCollator(0, range(3))))
    )


def step(module: Any, batch: dict[str, Tensor], micro: int | None) -> None:
    module.micro_batch_size = micro
    module.training_step(module.on_before_batch_transfer(batch, 0), 0).backward()
    module.zero_grad()


def memory(batch_size: int, micro: int | None) -> tuple[float, float]:
    """Return the peak resident memory of this process in MiB, before and after a step."""
    module, batch = prepare(batch_size, "never")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step(module, batch, micro)
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
