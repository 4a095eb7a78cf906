"""Writes the report of a sweep as one HTML page without external files: tables, inline SVG figures, every command.

`comparison.py` computes the numbers, and `summary.py` has the sentences that the page shares with the Markdown report.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simcse_lit.reporting.sweep.comparison import Comparison, Setting, show
from simcse_lit.reporting.sweep.paper import Published
from simcse_lit.reporting.sweep.runs import FAILED, FINISHED, Run
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
    states,
)


def write_page(
    path: Path,
    *,
    title: str,
    runs: Sequence[Run],
    comparison: Comparison,
    published: Sequence[Published],
    drawn: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        path: the file to write.
        title: of the page.
        runs: all runs, in any state.
        comparison: of the finished runs.
        published: published scores to compare with.
        drawn: the caption of each figure, by its name in the folder `figures/` next to the page.
    """
    environment = Environment(
        loader=PackageLoader("simcse_lit.reporting.sweep"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"show": show, "score": score, "p_value": p_value}
    ranked = comparison.ranked()
    page = environment.get_template("report.html.jinja").render(
        title=title,
        summary=states(runs),
        made=made(runs),
        corpora=corpora(runs),
        comparison=comparison,
        best=ranked[0] if len(comparison.settings) > 1 and ranked else None,
        cards=_cards(comparison, ranked),
        shared=shared(comparison),
        protocol=protocol(comparison) if comparison.settings else "",
        differences=comparison.differences(),
        notes=notes(comparison),
        before=before(comparison),
        published=published,
        beside=BESIDE,
        figures=[(_inline(path.parent / "figures" / f"{name}.svg", caption), caption) for name, caption in drawn.items()],
        troubled=_troubled(runs),
        runs=runs,
        names=[_name(run, comparison) for run in runs],
    )
    path.write_text(page, encoding="utf-8")


def _inline(path: Path, caption: str) -> Markup:
    """Embed an SVG file in the page: remove its head, make its ids unique, and use the caption as its label."""
    svg = path.read_text(encoding="utf-8")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg[svg.index("<svg") :])
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(caption)}"', 1))


def _cards(comparison: Comparison, ranked: Sequence[Setting]) -> list[dict[str, str]]:
    """Return the cards at the top of the page: the best setting, the baseline and the best run."""
    metric = comparison.metric

    def card(head: str, setting: Setting, name: str) -> dict[str, str]:
        text = _values(setting.runs[0], comparison)
        return {"head": f"{head}, {name}", "number": mean_and_std(setting, name), "text": text}

    cards = []
    if ranked and len(comparison.settings) > 1:
        cards.append(card("best setting", ranked[0], metric))
        if metric != "Avg." and ranked[0].mean("Avg.") is not None:
            cards.append(card("best setting", ranked[0], "Avg."))
        if comparison.baseline and comparison.baseline is not ranked[0]:
            cards.append(card("baseline", comparison.baseline, metric))
    runs = [run for setting in ranked for run in setting.runs if metric in run.scores]
    if runs:
        best = max(runs, key=lambda run: comparison.sign(metric) * run.scores[metric])
        text = f"{_name(best, comparison)}, folder {best.label}"
        cards.append({"head": f"best run, {metric}", "number": score(best.scores[metric]), "text": text})
    return cards


def _values(run: Run, comparison: Comparison) -> str:
    return " ".join(f"{axis.key}={show(run.facts.get(axis.key))}" for axis in comparison.axes)


def _name(run: Run, comparison: Comparison) -> str:
    """Name a run by its values on the axes and its seed, or by its overrides if it did not finish."""
    if not run.facts or run.state != FINISHED:
        return " ".join(run.overrides)
    return f"{_values(run, comparison)} seed={show(run.seed)}".lstrip()


def _troubled(runs: Sequence[Run]) -> str:
    """Describe how many runs are missing from the tables and figures."""
    failed = sum(run.state == FAILED for run in runs)
    other = sum(run.state not in (FAILED, FINISHED) for run in runs)
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{other} did not finish, are still running, or were never started"] if other else []
    return f"Not in any figure above: {' and '.join(parts)}." if parts else ""
