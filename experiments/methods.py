"""The tables and figures of the comparison of methods, from methods.yaml and the rows in experiments/successors/.

Run: python -m experiments.methods. It writes the generated parts of experiments/successors/README.md and
docs/how-to/methods.md, as `python -m experiments.evidence` does, but it needs no data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from experiments import rows as all_rows
from experiments.figures import draw_settings
from experiments.readmes import DEV, NOT_THE_PAPERS, mean_and_sd, spread_of, with_part
from experiments.rows import Row
from experiments.verdicts import scores
from simcse_lit.evaluation.statistics import holm, welch
from simcse_lit.tables import markdown_table

FOLDER = Path(__file__).parent / "successors"
PAGE = FOLDER.parents[1] / "docs" / "how-to" / "methods.md"
BASELINE, AVERAGE = "simcse", "Avg."
SCALES = ("miniature", "paper")
LEGEND = """\
STS-B dev and the average of the seven STS test sets are Spearman × 100, mean ± standard deviation over
seeds. *chosen* is the cell of the grid that STS-B dev chose with seed 0. *gain* is over SimCSE, and *p* is of
Welch's test against it, corrected by Holm's method for all methods. *forwards* is the number of times that
a sentence goes through an encoder in a step. *time* is that of a step, with SimCSE as 1, and *GB* the peak
memory of the process, or of the GPU. Runs side by side slow each other, so *time* is rough."""
CHOICE = """\
*forwards* is the number of times that a sentence goes through an encoder in a step, and says what a step
costs. *miniature* is our gain over SimCSE on the average of the seven STS sets, measured in
[one protocol](../../experiments/successors/README.md) with a small model and few steps. *published* is the
average for BERT-base that the authors print, in settings that differ from each other. A gain of one
point lies inside the spread of seeds ([Seeds](../concepts/seeds.md))."""
AGAINST = """\
The averages of BERT-base that others print, and the gain over SimCSE there and here. *direction* is judged
where p is below 0.05."""


@dataclass(frozen=True)
class Method:
    """A method as the tables describe it; methods.yaml explains the fields."""

    title: str
    use: str
    source: str
    input: str
    needs: str
    forwards: str
    watch: str
    name: str = ""
    marks: tuple[str, ...] = ()
    paper: float | None = None
    paper_source: str = ""


@dataclass(frozen=True)
class Measured:
    """What was measured of a method in its chosen cell of the grid.

    Args:
        method: the method.
        cell: the values of the grid that STS-B dev chose.
        dev: STS-B dev by seed.
        average: average of the seven STS test sets by seed.
        p: of equal averages with SimCSE, by Welch's test, corrected by Holm's method for all methods; None without a test.
        seconds: mean wall time of a training step.
        memory: largest peak memory in GB.
    """

    method: Method
    cell: str
    dev: Mapping[int, float]
    average: Mapping[int, float]
    p: float | None
    seconds: float
    memory: float


def read_methods() -> list[Method]:
    """Read methods.yaml."""
    entries = yaml.safe_load((FOLDER / "methods.yaml").read_text(encoding="utf-8"))["methods"]
    return [Method(**{**entry, "marks": tuple(entry.get("marks", ()))}) for entry in entries]


def measured(methods: Sequence[Method], rows: Sequence[Row]) -> list[Measured]:
    """Return what the rows say about each method that was run, in the order of methods.yaml."""
    every = {method.name: _cell(method.name, rows) for method in methods if method.name}
    cells = {name: cell for name, cell in every.items() if cell}
    run = [method for method in methods if method.name in cells]
    averages = {method.name: scores(rows, cells[method.name], AVERAGE) for method in run}
    base = list(averages.get(BASELINE, {}).values())
    p_values = {name: welch(list(of.values()), base) for name, of in averages.items() if name != BASELINE}
    tested = {name: p for name, p in p_values.items() if p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    found = []
    for method in run:
        setting = cells[method.name]
        own = [row for row in rows if row.setting == setting and row.is_last]
        cell = setting[1].removeprefix(f"name={method.name}").strip()
        cost = fmean(row.scores["seconds_per_step"] for row in own), max(row.scores["peak_GB"] for row in own)
        dev = scores(rows, setting, DEV)
        found.append(Measured(method, cell, dev, averages[method.name], corrected.get(method.name), *cost))
    return found


def _cell(name: str, rows: Sequence[Row]) -> tuple[str, str] | None:
    """Return the cell of the grid with the most seeds, which is the chosen one; of equal ones the best on STS-B dev."""
    settings = {row.setting for row in rows if f"{row.changed} ".startswith(f"name={name} ")}
    of = {setting: scores(rows, setting, DEV) for setting in settings}
    return max(sorted(of), key=lambda one: (len(of[one]), fmean(of[one].values())), default=None)


def results_table(found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each method, best average first."""
    base = next((one for one in found if one.method.name == BASELINE), None)
    table = [
        ["method", "marks", "chosen", "seeds", DEV, "average of seven", "worst seed", "gain", "p", "forwards", "time", "GB"]
    ]
    for one in sorted(found, key=lambda one: -spread_of(one.average)[0]):
        gain, ratio = "–", "–"
        if base:
            gain = "–" if one is base else f"{spread_of(one.average)[0] - spread_of(base.average)[0]:+.2f}"
            ratio = f"{one.seconds / base.seconds:.1f}"
        p = "–" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
        cells = [
            one.method.title,
            ", ".join(one.method.marks) or "–",
            one.cell.replace("optimizer.", ""),
            str(len(one.average)),
        ]
        numbers = [mean_and_sd(one.dev), mean_and_sd(one.average), f"{min(one.average.values()):.2f}", gain, p]
        table.append([*cells, *numbers, one.method.forwards, ratio, f"{one.memory:.1f}"])
    return table


