"""The tables and figures of the comparison of methods, from methods.yaml and the rows in experiments/successors/.

Run: python -m experiments.methods. It writes the generated parts of experiments/successors/README.md and
docs/how-to/methods.md, as `python -m experiments.evidence` does, but it needs no data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from experiments import dimensions
from experiments import rows as all_rows
from experiments.figures import draw_settings
from experiments.readmes import DEV, NOT_THE_PAPERS, mean_and_sd, spread_of, with_part
from experiments.rows import Row
from experiments.verdicts import scores
from simcse_lit.evaluation.statistics import holm, welch
from simcse_lit.tables import markdown_table

FOLDER = Path(__file__).parent / "successors"
PAGE = FOLDER.parents[1] / "docs" / "how-to" / "methods.md"
BASELINE = "simcse"
SCALES = ("miniature", "paper")
LEGEND = """\
Scores are Spearman × 100, mean ± standard deviation over seeds. *chosen* is the cell of the grid that STS-B
dev chose with seed 0. *gain* is over the first method of the table's list, and *p* is of Welch's test against
it, corrected by Holm's method for the table. *forwards* is the number of times that a sentence goes through an
encoder in a step. *time* is that of a step, with that first method as 1: of the fastest run of each, since runs
side by side slow each other. *GB* is the peak memory of the process, or of the GPU."""
SHORT = """\
**Short vectors.** What do the first numbers of a vector score on STS-B test (`truncate_dim`), with Matryoshka and
in the same run without it? Both keep their head at evaluation. `python -m experiments.dimensions` trains and scores
them. Mean ± standard deviation over three seeds."""
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
class Group:
    """Methods that read the same rows, and are compared with each other.

    Args:
        about: what they read, for the page.
        baseline: name of the method that the others are compared with.
        metric: score that they are compared by.
    """

    about: str
    baseline: str
    metric: str


GROUPS = {
    "text": Group("Unlabelled text, the average of the seven STS test sets:", BASELINE, "Avg."),
    "triplets": Group("NLI, the average of the seven STS test sets:", "sup", "Avg."),
    "labels": Group("Questions with classes (TREC), the average of the seven STS test sets:", "simcse-questions", "Avg."),
    "scored": Group("Scored pairs, STS-B test. It is in-domain: the pairs are those of STS-B train.", "cosent", "STS-B"),
}


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
    group: str = "text"
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
        score: the score of its group by seed.
        p: of equal means with the baseline, by Welch's test, corrected by Holm's method for the group; None without a test.
        seconds: wall time of a training step, of the fastest run.
        memory: largest peak memory in GB.
    """

    method: Method
    cell: str
    dev: Mapping[int, float]
    score: Mapping[int, float]
    p: float | None
    seconds: float
    memory: float


def read_methods() -> list[Method]:
    """Read methods.yaml."""
    entries = yaml.safe_load((FOLDER / "methods.yaml").read_text(encoding="utf-8"))["methods"]
    return [Method(**{**entry, "marks": tuple(entry.get("marks", ()))}) for entry in entries]


def measured(methods: Sequence[Method], rows: Sequence[Row]) -> list[Measured]:
    """Return what the rows say about each method that was run, in the order of methods.yaml."""
    found = []
    for name, group in GROUPS.items():
        of_group = [method for method in methods if method.name and method.group == name]
        cells = {method.name: chosen for method in of_group if (chosen := _cell(method.name, rows))}
        by_seed = {each: scores(rows, cell, group.metric) for each, cell in cells.items()}
        base = list(by_seed.get(group.baseline, {}).values())
        p_values = {each: welch(list(own.values()), base) for each, own in by_seed.items() if each != group.baseline}
        tested = {each: p for each, p in p_values.items() if p is not None}
        corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
        for method in of_group:
            if method.name not in cells:
                continue
            setting = cells[method.name]
            own = [row for row in rows if row.setting == setting and row.is_last]
            cell = setting[1].removeprefix(f"name={method.name}").strip()
            # A run beside others is slowed by them, never sped up.
            cost = min(row.scores["seconds_per_step"] for row in own), max(row.scores["peak_GB"] for row in own)
            dev, score = scores(rows, setting, DEV), by_seed[method.name]
            found.append(Measured(method, cell, dev, score, corrected.get(method.name), *cost))
    return found


def base_of(group: str, found: Sequence[Measured]) -> Measured | None:
    """Return the baseline of a group, if it was run."""
    return next((one for one in found if one.method.name == GROUPS[group].baseline), None)


def _cell(name: str, rows: Sequence[Row]) -> tuple[str, str] | None:
    """Return the cell of the grid with the most seeds, which is the chosen one; of equal ones the best on STS-B dev."""
    settings = {row.setting for row in rows if f"{row.changed} ".startswith(f"name={name} ")}
    of = {setting: scores(rows, setting, DEV) for setting in settings}
    return max(sorted(of), key=lambda one: (len(of[one]), fmean(of[one].values())), default=None)


