"""One training step of all-MiniLM-L6-v2 against a plain reference loop and against sentence-transformers' trainer: time
and peak memory. 32 tokens, AdamW, gradients clipped to 1; batches of 128 NLI triplets (supervised) and of 64 sentences
of Wikipedia (unsupervised). The reference loop does what SimCSE's own code does: it pads all views of a batch together
to the longest, and takes one forward and one backward pass. sentence-transformers trains with its defaults and
MultipleNegativesRankingLoss, and pads each view separately. simcse-lit is the module of `train` under Lightning. The
first step of a round fills caches and is not counted. Memory is that of a fresh process that takes two supervised
steps. The bound is what leaving out all padding can give at most.

Run: python benchmarks/training_step.py [--steps N] [--rounds N] [--pooler cls|avg] [--precision 32-true|bf16-mixed].
Needs SIMCSE_DATA.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from datasets import Dataset
from harness import (
    MINILM,
    Column,
    alternate,
    machine,
    peak_memory,
    precision_suffix,
    ratio,
    real_data,
    report,
    summary,
    train_config,
)
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from transformers import TrainerCallback

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import TrainConfig
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.text.examples import examples
from simcse_lit.text.sources import open_sources
from simcse_lit.training.build import build

WORK = {
    "sup": ("sup step, 128 triplets", ["loss=sup", "data.batch_size=128", "data=file"], "nli/snli_triplets.csv"),
    "unsup": ("unsup step, 64 sentences", ["loss=unsup", "data.batch_size=64", "data=file"], "wiki/wiki1m_head.txt"),
}
OURS, REFERENCE, PEER = "ours", "reference loop", "sentence-transformers"
Way = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="of a round; the first is not counted")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pooler", default="cls", choices=("cls", "avg"))
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    chosen = parser.parse_args()
    rows = []
    for work, (title, _, _) in WORK.items():
        peers = (REFERENCE, PEER)
        measured = (OURS, *peers) if work == "sup" else ()
        memory = {name: peak_memory(once, work, name, chosen.pooler, chosen.precision) for name in measured}
        config = configuration(work, chosen.pooler, chosen.precision)
        ways = {name: prepare(config, name, chosen.steps) for name in (OURS, *peers)}
        padding = padded_fractions(config, chosen.steps)
        seconds = alternate(ways, chosen.rounds, warm_up=False)
        for peer in peers:
            row = [
                title,
                peer,
                summary(seconds[peer]),
                summary(seconds[OURS]),
                ratio(seconds[peer], seconds[OURS]),
                padding[peer],
                1 / (1 - padding[peer]),
                *([memory[peer], memory[OURS], memory[OURS] / memory[peer]] if memory else [None] * 3),
            ]
            rows.append(row)
    columns = [
        Column("work"),
        Column("peer"),
        Column("its step", "s", ".3f"),
        Column("simcse-lit", "s", ".3f"),
        Column("times faster", "", ".2f"),
        Column("padding of the peer", "", ".2f"),
        Column("bound", "", ".2f"),
        Column("its peak", "MiB", ",.0f"),
        Column("simcse-lit", "MiB", ",.0f"),
        Column("of its peak", "", ".2f"),
    ]
    about = machine("pytorch-lightning", "transformers", "sentence-transformers")
    title = f"A training step, pooler {chosen.pooler}, {chosen.precision}"
    name = "training_step" + ("_avg" if chosen.pooler == "avg" else "") + precision_suffix(chosen.precision)
    report(name, __doc__, title, columns, rows, about)


def configuration(work: str, pooler: str, precision: str) -> TrainConfig:
    _, overrides, file = WORK[work]
    extra = [f"data.train_file={real_data(file)}", f"trainer.precision={precision}", f"pooler={pooler}", "projection=none"]
    return train_config(*overrides, *extra, "optimizer.lr=5e-5")


def once(work: str, name: str, pooler: str, precision: str) -> None:
    """Take two steps, for a process whose memory is watched."""
    prepare(configuration(work, pooler, precision), name, steps=2)()


def prepare(config: TrainConfig, name: str, steps: int) -> Way:
    """Return a function that takes `steps` steps and returns the seconds of one, without the first."""
    return {OURS: ours, REFERENCE: reference, PEER: peer}[name](config, steps)


class Clock(pl.Callback):
    """Seconds from the end of the first step to the end of the last, by step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class PeerClock(TrainerCallback):
    """The same for the trainer of transformers."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.on_train_batch_end()


def ours(config: TrainConfig, steps: int) -> Way:
    module, data = build(config)
    data.prepare_corpus()

    def run() -> float:
        clock = Clock()
        trainer = pl.Trainer(
            accelerator="cpu",
            precision=config.trainer.precision,  # type: ignore[arg-type]
            max_steps=steps,
            gradient_clip_val=1.0,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
        )
        module.train()
        trainer.fit(module, data)
        return clock.seconds

    return run


def reference(config: TrainConfig, steps: int) -> Way:
    """The plain loop: pad all views to the longest, one forward pass, one backward pass, clip, AdamW."""
    module, data = build(config)
    encoder = module.encoder
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=config.optimizer.lr, weight_decay=0.0)
    half = config.trainer.precision == "bf16-mixed"

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        ids_NL, mask_NL = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            hidden_NLH = encoder.backbone(input_ids=ids_NL, attention_mask=mask_NL).last_hidden_state
            vectors_NH = make_pooler(config.pooler)((hidden_NLH,), mask_NL)
        views = F.normalize(vectors_NH.float(), dim=-1).unflatten(0, batch["input_ids"].shape[:2]).unbind(1)
        logits = views[0] @ torch.cat(views[1:]).T / config.loss.temperature
        return F.cross_entropy(logits, torch.arange(len(logits)))

    def run() -> float:
        encoder.train()
        ends = []
        for _, batch in zip(range(steps), data.train_dataloader(), strict=False):
            optimizer.zero_grad()
            loss_of(batch).backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            ends.append(time.perf_counter())
        return (ends[-1] - ends[0]) / (steps - 1)

    return run


def peer(config: TrainConfig, steps: int) -> Way:
    """sentence-transformers' trainer, with the loss that equals SimCSE's."""
    model = SentenceTransformer(str(local_path(MINILM, "model")), device="cpu")
    model.max_seq_length = config.data.max_length
    mode = {"cls": "cls", "avg": "mean"}[config.pooler.name]
    model[1] = Pooling(model.get_embedding_dimension(), mode)
    columns = zip(*texts_of(config, steps), strict=True)
    dataset = Dataset.from_dict({f"view{place}": list(column) for place, column in enumerate(columns)})

    def run() -> float:
        counted = PeerClock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=config.data.batch_size,
                max_steps=steps,
                learning_rate=config.optimizer.lr,
                bf16=config.trainer.precision == "bf16-mixed",
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                logging_strategy="no",
                seed=config.seed,
            )
            SentenceTransformerTrainer(
                model=model,
                args=arguments,
                train_dataset=dataset,
                loss=MultipleNegativesRankingLoss(model, scale=1 / config.loss.temperature),
                callbacks=[counted],
            ).train()
        return counted.clock.seconds

    return run


def texts_of(config: TrainConfig, steps: int) -> list[tuple[str, ...]]:
    """Return the examples of the first batches of simcse-lit; an unsupervised sentence stands in both views."""
    rows = [
        row.fields for row in examples(open_sources(config.data.train_file, None, key="data"), config.data.columns, "error")
    ]
    data = build(config).data
    chosen = [rows[row] for batch in range(steps) for row in data.rows_of(batch) or []]
    return [fields * 2 if len(fields) == 1 else fields for fields in chosen]


def padded_fractions(config: TrainConfig, steps: int) -> dict[str, float]:
    """Return the share of each peer's tokens that are padding, over all batches."""
    masks = [batch["attention_mask"] for _, batch in zip(range(steps), build(config).data.train_dataloader(), strict=False)]
    real = sum(int(mask.sum()) for mask in masks)
    by_view = sum(len(mask) * int(mask.sum(2).amax(0).sum()) for mask in masks)
    return {REFERENCE: 1 - real / sum(mask.numel() for mask in masks), PEER: 1 - real / by_view}


if __name__ == "__main__":
    main()
