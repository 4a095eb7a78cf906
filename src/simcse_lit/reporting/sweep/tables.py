"""The tables of a sweep as Markdown, LaTeX and CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from simcse_lit.reporting.sweep.comparison import Comparison, Setting, show
from simcse_lit.reporting.sweep.page import BESIDE, before, made, notes, p_value, protocol, score, shared
from simcse_lit.reporting.sweep.paper import Published
from simcse_lit.reporting.sweep.runs import FINISHED, Run
from simcse_lit.tables import latex_text

Table = Sequence[Sequence[str]]  # the first row is the head


def score_table(comparison: Comparison) -> Table:
    """One row a setting: its values, runs, each score as mean ± std, and the difference from the baseline with its p."""
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
    """One row a published figure, with ours beside it."""
    rows = [["setting", "score", "paper", "ours", "source"]]
    for row in published:
        ours = mean_and_std(row.ours, row.metric) if row.ours and row.ours.scores(row.metric) else "not run"
        rows.append([row.label, row.metric, score(row.score), ours, row.source])
    return rows


def mean_and_std(setting: Setting, metric: str) -> str:
    """71.02 ± 0.11, or 71.02 of one run, or –."""
    std = setting.std(metric)
    return score(setting.mean(metric)) + ("" if std is None else f" ± {score(std)}")


def write_tables(
    folder: Path, *, title: str, runs: Sequence[Run], comparison: Comparison, published: Sequence[Published]
) -> None:
    """report.md, report.tex and results.csv in the folder."""
    scores = [score_table(comparison)] if comparison.settings else []
    beside = [paper_table(published)] if comparison.settings and published else []
    unfinished = [run for run in runs if run.state != FINISHED]
    lines = [f"# {_markdown(title)}", ""]
    if comparison.settings:
        lines += [f"{_markdown(part)}\n" for part in (made(runs), _same(comparison)) if part]
        lines += [protocol(comparison), ""]
    lines += [f"{markdown(table)}\n" for table in scores]
    lines += [f"{note}\n" for note in notes(comparison)]
    lines += [f"{BESIDE}\n\n{markdown(table)}\n" for table in beside]
    lines += [
        f"- {run.state}: {_markdown(run.label or ' '.join(run.overrides))} {_markdown(run.note)}".rstrip()
        for run in unfinished
    ]
    (folder / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (folder / "report.tex").write_text("\n\n".join(map(latex, scores + beside)) + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", runs, comparison)


def _same(comparison: Comparison) -> str:
    """What all runs share, on one line; of a file its name, since its folder is of one machine."""
    facts = [(key, show(value)) for key, value in shared(comparison)]
    parts = (f"{key} {Path(value).name if Path(value).is_absolute() else value}" for key, value in facts)
    return f"All runs: {', '.join(parts)}."


def markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [f"| {' | '.join(map(_markdown, row))} |" for row in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def latex(table: Table) -> str:
    """A table as a LaTeX tabular without packages."""
    lines = [f"{' & '.join(latex_text(cell) for cell in row)} \\\\" for row in table]
    return "\n".join(
        [f"\\begin{{tabular}}{{l{'c' * (len(table[0]) - 1)}}}", lines[0], "\\hline", *lines[1:], "\\end{tabular}"]
    )


def _markdown(text: str) -> str:
    """Text on one line that is neither markup nor the end of a cell."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|" else character for character in text)


def _write_csv(path: Path, runs: Sequence[Run], comparison: Comparison) -> None:
    """One line a run, whatever its state: folder, state, what varied, seed, every score after training."""
    keys = [axis.key for axis in comparison.axes]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "state", *keys, "seed", *comparison.metrics])
        for run in runs:
            facts = [show(run.facts[key]) if key in run.facts else "" for key in (*keys, "seed")]
            writer.writerow([run.label, run.state, *facts, *(run.scores.get(name, "") for name in comparison.metrics)])
