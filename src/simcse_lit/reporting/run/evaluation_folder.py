"""Messages of `evaluate` on the terminal, and the files of its folder: results.json, results.csv, tables and figures.

`evaluation/` computes the numbers, and `figures.py` draws the figures.
"""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import simcse_lit
from simcse_lit.config.schema import EvaluateConfig
from simcse_lit.evaluation.analyses import numbers
from simcse_lit.evaluation.results import Comparison, EncoderResult, as_json
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Task
from simcse_lit.families import STS, TRANSFER, Family
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.reporting.run.figures import Draw
from simcse_lit.reporting.run.run_folder import device_name, git_commit
from simcse_lit.tables import Table, by_family, latex_table, markdown_table, score_cells, score_table, shortened

log = logging.getLogger(__name__)

FILES = ("results", "table", "config", "environment", "error")  # names of other files, not for analyses


def describe(loaded: LoadedEncoder, config: EvaluateConfig) -> dict[str, Any]:
    """Describe how an encoder is read, for results.json."""
    chosen = config.postprocess
    return {
        "checkpoint": loaded.source,
        "kind": loaded.kind,
        "pooler": loaded.pooler,
        "projection": loaded.projection,
        "prompt": loaded.prompts.of("text"),
        "max_length": min(config.max_length, loaded.max_length),
        "truncate_dim": loaded.encoder.truncate_dim,
        "postprocess": vars(chosen) if chosen.transform else None,
        "precision": config.precision,
    }


def announce(label: str, loaded: LoadedEncoder, config: EvaluateConfig) -> None:
    """Log which encoder is scored, and how it is read."""
    million = sum(parameter.numel() for parameter in loaded.encoder.parameters()) / 1e6
    lines = [
        f"Encoder  {shortened(label, 70)}",
        f"         {shortened(loaded.source, 70)}",
        f"         {loaded.kind}, {million:.1f}M parameters",
        f"         pooler {loaded.pooler}, projection {loaded.projection}, "
        f"at most {min(config.max_length, loaded.max_length)} tokens",
    ]
    if loaded.encoder.truncate_dim is not None:
        lines.append(f"         the first {loaded.encoder.truncate_dim} numbers of a vector")
    if prompt := loaded.prompts.of("text"):
        lines.append(f"         prompt {shortened(prompt, 63)}")
    chosen = config.postprocess
    if chosen.transform:
        width = f" to {chosen.dim}" if chosen.dim else ""
        lines.append(f"         then {chosen.name}{width}, fitted on {chosen.fit_on or 'the sentences of each task'}")
    log.info("%s", "\n".join(lines))


def say_encoded(encoding: Mapping[str, Any], device: torch.device) -> None:
    """Log the number of encoded sentences and the speed."""
    new = encoding["unique_sentences"] - encoding["from_cache"]
    cached = f", {encoding['from_cache']:,} from the cache" if encoding["from_cache"] else ""
    log.info(
        "Encoded  %s sentences for %s of the tasks%s\n         in %.1f s, %s a second, on %s",
        f"{new:,}",
        f"{encoding['sentences_in_tasks']:,}",
        cached,
        encoding["seconds"],
        f"{encoding['sentences_per_second']:,.0f}",
        f"{device.type} ({shortened(device_name(device), 40)})",
    )


def show(
    folder: Path,
    config: EvaluateConfig,
    encoders: Sequence[EncoderResult],
    tasks: Sequence[Task],
    analysed: STSTask | None,
    compared: Comparison | None,
    seeds: Mapping[str, tuple[float, float]],
) -> None:
    """Log the tables in the paper's column order, the numbers of the analyses, and the names of the files.

    Args:
        folder: of the evaluation.
        config: of the evaluation.
        encoders: with their results.
        tasks: the tasks that were scored.
        analysed: the set of the analyses, or None.
        compared: the comparison of two encoders, or None.
        seeds: mean and standard deviation of each score over encoders; empty for one encoder.
    """
    share = f"{100 * config.bootstrap.confidence:g} %"
    families = {task.name: task.family for task in tasks}
    rows = _rows(encoders, seeds, config.bootstrap.confidence)
    for family, part in by_family(rows, families).items():
        resampled = {name for encoder in encoders for name in encoder.resampled}
        interval = f", with the {share} bootstrap interval" if resampled & part[0][1].keys() else ""
        log.info("\n%s%s\n%s", family.heading, interval, score_table(part, families))
    for task in tasks:
        f1 = [f"{encoder.label} {encoder.results[task.name].metrics['f1']:.2f}" for encoder in encoders
              if task.family == TRANSFER and "f1" in encoder.results[task.name].metrics]  # fmt: skip
        if f1:
            log.info("%s F1: %s", task.name, "   ".join(f1))
    if compared:
        _show_comparison(compared, families, share)
    if analysed is not None:
        log.info("\nAnalyses of %s, %s pairs", analysed.name, f"{len(analysed.pairs):,}")
        for encoder in encoders:
            _show_analyses(encoder)
    root = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    log.info("\nWritten to %s", root)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".csv", ".md", ".tex", ".png") and path.name != "environment.json":
            log.info("  %s", path.name)


