"""The report of a sweep as one HTML page that asks nothing of a network: tables, figures as inline SVG, every command."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simcse_lit.reporting.sweep.comparison import Comparison, Setting, show
from simcse_lit.reporting.sweep.paper import Published
from simcse_lit.reporting.sweep.runs import FAILED, FINISHED, Run

SHARED = (  # of the many keys that all runs share, those that tell most
    "model.name_or_path",
    "model.num_layers",
    "adapter.name",
    "loss.name",
    "loss.temperature",
    "loss.hard_negative_weight",
    "loss.mlm_weight",
    "pooler.name",
    "projection.name",
    "data.train_file",
    "data.batch_size",
    "data.max_length",
    "optimizer.lr",
    "optimizer.schedule",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.precision",
    "seed",
)
BESIDE = (
    "Published figures are of the paper's backbones, corpora and sets, and of one seed; ours are of the configuration above."
    " Compare the direction, and the numbers only where everything is the same."
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
        path: the file.
        title: what is reported on.
        runs: every run, whatever its state.
        comparison: of those that are finished.
        published: the paper's figures beside them.
        drawn: figures by name, in `figures/` beside the page, with their captions.
    """
    environment = Environment(
        loader=PackageLoader("simcse_lit.reporting.sweep"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"show": show, "score": score, "p_value": p_value}
    ranked = comparison.ranked()
    figures = [
        {
            "svg": inline((path.parent / "figures" / f"{name}.svg").read_text(encoding="utf-8"), name, caption),
            "caption": caption,
        }
        for name, caption in drawn.items()
    ]
    page = environment.get_template("report.html.jinja").render(
        title=title,
        summary=states(runs),
        made=made(runs),
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
        figures=figures,
        troubled=_troubled(runs),
        runs=runs,
        names=[_name(run, comparison) for run in runs],
    )
    path.write_text(page, encoding="utf-8")


def states(runs: Sequence[Run]) -> str:
    """How many runs there are in which state."""
    counted = Counter(run.state for run in runs)
    parts = ", ".join(f"{number} {state}" for state, number in counted.items())
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {parts}."


def made(runs: Sequence[Run]) -> str:
    """On what and with which code the runs were made, where they say."""
    environments = [run.environment for run in runs if run.environment]
    parts = []
    for name, key in (("Device", "device"), ("commit", "git_commit"), ("torch", "torch")):
        values = {env["libraries"].get(key, "") if key == "torch" else env.get(key) or "" for env in environments} - {""}
        if values:
            parts.append(f"{name} {', '.join(sorted(values))}")
    return "; ".join(parts)


def protocol(comparison: Comparison) -> str:
    """What the numbers of the table are."""
    several = any(len(setting.runs) > 1 for setting in comparison.settings)
    spread = "Mean ± sample standard deviation over the runs (seeds) of a setting. " if several else ""
    dev = f"{comparison.metrics[0]} is the development set, on which the kept weights were chosen."
    return f"{spread}STS: Spearman × 100; transfer: accuracy in %. {dev}"


def notes(comparison: Comparison) -> list[str]:
    """How differences were tested, and how far to trust that."""
    if len(comparison.settings) < 2:
        return []
    if comparison.baseline is None:
        return [f"No differences are tested: {comparison.baseline_note}."]
    found = [
        f"Δ is the difference in {comparison.metric} from the baseline {comparison.baseline.label} "
        f"({comparison.baseline_note}). p: Welch's t test over seeds, two-sided; "
        "p, Holm: corrected for all settings that are tested; * below 0.05."
    ]
    fewest = min(len(setting.scores(comparison.metric)) for setting in comparison.settings)
    if fewest < 2:
        found.append(
            "A setting with one run has no test: one seed is not a result. Give every setting several: seed=1,2,3,4,5."
        )
    elif fewest < 5:
        found.append(
            f"With {fewest} seeds a setting the test sees only differences that are large beside the spread of seeds, and "
            "its assumptions cannot be checked; a claim needs at least five."
        )
    return found


def score(value: float | None) -> str:
    """Two decimals."""
    return "–" if value is None else f"{value:.2f}"


def p_value(value: float | None) -> str:
    """Three decimals, or that it is less."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def inline(svg: str, name: str, caption: str) -> Markup:
    """An SVG file as part of a page: without its head, ids that no other figure has, its caption as name."""
    body = svg[svg.index("<svg") :]
    for pattern, prefixed in (
        (r'\bid="', rf'id="{name}-'),
        (r'href="#', rf'href="#{name}-'),
        (r"url\(#", rf"url(#{name}-"),
    ):
        body = re.sub(pattern, prefixed, body)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(caption)}"', 1))


def _cards(comparison: Comparison, ranked: Sequence[Setting]) -> list[dict[str, str]]:
    """The best setting, the baseline and the best run, at a glance."""
    metric = comparison.metric

    def card(head: str, setting: Setting, name: str) -> dict[str, str]:
        std = setting.std(name)
        number = score(setting.mean(name)) + ("" if std is None else f" ± {score(std)}")
        return {"head": f"{head}, {name}", "number": number, "text": _values(setting.runs[0], comparison)}

    cards = []
    if ranked and len(comparison.settings) > 1:
        cards.append(card("best setting", ranked[0], metric))
        if metric != "Avg." and ranked[0].mean("Avg.") is not None:
            cards.append(card("best setting", ranked[0], "Avg."))
        if comparison.baseline and comparison.baseline is not ranked[0]:
            cards.append(card("baseline", comparison.baseline, metric))
    runs = [run for setting in ranked for run in setting.runs if metric in run.scores]
    if runs:
        best = max(runs, key=lambda run: run.scores[metric])
        text = f"{_name(best, comparison)}, folder {best.label}"
        cards.append({"head": f"best run, {metric}", "number": score(best.scores[metric]), "text": text})
    return cards


def _values(run: Run, comparison: Comparison) -> str:
    return " ".join(f"{axis.key}={show(run.facts.get(axis.key))}" for axis in comparison.axes)


def _name(run: Run, comparison: Comparison) -> str:
    """What tells a run from the others: its values of what varied, and its seed; its overrides, if it never got that far."""
    if not run.facts or run.state != FINISHED:
        return " ".join(run.overrides)
    return f"{_values(run, comparison)} seed={show(run.seed)}".lstrip()


def shared(comparison: Comparison) -> list[tuple[str, Any]]:
    """What is the same in all runs, of the keys that tell most; the seeds, where there are several."""
    runs = [run for setting in comparison.settings for run in setting.runs]
    varied = {key for axis in comparison.axes for key in (axis.key, *axis.along)}
    seeds = sorted({show(run.seed) for run in runs}, key=lambda seed: (len(seed), seed))
    facts = {**runs[0].facts, "seed": seeds if len(seeds) > 1 else runs[0].seed} if runs else {}
    return [(key, facts[key]) for key in SHARED if key in facts and key not in varied]


def before(comparison: Comparison) -> list[tuple[str, Mapping[str, float]]]:
    """The untrained encoder's label and scores; each setting's, if they are not of one encoder."""
    found = [(setting.label, run.before) for setting in comparison.settings for run in setting.runs[:1] if run.before]
    same = all(scores == found[0][1] for _, scores in found)
    return (
        [("before training", found[0][1])] if found and same else [(f"before training, {name}", one) for name, one in found]
    )


def _troubled(runs: Sequence[Run]) -> str:
    failed = sum(run.state == FAILED for run in runs)
    other = sum(run.state not in (FAILED, FINISHED) for run in runs)
    parts = [f"{failed} failed"] * bool(failed) + [
        f"{other} did not finish, are still running or were never started"
    ] * bool(other)
    return f"Not in any figure above: {' and '.join(parts)}." if parts else ""
