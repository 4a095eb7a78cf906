"""How the cost of a step grows with batch, length, width and corpus, and what a second process gives.

Run: python benchmarks/scaling.py. BERTs of three layers with random weights and random tokens, padded nowhere, float32,
forward pass, loss, backward pass and fused AdamW. Fitted: cost = c x size^k by least squares on logarithms; k = 1 is
linear. Draws benchmarks/results/scaling.png. Processes: `train` by one process with all cores against two with half of them
each (gloo).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from harness import RESULTS, alternate, machine, report
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.tokenisation import BLOCK
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.text.corpus import EpochOrder
from simcse_lit.text.tokens import token_table

SIZES: dict[str, list[int]] = {
    "batch (pairs of 16 tokens, 256 wide)": [8, 16, 32, 64, 128],
    "length (16 pairs, 256 wide)": [8, 16, 32, 64, 128],
    "width (16 pairs of 16 tokens)": [128, 256, 512, 768],
    "corpus (lines tokenised)": [2000, 4000, 8000, 16000],
    "corpus (lines permuted for an epoch)": [10**5, 10**6, 10**7],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    rows = [[name, " ".join(f"{size:,}" for size in SIZES[name]), " ".join(f"{value:.3g}" for value in cost),
             f"{fitted(SIZES[name], cost)[0]:.2f}"] for name, cost in costs.items()]  # fmt: skip
    draw(costs)
    with tempfile.TemporaryDirectory() as folder:
        rates = {name: sentences_per_second(folder, name, *overrides) for name, overrides in PROCESSES.items()}
    one, two = rates.values()
    rows.append(["processes (sentences/s of `train`)", "1 2", f"{one:.0f} {two:.0f}", f"{two / one:.2f} times the rate"])
    report("scaling", "Cost against size", ["size", "values", "seconds (best)", "exponent"], rows, machine("transformers"))


def fitted(sizes: list[int], cost: list[float]) -> tuple[float, float]:
    """k and log c of cost = c x size^k."""
    exponent, offset = np.polyfit(np.log(sizes), np.log(cost), 1)
    return float(exponent), float(offset)


def draw(costs: dict[str, list[float]]) -> None:
    """Seconds against size, both logarithmic, and the line that was fitted."""
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
    rows = [("The river rose by a metre in the night.",)] * lines
    for first in range(0, lines, BLOCK):  # as `train` does it
        token_table(rows[first : first + BLOCK], tokenizer, 32)  # type: ignore[arg-type]


def permute(lines: int) -> None:
    EpochOrder(lines, seed=1).permutation()


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PROCESSES = {
    "one": (str(CORES), ["trainer=cpu"]),
    "two": (str(max(1, CORES // 2)), ["trainer=ddp_cpu", "trainer.devices=2"]),
}


def sentences_per_second(folder: str, name: str, threads: str, overrides: list[str]) -> float:
    """The rate that a short run of the miniature logs at its last step."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "simcse_lit.train", "experiment=quickstart", "trainer.max_steps=21", *overrides,
               "data.batch_size=64", "evaluation.before=false", "evaluation.test=false", "trainer.val_check_interval=1000",
               "callbacks.final_validation=null", "demo.corpus=null", "demo.queries=[]",
               f"hydra.run.dir={name}"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    text = open(os.path.join(folder, name, "metrics.csv")).read()  # noqa: PTH123, SIM115, PTH118
    print(f"{name}: {time.perf_counter() - start:.0f} s")
    header, *lines = [line.split(",") for line in re.split(r"\r?\n", text) if line]
    column = header.index("train/sentences_per_second")
    return float(np.median([float(line[column]) for line in lines if line[column]]))


if __name__ == "__main__":
    main()
