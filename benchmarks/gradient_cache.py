"""Gradient cache: what a step costs in time at a batch that fits both ways, and in memory at a batch of 2,048.

Run: python benchmarks/gradient_cache.py [--batch 2048] [--micro 64]. Real triplets of SIMCSE_DATA if there, else the bundled
ones, repeated; all-MiniLM-L6-v2's first three layers with dropout on. Time: A B A B in one run, medians. Memory: a process a
way, peak resident memory above what it held before the step.
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
from harness import machine
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
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--batch", type=int, default=2048)
    arguments.add_argument("--micro", type=int, default=64)
    chosen = arguments.parse_args()
    print(machine())
    # First, while this process is small: on Linux a child starts with the peak of the process that made it.
    processes = multiprocessing.get_context("spawn")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc gives back what is freed, or its pools would be measured
    for micro in (None, chosen.micro):
        with processes.Pool(1) as pool:
            before, peak = pool.apply(memory, (chosen.batch, micro))
        name = "whole" if micro is None else f"micro-batches of {micro}"
        print(f"batch {chosen.batch}, {name}: peak {peak:,.0f} MB, {peak - before:,.0f} MB of them for the step")
    for length_chunks in ("never", "always"):
        module, batch = prepare(TIMED_BATCH, length_chunks)
        seconds: dict[int | None, list[float]] = {None: [], chosen.micro: []}
        for round_ in range(ROUNDS + 1):
            for micro, times in seconds.items():
                start = time.perf_counter()
                step(module, batch, micro)
                if round_:  # the first round warms up
                    times.append(time.perf_counter() - start)
        whole, cached = (statistics.median(times) for times in seconds.values())
        print(f"batch {TIMED_BATCH}, length_chunks={length_chunks}: whole {whole:.2f} s a step, "
              f"micro-batches of {chosen.micro} {cached:.2f} s, ratio {cached / whole:.2f}")  # fmt: skip


def prepare(batch_size: int, length_chunks: str) -> tuple[Any, dict[str, Tensor]]:
    """A training module and one batch of triplets."""
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
    return module, next(iter(torch.utils.data.DataLoader(data.corpus, batch_sampler=[rows], collate_fn=ViewCollator(0))))


def step(module: Any, batch: dict[str, Tensor], micro: int | None) -> None:
    module.micro_batch_size = micro
    module.training_step(module.on_before_batch_transfer(batch, 0), 0).backward()
    module.zero_grad()


def memory(batch_size: int, micro: int | None) -> tuple[float, float]:
    """(peak resident memory before, and after a step) in MB, of a process of its own."""
    module, batch = prepare(batch_size, "never")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step(module, batch, micro)
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
