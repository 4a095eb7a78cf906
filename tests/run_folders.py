"""Run folders made by hand: what training leaves in them, without training."""

import csv
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "name": "unsup",
    "seed": 42,
    "resume": None,
    "model": {"name_or_path": "google-bert/bert-base-uncased", "num_layers": None},
    "loss": {"name": "unsup", "temperature": 0.05, "columns": ["text"]},
    "pooler": {"name": "cls"},
    "projection": {"name": "mlp_train_only"},
    "data": {"train_file": "wiki.txt", "batch_size": 64, "max_length": 32, "num_workers": 0},
    "optimizer": {"lr": 3e-5, "schedule": "linear"},
    "trainer": {"max_epochs": 1, "max_steps": -1, "precision": "32-true", "devices": 1},
    "callbacks": {"checkpoint": {"dirpath": "?"}},
}
CHOICES = {"experiment": None, "model": "bert-base", "loss": "unsup", "pooler": "cls", "projection": "mlp_train_only"}


def make_run(
    folder: Path,
    overrides: Sequence[str],
    changed: Mapping[str, Any],
    *,
    after: Mapping[str, float] | None = None,
    before: Mapping[str, float] | None = None,
    metrics: Sequence[Mapping[str, float]] = (),
    choices: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> None:
    """A run folder.

    Args:
        folder: its place.
        overrides: what the run was started with.
        changed: dotted keys of the resolved configuration that differ from CONFIG.
        after: scores of a finished run; None for one that is not.
        before: likewise, of the untrained encoder.
        metrics: rows of metrics.csv; each has "step".
        choices: options of groups that differ from CHOICES.
        error: why it failed.
    """
    config = json.loads(json.dumps(CONFIG))
    for key, value in {"run_dir": str(folder), "callbacks.checkpoint.dirpath": f"{folder}/checkpoints", **changed}.items():
        *groups, leaf = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[leaf] = value
    hydra = {
        "job": {"name": "train", "config_name": "train"},
        "runtime": {"choices": {**CHOICES, **(choices or {}), "hydra/launcher": "processes"}, "config_sources": []},
    }
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"device": "cpu: a processor", "git_commit": "0123abc", "libraries": {"torch": "2.13.0"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    if after is not None:
        (folder / "scores.json").write_text(
            json.dumps({stage: parted(row) for stage, row in (("before", before), ("after", after)) if row})
        )
    if metrics:
        names = list(dict.fromkeys(name for row in metrics for name in row))
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", *names])
            writer.writeheader()
            writer.writerows(metrics)
    if error:
        (folder / "error.txt").write_text(error)


def parted(row: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Scores as scores.json has them: the first task is the development set."""
    (dev, score), *tests = row.items()
    return {"dev": {dev: score}, "test": dict(tests)}


def learning(steps: int, best: float, seed: int) -> list[dict[str, float]]:
    """What a run that goes well logs, with noise."""
    draw = random.Random(seed)
    rows: list[dict[str, float]] = []
    for step in range(0, steps + 1, 10):
        done = step / steps
        rows.append({"step": step, "lr-AdamW": 3e-5 * (1 - done)})
        if step:
            rows.append({"step": step, "train/loss": 0.2 + 2 * math.exp(-5 * done) + draw.uniform(0, 0.1)})
            rows[-1] |= {"train/sentences_per_second": draw.uniform(900, 1000), "train/gradient_norm": 1 + draw.random()}
            rows[-1] |= {"train/positive_cosine": 0.9 + 0.05 * done, "train/negative_cosine": 0.5 - 0.4 * done}
        if step % 50 == 0:
            score = best - 20 * math.exp(-6 * done) + draw.uniform(-0.4, 0)
            spot = {
                "val/alignment": 0.2 + 0.1 * done + draw.uniform(0, 0.01),
                "val/uniformity": -1.5 - done + draw.uniform(0, 0.1),
            }
            rows.append({"step": step, "val/sts": score, **spot})
    return rows


def make_sweep(
    root: Path, temperatures: Sequence[Any], seeds: Sequence[int], poolers: Sequence[str] = ("cls",), *, curves: bool = False
) -> None:
    """A finished sweep over temperatures, poolers and seeds, each with its own scores, and perhaps a metrics.csv."""
    draw = random.Random(0)
    number = 0
    for temperature in temperatures:
        for pooler in poolers:
            for seed in seeds:
                middle = 76 - (3 * abs(math.log10(float(temperature) / 0.05)) if isinstance(temperature, float) else 0)
                score = middle - (pooler != "cls") + draw.gauss(0, 0.4)
                make_run(
                    root / str(number),
                    ["trainer.max_steps=250", f"loss.temperature={temperature}", f"pooler={pooler}", f"seed={seed}"],
                    {"loss.temperature": temperature, "pooler.name": pooler, "seed": seed},
                    after={"STS-B-dev": score, "STS12": score - 8, "STS-B": score - 1, "Avg.": score - 3},
                    before={"STS-B-dev": 50.0, "STS12": 40.0, "STS-B": 45.0, "Avg.": 43.0},
                    metrics=learning(250, score, number) if curves else (),
                    choices={"pooler": pooler},
                )
                number += 1
