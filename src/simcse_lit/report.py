"""python -m simcse_lit.report FOLDER: report on one run or a sweep as one HTML page, tables, figures and a CSV file.

The report needs only the files of the runs, so it works on runs of another machine. It imports no torch.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from simcse_lit.errors import UserError
from simcse_lit.reporting.sweep.comparison import compare
from simcse_lit.reporting.sweep.figures import draw_all
from simcse_lit.reporting.sweep.page import write_page
from simcse_lit.reporting.sweep.paper import read_published
from simcse_lit.reporting.sweep.runs import FINISHED, common_defaults, read_runs
from simcse_lit.reporting.sweep.tables import write_tables

HELP = """
python -m simcse_lit.report multirun/unsup/TIME
python -m simcse_lit.report multirun/unsup/TIME baseline=loss.temperature=0.1 metric=Avg.
python -m simcse_lit.report multirun/unsup/TIME paper=published.csv

settings:
  baseline=KEY=VALUE[,KEY=VALUE]  the setting that others are tested against;
                                  default: the one with the default values
  metric=NAME     the score to rank and test by (STS-B, Avg., ...); default:
                  the score on the development set
  paper=FILE.csv  published scores to compare with: a column for each key that
                  varied, and metric, paper, source
  out=DIR         the folder of the report; default: FOLDER/report

It holds report.html, report.md, report.tex, results.csv and figures/.
"""
SETTINGS = ("baseline", "metric", "paper", "out")


def main(arguments: Sequence[str]) -> None:
    """Write the report that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m simcse_lit.report",
        description="One run or a whole sweep as one self-contained HTML page, tables, figures and a CSV file.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a run folder, or the folder of a sweep")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see below")
    given = parser.parse_args(arguments)
    try:
        settings = parse(given.settings)
        page = report(
            given.folder,
            Path(settings["out"]) if "out" in settings else None,
            baseline=parse_baseline(settings["baseline"]) if "baseline" in settings else None,
            metric=settings.get("metric"),
            paper=Path(settings["paper"]) if "paper" in settings else None,
        )
    except UserError as error:
        print(f"\nError: {error}", file=sys.stderr)
        sys.exit(1)
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
        UserError: there is no run, no such baseline, metric or published scores, or `out` cannot be made.
    """
    runs = read_runs(folder)
    finished = [run for run in runs if run.state == FINISHED]
    defaults = common_defaults(finished) if len(finished) > 1 and baseline is None else None
    comparison = compare(runs, metric=metric, baseline=baseline, defaults=defaults)
    published = read_published(paper, comparison) if paper else []
    out = out or folder / "report"
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: cannot be made: {error.strerror or error}.") from error
    title = "/".join(part for part in folder.resolve().parts[-3:] if part != "/")
    drawn = draw_all(comparison, published, out / "figures") if comparison.settings else {}
    write_tables(out, title=title, runs=runs, comparison=comparison, published=published)
    page = out / "report.html"
    write_page(page, title=title, runs=runs, comparison=comparison, published=published, drawn=drawn)
    return page


if __name__ == "__main__":
    main(sys.argv[1:])