def results_table(group: str, found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each method of a group, best score first."""
    base = base_of(group, found)
    score = "average of seven" if GROUPS[group].metric == "Avg." else GROUPS[group].metric
    table = [["method", "marks", "chosen", "seeds", DEV, score, "worst seed", "gain", "p", "forwards", "time", "GB"]]
    for one in sorted(of_group(group, found), key=lambda one: -spread_of(one.score)[0]):
        p = "–" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
        marks, cell = ", ".join(one.method.marks) or "–", one.cell.replace("optimizer.", "").replace("data.", "")
        cells = [one.method.title, marks, cell, str(len(one.score))]
        numbers = [mean_and_sd(one.dev), mean_and_sd(one.score), f"{min(one.score.values()):.2f}", gain(one, base), p]
        ratio = f"{one.seconds / base.seconds:.1f}" if base else "–"
        table.append([*cells, *numbers, one.method.forwards, ratio, f"{one.memory:.1f}"])
    return table


def of_group(group: str, found: Sequence[Measured]) -> list[Measured]:
    """Return the methods of a group."""
    return [one for one in found if one.method.group == group]


def gain(one: Measured, base: Measured | None) -> str:
    """Return the difference of the mean scores; a dash for the baseline or without it."""
    return "–" if base in (None, one) else f"{_gain(one, base):+.2f}"


def _gain(one: Measured, base: Measured | None) -> float:
    return spread_of(one.score)[0] - spread_of(base.score if base else {0: 0.0})[0]


def direction_table(found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each method with a published average: its gain over SimCSE there and here."""
    base = base_of("text", found)
    table = [["method", "published", "gain there", "gain here", "direction", "source"]]
    for one in of_group("text", found):
        if base is None or one is base or one.method.paper is None or base.method.paper is None:
            continue
        there, here = one.method.paper - base.method.paper, _gain(one, base)
        clear = one.p is not None and one.p < 0.05
        word = "undecided" if not clear else "as published" if (there > 0) == (here > 0) else "against it"
        gains = f"{there:+.2f}", gain(one, base)
        table.append([one.method.title, f"{one.method.paper:.2f}", *gains, word, one.method.paper_source])
    return table


def choice_table(methods: Sequence[Method], found: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each loss: what it needs, costs and gains. Options of a loss are in the list below the table."""
    by_name = {one.method.name: one for one in found}
    table = [["method", "select", "input", "needs", "forwards", "miniature", "published"]]
    first = {method.use: method for method in reversed(methods)}
    for method in (method for method in methods if first[method.use] is method and " " not in method.use):
        measured_here = by_name.get(method.name)
        ours = gain(measured_here, base_of(method.group, found)) if measured_here else "–"
        paper = "–" if method.paper is None else f"{method.paper:.2f}"
        table.append([method.title, method.use, method.input, method.needs, method.forwards, ours, paper])
    return table


def watched(methods: Sequence[Method]) -> str:
    """Return the list of what to watch, with the source of each method."""
    return "\n".join(f"- **{method.title}** (`{method.use}`; {method.source}). {method.watch}" for method in methods)


def pages() -> dict[Path, str]:
    """Return the pages with their generated parts made anew."""
    methods, readme = read_methods(), FOLDER / "README.md"
    found = {scale: measured(methods, all_rows.read(FOLDER / f"{scale}.csv")) for scale in SCALES}
    parts = [results(scale, of) for scale, of in found.items() if of] or ["Not run yet."]
    choice = [markdown_table(choice_table(methods, found["miniature"])), CHOICE, "## What to watch", watched(methods)]
    if short := dimensions.read():
        parts += [SHORT, dimensions.part(short)]
    made = {readme: "\n\n".join(parts), PAGE: "\n\n".join(choice)}
    return {path: with_part(path.read_text(encoding="utf-8"), part) for path, part in made.items()}


def results(scale: str, found: Sequence[Measured]) -> str:
    """Return the tables of a scale."""
    parts = [NOT_THE_PAPERS if scale == "miniature" else "At the paper's scale:"]
    for name, group in GROUPS.items():
        if of_group(name, found):
            parts += [group.about, markdown_table(results_table(name, found))]
    figure = f"![score of every method and run on text]({scale}.svg)"
    return "\n\n".join([*parts, LEGEND, figure, AGAINST, markdown_table(direction_table(found))])


def draw() -> None:
    """Draw the runs of every method that reads text at each scale that was run, and the scores of short vectors."""
    for scale in SCALES:
        found = of_group("text", measured(read_methods(), all_rows.read(FOLDER / f"{scale}.csv")))
        ranked = sorted(found, key=lambda one: -spread_of(one.score)[0])
        if averages := {one.method.title: one.score for one in ranked}:
            draw_settings(averages, {}, FOLDER / f"{scale}.svg", "average of seven", f"The {scale} scale")
    dimensions.draw()


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
