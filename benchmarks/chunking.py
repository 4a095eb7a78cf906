"""Chunks of like length against one padded batch, on a training step without evaluation. Run: python benchmarks/chunking.py

Real text of SIMCSE_DATA if there, else the bundled triplets; all-MiniLM-L6-v2's first three layers; A B A B in one run,
medians.
Prints the share of padding, the bound that removing it allows, the ratio, and the ratio for several overheads.
"""

import os
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from simcse_lit.config import resolvers, schema
from simcse_lit.config.cli import CONF_DIR
from simcse_lit.config.validation import validate
from simcse_lit.model import chunking
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.reporting import console
from simcse_lit.reporting.run_folder import device_name, git_commit
from simcse_lit.train import build

ROUNDS = 5
OVERHEADS = (0, 32, 96, 256, 1024)


def main() -> None:
    schema.register()
    resolvers.register()
    text = ["data=samples"]
    if "SIMCSE_DATA" in os.environ:
        text = ["data=file", f"data.train_file={Path(os.environ['SIMCSE_DATA']) / 'nli' / 'snli_triplets.csv'}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        settings = ["experiment=quickstart", *text, "data.batch_size=128", "senteval.dir=null", "run_dir=unused"]
        config = validate(compose("train", settings))
    console.quiet_libraries()
    module, data = build(config)
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(2), strict=False)]
    real = sum(int(batch["attention_mask"].sum()) for batch in batches)
    padding = 1 - real / sum(batch["attention_mask"].numel() for batch in batches)
    print(f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"Python {platform.python_version()}, commit {git_commit()}")  # fmt: skip
    print(f"{config.data.train_file}, batch 128 x 3 views, padding {padding:.2f}, bound {1 / (1 - padding):.2f}x")

    ways: dict[str, Any] = {"padded": module.encoder}
    for overhead in OVERHEADS:
        ways[f"chunks, overhead {overhead}"] = partial(in_chunks, module.encoder, overhead)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS + 1):
        for name, encode in ways.items():
            start = time.perf_counter()
            for batch in batches:
                step(module, encode, batch)
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["padded"])
    for name, times in seconds.items():
        median = statistics.median(times) / len(batches)
        print(f"{name:<24} {median:6.3f} s a step   {base / statistics.median(times):5.2f}x")


def in_chunks(encode: Any, overhead: int, ids: Tensor, mask: Tensor) -> Tensor:
    return chunking.encode_in_chunks(encode, ids, mask, chunking.plan(mask, by_length=True, limit=None, overhead=overhead))


def step(module: Any, encode: Any, batch: dict[str, Tensor]) -> None:
    ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
    views = encode(ids, mask).unflatten(0, batch["input_ids"].shape[:2]).unbind(1)
    contrastive_loss(contrastive_logits(*views, temperature=0.05)).backward()
    module.zero_grad()


if __name__ == "__main__":
    sys.exit(main())
