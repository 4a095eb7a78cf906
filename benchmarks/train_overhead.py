"""What Lightning, callbacks and loggers add to a training step. A bare loop over the same parts (length chunks, loss,
clipping, fused AdamW, schedule) against `train` with everything that conf/ switches on but scoring, both with the tiny
encoder and batches of 8, A B A B in one run: the arithmetic is short there, so that what is added stands out. The
overhead is what is added over a step of the bare loop with three layers of MiniLM on batches of 64 NLI triplets.

Run: python benchmarks/train_overhead.py [--steps N] [--rounds N]. Needs SIMCSE_DATA.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from harness import QUANTITIES, alternate, machine, real_data, report, summary, train_config
from transformers import get_scheduler

from simcse_lit.config.schema import TrainConfig
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.train import main as train
from simcse_lit.training.build import build
from simcse_lit.training.chunking import encode_in_chunks, plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    tiny = configuration("model=tiny", 8, chosen.steps)
    seconds = alternate({"train": lambda: whole(tiny), "bare loop": lambda: bare(tiny, chosen.steps)}, chosen.rounds)
    each = {name: statistics.median(times) / chosen.steps for name, times in seconds.items()}
    added = each["train"] - each["bare loop"]
    real = bare(configuration("model=minilm-l3", 64, 10), 10) / 10
    rows = [[f"{name}, tiny encoder, {chosen.steps} steps", summary(times), "s"] for name, times in seconds.items()]
    rows.append(["added to a step", round(added * 1000, 1), "ms"])
    rows.append(["bare step with three layers of MiniLM, batch 64", round(real * 1000), "ms"])
    rows.append(["overhead of `train` over it", round(100 * added / real, 1), "%"])
    report("train_overhead", __doc__, "What a `train` run adds to a step", QUANTITIES, rows, machine("pytorch-lightning"))


def configuration(model: str, batch: int, steps: int) -> TrainConfig:
    """Compose the quickstart's settings with NLI triplets and without scoring."""
    return train_config(
        "experiment=quickstart",
        model,
        "data=file",
        f"data.train_file={real_data('nli/snli_triplets.csv')}",
        f"data.batch_size={batch}",
        f"trainer.max_steps={steps}",
        "trainer.max_epochs=-1",
        "trainer.val_check_interval=100000",
        "callbacks.final_validation=null",
        "demo.corpus=null",
        "demo.queries=[]",
    )


def whole(config: TrainConfig) -> float:
    """Train, and return the seconds of all steps as `Clock` measures them."""
    config.evaluation.before = config.evaluation.test = False
    with tempfile.TemporaryDirectory() as folder:
        config.callbacks["clock"] = {"_target_": "train_overhead.Clock"}
        config.run_dir = str(Path(folder) / "run")
        for logger in config.logger.values():
            logger["save_dir"] = config.run_dir
        for name in ("checkpoint", "last"):
            config.callbacks[name]["dirpath"] = str(Path(folder) / "run" / "checkpoints")
        train(config)
    return Clock.seconds


class Clock(pl.Callback):
    """Notes the seconds of all steps of the last run, extrapolated from those after the first."""

    seconds = 0.0

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())

    def on_train_end(self, *_: object) -> None:
        count = len(self.ends)
        Clock.seconds = (self.ends[-1] - self.ends[0]) * count / (count - 1)


def bare(config: TrainConfig, steps: int) -> float:
    """Run a loop of `steps` steps that does nothing else, and return its seconds."""
    module, data = build(config)
    data.prepare_corpus()
    encoder = module.encoder
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=config.optimizer.lr, weight_decay=0.0, fused=True)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)
    ends: list[float] = []
    while len(ends) < steps:
        for batch in data.train_dataloader():
            ids_NL, mask_NL = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
            chunks = plan(mask_NL, "always", overhead=config.trainer.chunk_overhead)
            views = encode_in_chunks(encoder, ids_NL, mask_NL, chunks).unflatten(0, batch["input_ids"].shape[:2]).unbind(1)
            weight = config.loss.hard_negative_weight
            logits = contrastive_logits(*views, temperature=config.loss.temperature, hard_negative_weight=weight)
            optimizer.zero_grad()
            contrastive_loss(logits).backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            ends.append(time.perf_counter())
            if len(ends) == steps:
                break
    return (ends[-1] - ends[0]) * steps / (steps - 1)


if __name__ == "__main__":
    sys.modules["train_overhead"] = sys.modules[__name__]  # Hydra finds Clock under that name
    main()
