"""Writes the tables of a sweep as Markdown, LaTeX and CSV. `comparison.py` computes the numbers."""

import csv
from collections.abc import Sequence
from pathlib import Path

from simcse_lit.reporting.sweep.comparison import Comparison, show
from simcse_lit.reporting.sweep.paper import Published
from simcse_lit.reporting.sweep.runs import FINISHED, Run
from simcse_lit.reporting.sweep.summary import (
    BESIDE,
    before,
    corpora,
    made,
    mean_and_std,
    notes,
    p_value,
    protocol,
    score,
    shared,
)
from simcse_lit.tables import Table, latex_table, markdown_table, markdown_text


def score_table(comparison: Comparison) -> Table:
    """Return a row for each setting: values, number of runs, mean ± std of each score, difference with p-values."""
    differences = comparison.differences()
    keys = [axis.key for axis in comparison.axes] or ["run"]
    tested = [f"Δ {comparison.metric}", "p", "p, Holm"] if differences else []
    rows = [[*keys, "runs", *comparison.metrics, *tested]]
    for setting in comparison.settings:
        row = [*(map(show, setting.values) if setting.values else [setting.label]), str(len(setting.runs))]
        row += [mean_and_std(setting, name) for name in comparison.metrics]
        gain = differences.get(setting.values)
        if gain:
            row += [f"{gain.difference:+.2f}", p_value(gain.p), p_value(gain.p_holm)]
        elif tested:
            row += ["baseline" if setting is comparison.baseline else "–", "–", "–"]
        rows.append(row)
    for label, scores in before(comparison):
        blank = [""] * (len(keys) - 1)
        rows.append([label, *blank, "–", *(score(scores.get(name)) for name in comparison.metrics), *["–"] * len(tested)])
    return rows


def paper_table(published: Sequence[Published]) -> Table:
    """Return a row for each published score, with our score of the same setting."""
    rows = [["setting", "score", "paper", "ours", "source"]]
    for row in published:
        ours = mean_and_std(row.ours, row.metric) if row.ours and row.ours.scores(row.metric) else "not run"
        rows.append([row.label, row.metric, score(row.score), ours, row.source])
    return rows


def write_tables(
    folder: Path, *, title: str, runs: Sequence[Run], comparison: Comparison, published: Sequence[Published]
) -> None:
    """Write report.md, report.tex and results.csv into the folder."""
    scores = [score_table(comparison)] if comparison.settings else []
    beside = [paper_table(published)] if comparison.settings and published else []
    unfinished = [run for run in runs if run.state != FINISHED]
    lines = [f"# {markdown_text(title)}", ""]
    if comparison.settings:
        lines += [f"{markdown_text(part)}\n" for part in (made(runs), *corpora(runs), _same(comparison)) if part]
        lines += [protocol(comparison), ""]
    lines += [f"{markdown_table(table)}\n" for table in scores]
    lines += [f"{note}\n" for note in notes(comparison)]
    lines += [f"{BESIDE}\n\n{markdown_table(table)}\n" for table in beside]
    lines += [
        f"- {run.state}: {markdown_text(run.label or ' '.join(run.overrides))} {markdown_text(run.note)}".rstrip()
        for run in unfinished
    ]
    (folder / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (folder / "report.tex").write_text("\n\n".join(map(latex_table, scores + beside)) + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", runs, comparison)


def _same(comparison: Comparison) -> str:
    """Describe on one line what all runs share. Files have their name only, since their folders belong to one machine."""
    facts = [(key, show(value)) for key, value in shared(comparison)]
    parts = (f"{key} {Path(value).name if Path(value).is_absolute() else value}" for key, value in facts)
    return f"All runs: {', '.join(parts)}."


def _write_csv(path: Path, runs: Sequence[Run], comparison: Comparison) -> None:
    """Write a line for each run, in any state: folder, state, values on the axes, seed, every score after training."""
    keys = [axis.key for axis in comparison.axes]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "state", *keys, "seed", *comparison.metrics])
        for run in runs:
            facts = [show(run.facts[key]) if key in run.facts else "" for key in (*keys, "seed")]
            writer.writerow([run.label, run.state, *facts, *(run.scores.get(name, "") for name in comparison.metrics)])
