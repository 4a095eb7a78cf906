"""Sentences that the page and the Markdown report of a sweep share: what was run, and how to read the numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from simcse_lit.reporting.keys import SETTINGS
from simcse_lit.reporting.read_corpus import described
from simcse_lit.reporting.sweep.comparison import Comparison, Setting, show
from simcse_lit.reporting.sweep.runs import Run
from simcse_lit.tables import columns

BESIDE = (
    "The published figures are single runs with the paper's backbones, corpora and sets. Ours are runs of the configuration"
    " above. Compare the direction of an effect. Compare the numbers only where everything else is equal."
)


def states(runs: Sequence[Run]) -> str:
    """Count the runs in each state."""
    counted = Counter(run.state for run in runs)
    parts = ", ".join(f"{number} {state}" for state, number in counted.items())
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {parts}."


def made(runs: Sequence[Run]) -> str:
    """List the devices, commits and torch versions of the runs, if they recorded them."""
    environments = [run.environment for run in runs if run.environment]
    parts = []
    for name, key in (("Device", "device"), ("commit", "git_commit"), ("torch", "torch")):
        values = {env["libraries"].get(key, "") if key == "torch" else env.get(key) or "" for env in environments} - {""}
        if values:
            parts.append(f"{name} {', '.join(sorted(values))}")
    return "; ".join(parts)


def corpora(runs: Sequence[Run]) -> list[str]:
    """Describe the training corpora: a line for each, which names its runs if there are several corpora."""
    labels: dict[str, list[str]] = {}
    for run in runs:
        if read := run.environment.get("data"):
            batch_size = run.facts.get("data.batch_size", 0)
            said = "; ".join([f"{read['examples']:,} examples", *described(read, batch_size)])
            labels.setdefault(said, []).append(run.label)
    if len(labels) == 1:
        return [f"Data: {said}" for said in labels]
    return [f"Data of {', '.join(of)}: {said}" for said, of in labels.items()]


def protocol(comparison: Comparison) -> str:
    """Describe the numbers of the table: statistic, metric of each family, and the development set."""
    several = any(len(setting.runs) > 1 for setting in comparison.settings)
    spread = "Mean ± sample standard deviation over the runs (seeds) of a setting. " if several else ""
    dev, *tests = comparison.metrics
    said = []
    for family, names in columns(tests, comparison.families).items():
        own = ", ".join(name for name in names if name not in family.columns)
        said.append(f"{family.title or family.name}{f' ({own})' if own else ''}: {comparison.unit(names[0])}. ")
    said.append(f"{dev}: {comparison.unit(dev)}, the development set, which chose the kept checkpoint.")
    return spread + "".join(said)


def notes(comparison: Comparison) -> list[str]:
    """Describe how differences were tested, and how reliable the tests are."""
    if len(comparison.settings) < 2:
        return []
    if comparison.baseline is None:
        return [f"No differences are tested: {comparison.baseline_note}."]
    found = [
        f"Δ is the difference in {comparison.metric} from the baseline {comparison.baseline.label} "
        f"({comparison.baseline_note}). p: two-sided Welch's t test over seeds. "
        "p, Holm: corrected for the number of settings that are tested. *: below 0.05."
    ]
    fewest = min(len(setting.scores(comparison.metric)) for setting in comparison.settings)
    if fewest < 2:
        found.append(
            "A setting with one run has no test: one seed is not a result. Run every setting with several: seed=1,2,3,4,5."
        )
    elif fewest < 5:
        found.append(
            f"With {fewest} seeds for each setting, the test finds only differences that are large compared with the "
            "spread over seeds, and its assumptions cannot be checked. A claim needs at least five seeds."
        )
    return found


def score(value: float | None) -> str:
    """Format a score with two decimals."""
    return "–" if value is None else f"{value:.2f}"


def p_value(value: float | None) -> str:
    """Format a p-value with three decimals, or as <0.001."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def mean_and_std(setting: Setting, metric: str) -> str:
    """Format a setting's score: 71.02 ± 0.11, or 71.02 for one run, or – without a run."""
    std = setting.std(metric)
    return score(setting.mean(metric)) + ("" if std is None else f" ± {score(std)}")


def shared(comparison: Comparison) -> list[tuple[str, Any]]:
    """Return the keys of `SETTINGS` that have the same value in all runs, and the seeds."""
    runs = [run for setting in comparison.settings for run in setting.runs]
    varied = {key for axis in comparison.axes for key in (axis.key, *axis.along)}
    seeds = sorted({show(run.seed) for run in runs}, key=lambda seed: (len(seed), seed))
    facts = {**runs[0].facts, "seed": seeds if len(seeds) > 1 else runs[0].seed} if runs else {}
    return [(key, facts[key]) for key in SETTINGS if key in facts and key not in varied]


def before(comparison: Comparison) -> list[tuple[str, Mapping[str, float]]]:
    """Return label and scores of the untrained encoder, or of one for each setting if their scores differ."""
    found = [(setting.label, run.before) for setting in comparison.settings for run in setting.runs[:1] if run.before]
    if found and all(scores == found[0][1] for _, scores in found):
        return [("before training", found[0][1])]
    return [(f"before training, {name}", scores) for name, scores in found]