def direction_table(found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each method with a published average: its gain over SimCSE there and here."""
    base = next((one for one in found if one.method.name == BASELINE), None)
    table = [["method", "published", "gain there", "gain here", "direction", "source"]]
    for one in found:
        if base is None or one is base or one.method.paper is None or base.method.paper is None:
            continue
        there = one.method.paper - base.method.paper
        here = spread_of(one.average)[0] - spread_of(base.average)[0]
        clear = one.p is not None and one.p < 0.05
        word = "undecided" if not clear else "as published" if (there > 0) == (here > 0) else "against it"
        table.append(
            [one.method.title, f"{one.method.paper:.2f}", f"{there:+.2f}", f"{here:+.2f}", word, one.method.paper_source]
        )
    return table


def choice_table(methods: Sequence[Method], found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each method: what it needs, costs and gains."""
    base = next((one for one in found if one.method.name == BASELINE), None)
    by_name = {one.method.name: one for one in found}
    table = [["method", "select", "input", "needs", "forwards", "miniature", "published"]]
    for method in methods:
        ours = "–"
        if base and method.name in by_name:
            gain = spread_of(by_name[method.name].average)[0] - spread_of(base.average)[0]
            ours = "0" if method.name == BASELINE else f"{gain:+.2f}"
        paper = "–" if method.paper is None else f"{method.paper:.2f}"
        table.append([method.title, method.use, method.input, method.needs, method.forwards, ours, paper])
    return table


def watched(methods: Sequence[Method]) -> str:
    """Return the list of what to watch, with the source of each method."""
    return "\n".join(f"- **{method.title}** ({method.source}). {method.watch}" for method in methods)


def pages() -> dict[Path, str]:
    """Return the pages with their generated parts made anew."""
    methods, readme = read_methods(), FOLDER / "README.md"
    found = {scale: measured(methods, all_rows.read(FOLDER / f"{scale}.csv")) for scale in SCALES}
    parts = [results(scale, of) for scale, of in found.items() if of] or ["Not run yet."]
    choice = [markdown_table(choice_table(methods, found["miniature"])), CHOICE, "## What to watch", watched(methods)]
    made = {readme: "\n\n".join(parts), PAGE: "\n\n".join(choice)}
    return {path: with_part(path.read_text(encoding="utf-8"), part) for path, part in made.items()}


def results(scale: str, found: Sequence[Measured]) -> str:
    """Return the tables of a scale."""
    head = NOT_THE_PAPERS if scale == "miniature" else "At the paper's scale:"
    figure = f"![average of the seven test sets of every method and run]({scale}.svg)"
    tables = markdown_table(results_table(found)), markdown_table(direction_table(found))
    return "\n\n".join([head, tables[0], LEGEND, figure, AGAINST, tables[1]])


def draw() -> None:
    """Draw the runs of every method, at each scale that was run."""
    for scale in SCALES:
        found = measured(read_methods(), all_rows.read(FOLDER / f"{scale}.csv"))
        ranked = sorted(found, key=lambda one: -spread_of(one.average)[0])
        if averages := {one.method.title: one.average for one in ranked}:
            draw_settings(averages, {}, FOLDER / f"{scale}.svg", "average of seven", f"The {scale} scale")


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
