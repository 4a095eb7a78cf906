"""How the cost of a training step grows with batch, length and width, that of preparing a corpus with its lines, and
what a second process gives. The steps are those of BERTs of three layers with random weights and random tokens, without
padding, in float32, with fused AdamW. The exponent k is fitted: cost = c x size^k by least squares on logarithms; k = 1
is linear. Processes: `train` by one process with all cores against two with half of the cores each (gloo).

Run: python benchmarks/scaling.py [--rounds N]. Also draws benchmarks/results/scaling.png.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from harness import RESULTS, Column, alternate, machine, report
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.tokenisation import BLOCK
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.text.corpus import EpochOrder
from simcse_lit.text.tokens import token_ids

SIZES: dict[str, list[int]] = {
    "batch (pairs of 16 tokens, 256 wide)": [8, 16, 32, 64, 128],
    "length (16 pairs, 256 wide)": [8, 16, 32, 64, 128],
    "width (16 pairs of 16 tokens)": [128, 256, 512, 768],
    "corpus (lines tokenised)": [2000, 4000, 8000, 16000],
    "corpus (lines permuted for an epoch)": [10**5, 10**6, 10**7],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    tokenizer = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "model"))
    makers: list[Callable[[int], Callable[[], None]]] = [
        lambda size: step(size, 16, 256),
        lambda size: step(16, size, 256),
        lambda size: step(16, 16, size),
        lambda size: lambda: tokenise(tokenizer, size),
        lambda size: lambda: permute(size),
    ]
    costs: dict[str, list[float]] = {}
    for (name, sizes), make in zip(SIZES.items(), makers, strict=True):
        seconds = alternate({str(size): make(size) for size in sizes}, rounds)
        costs[name] = [min(seconds[str(size)]) for size in sizes]
    rows: list[list[Any]] = [
        [name, SIZES[name], [float(f"{value:.3g}") for value in cost], "s", fitted(SIZES[name], cost)[0]]
        for name, cost in costs.items()
    ]
    draw(costs)
    with tempfile.TemporaryDirectory() as folder:
        one, two = (sentences_per_second(Path(folder, name), *how) for name, how in PROCESSES.items())
    rows.append(["processes of `train`", [1, 2], [round(one), round(two)], "sentences/s", None])
    rows.append(["two processes over one", None, round(two / one, 2), "times the rate", None])
    columns = [Column("size"), Column("values"), Column("best"), Column("unit"), Column("exponent", "", ".2f")]
    report("scaling", __doc__, "Cost against size", columns, rows, machine("transformers"))


def fitted(sizes: list[int], cost: list[float]) -> tuple[float, float]:
    """Fit cost = c x size^k and return k and log c."""
    exponent, offset = np.polyfit(np.log(sizes), np.log(cost), 1)
    return float(exponent), float(offset)


def draw(costs: dict[str, list[float]]) -> None:
    """Draw seconds against size, both logarithmic, and the fitted line."""
    figure, axes = plt.subplots(1, len(costs), figsize=(15, 3.2), layout="constrained")
    for (name, cost), axis in zip(costs.items(), axes, strict=True):
        sizes = SIZES[name]
        exponent, offset = fitted(sizes, cost)
        axis.loglog(sizes, cost, "ko")
        axis.loglog(sizes, np.exp(offset) * np.array(sizes) ** exponent, "k--", label=f"size^{exponent:.2f}")
        axis.set_xticks(sizes, [f"{size:,}" if size < 10**5 else f"{size:.0e}".replace("+0", "") for size in sizes])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        what, _, rest = name.partition(" (")
        axis.set(title=what, xlabel=rest.removesuffix(")"))
        axis.legend()
    axes[0].set_ylabel("seconds")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "scaling.png", dpi=100)


def step(pairs: int, length: int, width: int) -> Callable[[], None]:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=1000, hidden_size=width, num_hidden_layers=3, num_attention_heads=width // 64,
                        intermediate_size=4 * width)  # fmt: skip
    encoder = SentenceEncoder(BertModel(config), "avg", "none").train()
    optimizer = torch.optim.AdamW(encoder.parameters(), fused=True)
    ids_NL = torch.randint(5, 1000, (2 * pairs, length))

    def take() -> None:
        views = encoder(ids_NL, torch.ones_like(ids_NL)).unflatten(0, (-1, 2)).unbind(1)
        contrastive_loss(contrastive_logits(*views, temperature=0.05)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return take


def tokenise(tokenizer: object, lines: int) -> None:
    texts = ["The river rose by a metre in the night."] * lines
    for first in range(0, lines, BLOCK):  # as `train` does it
        token_ids(texts[first : first + BLOCK], tokenizer, 32)  # type: ignore[arg-type]


def permute(lines: int) -> None:
    EpochOrder(lines, seed=1).permutation()


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PROCESSES = {
    "one": (str(CORES), ["trainer=cpu"]),
    "two": (str(max(1, CORES // 2)), ["trainer=ddp_cpu", "trainer.devices=2"]),
}


def sentences_per_second(folder: Path, threads: str, overrides: list[str]) -> float:
    """Train the quickstart for 21 steps and return the median of the rates that it logs."""
    command = [sys.executable, "-m", "simcse_lit.train", "experiment=quickstart", "trainer.max_steps=21", *overrides,
               "data.batch_size=64", "evaluation.before=false", "evaluation.test=false", "trainer.val_check_interval=1000",
               "callbacks.final_validation=null", "demo.corpus=null", "demo.queries=[]",
               f"hydra.run.dir={folder}"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    subprocess.run(command, cwd=folder.parent, env=environment, check=True, capture_output=True)
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rates = [row["train/sentences_per_second"] for row in csv.DictReader(file)]
    return float(np.median([float(rate) for rate in rates if rate]))


if __name__ == "__main__":
    main()