def _rows(
    encoders: Sequence[EncoderResult], seeds: Mapping[str, tuple[float, float]], confidence: float | None = None
) -> list[tuple[str, dict[str, float]]]:
    """Return a row of scores for each encoder, then the mean and the standard deviation over encoders.

    Args:
        encoders: with their results.
        seeds: mean and standard deviation of each score; empty for one encoder.
        confidence: of the bootstrap interval, shown in two rows below each encoder; None to leave it out.
    """
    rows = []
    for encoder in encoders:
        rows.append((encoder.label, encoder.scores))
        if confidence is not None:
            rows += _sides(("  from", "  to"), encoder.intervals(confidence))
    return rows + _sides(("mean", "std"), seeds)


def _sides(labels: tuple[str, str], pairs: Mapping[str, tuple[float, float]]) -> list[tuple[str, dict[str, float]]]:
    """Turn pairs of numbers by task into two rows of a table; no rows without pairs."""
    return [(label, {name: pair[place] for name, pair in pairs.items()}) for place, label in enumerate(labels) if pairs]


def _show_comparison(compared: Comparison, families: Mapping[str, Family], share: str) -> None:
    """Log the difference of two encoders on each STS task, with interval and p-value, and the tasks without one."""
    sides = {"difference": "difference", "low": "  from", "high": "  to", "p": "p"}
    table = [(head, {name: vars(one)[side] for name, one in compared.by_task.items()}) for side, head in sides.items()]
    second, first = shortened(compared.second, 20), shortened(compared.first, 20)
    if compared.by_task:
        log.info("\n%s minus %s, paired bootstrap, %s interval\n%s", second, first, share, score_table(table, families))
    if untested := ", ".join(name for name in families if name not in compared.by_task):
        log.info("\nNot compared (the bootstrap needs the pairs of an STS task): %s", untested)


def _show_analyses(encoder: EncoderResult) -> None:
    """Log the single numbers of all analyses of an encoder."""
    log.info("  %s", shortened(encoder.label, 70))
    for measured in encoder.analyses.values():
        for name, value in numbers(measured).items():
            shown = f"{value:8.4f}" if isinstance(value, float) else f"{value:3,}"
            log.info("    %s%s", f"{name.replace('_', ' '):<20}", shown)


def write(
    folder: Path,
    config: EvaluateConfig,
    encoders: Sequence[EncoderResult],
    tasks: Sequence[Task],
    compared: Comparison | None,
    seeds: Mapping[str, tuple[float, float]],
    missing: Mapping[str, str],
    drawn: Mapping[str, Draw],
) -> None:
    """Write results.json, results.csv, table.md, table.tex, and for each analysis its JSON file and its figure or table.

    Args:
        folder: of the evaluation.
        config: of the evaluation.
        encoders: with their results.
        tasks: the tasks that were scored.
        compared: the comparison of two encoders, or None.
        seeds: mean and standard deviation of each score; empty for one encoder.
        missing: the reason why a task was not scored, by the name of the task.
        drawn: the function that draws an analysis, by the name of the analysis.
    """
    content = as_json(
        encoders,
        tasks,
        confidence=config.bootstrap.confidence,
        compared=compared,
        seeds=seeds,
        missing=missing,
        made={
            "simcse_lit": simcse_lit.__version__,
            "git_commit": git_commit(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "bootstrap": vars(config.bootstrap),
        },
    )
    _write_json(folder / "results.json", content)
    _write_csv(folder / "results.csv", content)
    if tasks:
        table = score_cells(_rows(encoders, seeds), {task.name: task.family for task in tasks}, "Model")
        (folder / "table.md").write_text(markdown_table(table) + "\n", encoding="utf-8")
        (folder / "table.tex").write_text(latex_table(table) + "\n", encoding="utf-8")
    for name in encoders[0].analyses:
        by_label = {encoder["label"]: dict(encoder["analyses"][name]) for encoder in content["encoders"]}
        _write_json(folder / f"{name}.json", by_label)
        if draw := drawn.get(name):
            for encoder in encoders:
                if STS.average in encoder.averages:
                    by_label[encoder.label].setdefault("score", encoder.averages[STS.average])
            draw(by_label, folder / f"{name}.png")
        elif cells := _analysis_cells(by_label):
            (folder / f"{name}.md").write_text(markdown_table(cells) + "\n", encoding="utf-8")


def _analysis_cells(by_label: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the cells of a table: a row for each encoder, a column for each number; no cells without numbers."""
    rows = {label: numbers(measured) for label, measured in by_label.items()}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [[label, *(f"{row[name]:g}" if name in row else "" for name in names)] for label, row in rows.items()]
    return [["Model", *names], *cells] if names else []


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, content: Mapping[str, Any]) -> None:
    """Write a line for each number: encoder, task, subset, metric, value."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["encoder", "task", "subset", "metric", "value"])
        for encoder in content["encoders"]:
            for name, task in encoder["tasks"].items():
                for subset, metrics in [("", task), *task["subsets"].items()]:
                    for metric, value in metrics.items():
                        if isinstance(value, (int, float)):
                            writer.writerow([encoder["label"], name, subset, metric, value])
                for metric, value in zip(("low", "high"), task["interval"] or (), strict=False):
                    writer.writerow([encoder["label"], name, "", metric, value])
            for name, average in encoder["averages"].items():
                writer.writerow([encoder["label"], name, "", "score", average["score"]])


def explain_missing(missing: Mapping[str, str]) -> str:
    """Make one message for all tasks whose data are missing. Tasks with the same reason share a line."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    told = "\n".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    return f"tasks: {len(missing)} could not be scored.\n{told}"
