"""Report on a run or a sweep: one page, tables, figures.

Examples:
  simcse-lit report multirun/unsup/TIME
  simcse-lit report multirun/unsup/TIME baseline=loss.temperature=0.1 metric=Avg.
  simcse-lit report multirun/unsup/TIME paper=published.csv

settings:
  baseline=KEY=VALUE[,KEY=VALUE]  setting that the others are tested against;
                                  default: the one with the default values
  metric=NAME     score to rank and test by (STS-B, Avg., ...); default:
                  the score on the development set
  paper=FILE.csv  published scores to compare with: a column for each key that
                  varied, and metric, paper, source
  out=DIR         folder of the report; default: FOLDER/report

Writes report.html, report.md, report.tex, results.csv and figures/. The report
needs only the files of the runs, so it also works on runs of another machine.
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("report")

from collections.abc import Mapping, Sequence
from pathlib import Path

from simcse_lit.config.folders import check_free
from simcse_lit.errors import UserError
from simcse_lit.reporting.sweep.comparison import compare
from simcse_lit.reporting.sweep.figures import draw_all
from simcse_lit.reporting.sweep.page import write_page
from simcse_lit.reporting.sweep.paper import read_published
from simcse_lit.reporting.sweep.runs import FINISHED, common_defaults, read_runs
from simcse_lit.reporting.sweep.tables import write_tables

SETTINGS = ("baseline", "metric", "paper", "out")


def main(folder: str, settings: Sequence[str]) -> None:
    """Write a report.

    Args:
        folder: folder of a run or a sweep.
        settings: KEY=VALUE words.

    Raises:
        UserError: a word is wrong, or as for `report`.
    """
    given = parse(settings)
    page = report(
        Path(folder).expanduser(),
        Path(given["out"]).expanduser() if "out" in given else None,
        baseline=parse_baseline(given["baseline"]) if "baseline" in given else None,
        metric=given.get("metric"),
        paper=Path(given["paper"]).expanduser() if "paper" in given else None,
    )
    print(f"Written to {page.parent}\n  report.html  report.md  report.tex  results.csv  figures/")


def parse(words: Sequence[str]) -> dict[str, str]:
    """Split KEY=VALUE words.

    Raises:
        UserError: a word has another form or an unknown key.
    """
    for word in words:
        if word.partition("=")[0] not in SETTINGS or "=" not in word:
            raise UserError(f"{word}: not one of {', '.join(f'{key}=...' for key in SETTINGS)}. See --help.")
    return dict(word.split("=", 1) for word in words)


def parse_baseline(text: str) -> dict[str, str]:
    """Split KEY=VALUE,KEY=VALUE.

    Raises:
        UserError: a part has another form.
    """
    parts = [part.split("=", 1) for part in text.split(",")]
    if any(len(part) != 2 for part in parts):
        raise UserError(f"baseline={text}: must be KEY=VALUE, or several of these separated by commas.")
    return {part[0]: part[1] for part in parts}


def report(
    folder: Path,
    out: Path | None = None,
    *,
    baseline: Mapping[str, str] | None = None,
    metric: str | None = None,
    paper: Path | None = None,
) -> Path:
    """Write a report and return its page.

    Args:
        folder: a run folder, or a folder with run folders at any depth.
        out: folder of the report; None for `folder/report`.
        baseline: key to value as typed; None for the setting with the default values.
        metric: name of a score; None for the score on the development set.
        paper: CSV file of published scores (`reporting/sweep/paper.py`).

    Raises:
        UserError: there is no run, no such baseline, metric or published score, or `out` cannot be created.
    """
    runs = read_runs(folder)
    finished = [run for run in runs if run.state == FINISHED]
    defaults = common_defaults(finished) if len(finished) > 1 and baseline is None else None
    comparison = compare(runs, metric=metric, baseline=baseline, defaults=defaults)
    published = read_published(paper, comparison) if paper else []
    out = out or folder / "report"
    check_free(out, "out", "report")
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: cannot be created: {error.strerror or error}.") from error
    title = "/".join(part for part in folder.resolve().parts[-3:] if part != "/")
    drawn = draw_all(comparison, published, out / "figures") if comparison.settings else {}
    write_tables(out, title=title, runs=runs, comparison=comparison, published=published)
    page = out / "report.html"
    write_page(page, title=title, runs=runs, comparison=comparison, published=published, drawn=drawn)
    return page
