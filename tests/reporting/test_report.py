"""The report of a sweep: its numbers against plain formulas, its page in a browser, its tables, what it says of bad runs."""

import csv
import math
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from scipy.stats import t as student

from simcse_lit.errors import UserError
from simcse_lit.evaluation.statistics import holm, welch
from simcse_lit.report import main, report
from simcse_lit.reporting.keys import other_curves
from simcse_lit.reporting.sweep.comparison import Comparison, compare
from simcse_lit.reporting.sweep.runs import read_runs
from tests.run_folders import make_run, make_sweep

HOSTILE = "<script>alert(1)</script>&\"'<img src=https://example.org/x>$_\\"


def compared(root: Path, **choices: Any) -> Comparison:
    return compare(read_runs(root), **{"metric": None, "baseline": None, "defaults": None, **choices})


def run_of(root: Path, number: int, changed: dict[str, Any], *, score: float | None = 50.0, **more: Any) -> None:
    """A run that was started with just what changed, and has one score."""
    overrides = [f"{key}={value}" for key, value in changed.items()]
    make_run(root / str(number), overrides, changed, after=None if score is None else {"STS-B-dev": score}, **more)


def welch_by_hand(first: list[float], second: list[float]) -> float:
    """Welch 1947: t of the means over their own variances, with Satterthwaite's degrees of freedom."""
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    t = (statistics.mean(first) - statistics.mean(second)) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    return float(2 * student.sf(abs(t), freedom))


def test_means_deviations_and_welch_are_those_of_their_formulas(tmp_path: Path) -> None:
    scores = {0.01: [70.0, 71.5, 70.3], 0.05: [75.0, 74.0, 76.5, 75.2], 0.1: [74.9, 76.0]}
    number = 0
    for temperature, values in scores.items():
        for seed, value in enumerate(values):
            run_of(tmp_path, number, {"loss.temperature": temperature, "seed": seed}, score=value)
            number += 1
    comparison = compared(tmp_path, baseline={"loss.temperature": "5e-2"})
    assert [axis.key for axis in comparison.axes] == ["loss.temperature"]
    for setting in comparison.settings:
        values = scores[setting.values[0]]
        assert setting.mean("STS-B-dev") == pytest.approx(statistics.mean(values))
        assert setting.std("STS-B-dev") == pytest.approx(statistics.stdev(values))
    found = comparison.differences()
    expected = {low: welch_by_hand(scores[low], scores[0.05]) for low in (0.01, 0.1)}
    assert {values[0]: one.p for values, one in found.items()} == pytest.approx(expected)
    assert found[(0.01,)].difference == pytest.approx(statistics.mean(scores[0.01]) - statistics.mean(scores[0.05]))
    assert found[(0.01,)].p_holm == pytest.approx(2 * expected[0.01])
    assert found[(0.1,)].p_holm == pytest.approx(expected[0.1])
    assert comparison.ranked()[0].values == (0.1,)


def test_holm_is_its_definition_and_one_seed_has_no_test() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    ranked = sorted(p_values)
    expected = [max(min(1.0, (4 - k) * p) for k, p in enumerate(ranked) if p <= own) for own in p_values]
    assert holm(p_values) == pytest.approx(expected)
    assert holm([]) == []
    assert welch([1.0], [2.0, 3.0]) is None
    assert welch([1.0, 1.0], [2.0, 2.0]) is None


def test_a_group_is_one_axis_and_what_follows_it_is_none_nor_is_the_seed_nor_a_folder(tmp_path: Path) -> None:
    models = {"bert-base": ("bert", 64), "roberta-base": ("roberta", 512)}
    number = 0
    for model, (name, batch) in models.items():
        for temperature in (0.1, 0.01):
            for seed in (1, 2):
                make_run(
                    tmp_path / str(number),
                    [f"model={model}", f"loss.temperature={temperature}", f"seed={seed}", "data.num_workers=2"],
                    {
                        "model.name_or_path": name,
                        "data.batch_size": batch,
                        "loss.temperature": temperature,
                        "seed": seed,
                        "data.num_workers": number,  # says how, not what
                    },
                    after={"STS-B-dev": 50.0 + number},
                    choices={"model": model},
                )
                number += 1
    axes = compared(tmp_path).axes
    assert [axis.key for axis in axes] == ["model", "loss.temperature"]
    assert list(axes[0].values) == ["bert-base", "roberta-base"] and list(axes[1].values) == [0.01, 0.1]
    assert set(axes[0].along) == {"model.name_or_path", "data.batch_size"}


def test_two_keys_that_were_typed_stay_two_axes_and_one_that_nobody_typed_is_found(tmp_path: Path) -> None:
    run_of(tmp_path / "typed", 0, {"loss.temperature": 0.01, "optimizer.lr": 1e-5})
    run_of(tmp_path / "typed", 1, {"loss.temperature": 0.05, "optimizer.lr": 3e-5})
    assert {axis.key for axis in compared(tmp_path / "typed").axes} == {"loss.temperature", "optimizer.lr"}
    for number, pooler in enumerate(("cls", "avg")):  # as in a file of the user's
        make_run(tmp_path / "found" / str(number), ["+experiment=mine"], {"pooler.name": pooler}, after={"STS-B-dev": 1.0})
    assert [axis.key for axis in compared(tmp_path / "found").axes] == ["pooler.name"]


def test_the_baseline_is_the_setting_that_the_common_overrides_compose_to(tmp_path: Path) -> None:
    make_sweep(tmp_path, [0.01, 0.05], [1, 2], ("cls", "avg"))
    main(str(tmp_path), [])
    text = (tmp_path / "report" / "report.md").read_text()
    assert "from the baseline 0.05, cls (the default, loss.temperature = 0.05, pooler = cls)" in text
    assert "Welch's t test" in text and "With 2 seeds" in text
    main(str(tmp_path), ["baseline=loss.temperature=0.01,pooler=avg"])
    assert "from the baseline 0.01, avg (chosen" in (tmp_path / "report" / "report.md").read_text()
    with pytest.raises(UserError, match=r"(?s)matches 0 settings.*0\.05, cls"):
        main(str(tmp_path), ["baseline=loss.temperature=0.02"])


def test_jobs_that_failed_stopped_or_never_started_are_listed_with_their_reason(tmp_path: Path) -> None:
    run_of(tmp_path, 0, {"loss.temperature": 0.05, "seed": 1})
    run_of(tmp_path, 1, {"loss.temperature": 0.05, "seed": 2}, score=None, error="The loss of step 3 is nan.\nLower it.")
    run_of(tmp_path, 2, {"loss.temperature": 0.1, "seed": 1}, score=None, metrics=[{"step": 120, "train/loss": 1.0}])
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {runtime: {choices: {hydra/sweeper: basic}, config_sources: []}, sweeper: {params: null}, "
        "job: {name: train, config_name: train}, overrides: {task: ['loss.temperature=0.05,0.1', 'seed=1,2']}}"
    )
    runs = read_runs(tmp_path)
    assert [(run.label, run.state) for run in runs] == [
        ("0", "finished"),
        ("1", "failed"),
        ("2", "unfinished"),
        ("", "not started"),
    ]
    assert list(runs[3].overrides) == ["loss.temperature=0.1", "seed=2"]
    page = report(tmp_path).read_text()
    for part in ("1 finished, 1 failed, 1 unfinished, 1 not started", "The loss of step 3 is nan.", "last step logged: 120"):
        assert part in page
    assert "loss.temperature=0.1 seed=2" in page and "1 failed and 2 did not finish" in page
    with (tmp_path / "report" / "results.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["finished", "failed", "unfinished", "not started"]


def test_the_cases_of_a_preset_that_never_started_are_listed(tmp_path: Path) -> None:
    run_of(tmp_path, 0, {"loss.similarity": "dot", "seed": 1})
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {runtime: {choices: {hydra/sweeper: cases}, config_sources: []}, job: {name: train, config_name: train}, "
        "sweeper: {params: {seed: '1,2'}, cases: [{loss.similarity: dot}, {loss.temperature: 0.1}]}, overrides: {task: []}}"
    )
    waiting = [sorted(run.overrides) for run in read_runs(tmp_path) if run.state == "not started"]
    assert waiting == [
        ["loss.similarity=dot", "seed=2"],
        ["loss.temperature=0.1", "seed=1"],
        ["loss.temperature=0.1", "seed=2"],
    ]


def test_the_command_of_a_run_is_what_it_was_started_with(tmp_path: Path) -> None:
    overrides = ["data.train_file='a b;c.txt'", "+demo.queries=[x y]", "seed=3", "resume=auto"]
    make_run(tmp_path / "0", overrides, {}, after={"STS-B-dev": 1.0})
    command = shlex.split(read_runs(tmp_path)[0].command)
    assert command == ["python", "-m", "simcse_lit.train", *overrides[:-1]]


def test_published_figures_stand_beside_the_setting_that_they_are_of(tmp_path: Path) -> None:
    make_sweep(tmp_path, [0.01, 0.05], [1, 2])
    table = tmp_path / "paper.csv"
    table.write_text(
        "pooler.name,loss.temperature,metric,paper,source\ncls,5e-2,STS-B-dev,86.2,Table D.1\n,10,STS-B-dev,64,D.1\n"
    )
    page = report(tmp_path, paper=table).read_text()
    mean = statistics.mean(run.scores["STS-B-dev"] for run in read_runs(tmp_path) if run.facts["loss.temperature"] == 0.05)
    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*Table D\.1.*?</tr>", page, re.DOTALL)
    assert f"{mean:.2f}" in row and "86.20" in row and f"{mean - 86.2:+.2f}" in row
    assert "not run" in page
    for content, part in (
        ("loss.tau,metric,paper,source\n1,STS-B-dev,1,x\n", "column loss.tau is not a key of these runs"),
        ("loss.temperature,metric,source\n1,STS-B-dev,x\n", "no column paper"),
        ("loss.temperature,metric,paper,source\n1,STS-B-dev,high,x\n", "row 2: paper is 'high'"),
        ("pooler.name,metric,paper,source\ncls,STS-B-dev,1,x\n", "2 of our settings"),
    ):
        table.write_text(content)
        with pytest.raises(UserError, match=re.escape(part)):
            report(tmp_path, paper=table)


def test_a_grid_of_two_keys_has_a_heat_map_and_a_search_at_random_has_none(tmp_path: Path) -> None:
    make_sweep(tmp_path / "grid", [0.01, 0.05], [1], ("cls", "avg"))
    for number in range(4):
        run_of(tmp_path / "search", number, {"loss.temperature": 0.01 * (1 + number), "optimizer.lr": 1e-5 * (4 - number)})
    assert (report(tmp_path / "grid").parent / "figures" / "heat_map.svg").is_file()
    assert not (report(tmp_path / "search").parent / "figures" / "heat_map.svg").exists()


def test_tables_are_true_to_names_of_any_spelling(tmp_path: Path) -> None:
    for number, name in enumerate(("a|b_c <i>", "50 % & $x$")):
        run_of(tmp_path, number, {"data.train_file": name})
    out = report(tmp_path).parent
    assert "| a\\|b\\_c &lt;i> | 1 | 50.00 |" in (out / "report.md").read_text()
    tex = (out / "report.tex").read_text()
    assert r"50 \% \& \$x\$ & 1 & 50.00" in tex and r"b\_c $<$i$>$" in tex
    with (out / "results.csv").open() as file:
        assert [row["data.train_file"] for row in csv.DictReader(file)] == ["a|b_c <i>", "50 % & $x$"]


def test_mistakes_are_told_in_one_screen(tmp_path: Path) -> None:
    run_of(tmp_path / "sweep", 0, {"seed": 1})
    for arguments, part in (
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(tmp_path / "sweep" / "0" / ".hydra")], "no run of simcse_lit.train"),
        ([str(tmp_path / "sweep"), "metric=STS"], "no run has this score. Scores: STS-B-dev"),
        ([str(tmp_path / "sweep"), "papers=x.csv"], "papers=x.csv: not one of baseline="),
        ([str(tmp_path / "sweep"), "baseline=0.05"], "must be KEY=VALUE"),
    ):
        with pytest.raises(UserError, match=part):
            main(arguments[0], arguments[1:])
    (tmp_path / "sweep" / "0" / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"scores\.json: cannot be read"):
        report(tmp_path / "sweep")


def test_one_run_alone_and_runs_none_of_which_finished_have_reports_too(tmp_path: Path) -> None:
    make_sweep(tmp_path / "one", [0.05], [1], curves=True)
    page = report(tmp_path / "one" / "0").read_text()
    assert "Only the seed" in page and "Training loss over steps" in page and "50.00" in page
    run_of(tmp_path / "none", 0, {"seed": 1}, score=None, error="out of luck")
    page = report(tmp_path / "none").read_text()
    assert "No run has finished" in page and "out of luck" in page


def test_numbers_of_terms_and_analyses_of_others_have_curves_those_of_one_term_together(tmp_path: Path) -> None:
    rows = [
        {
            "step": step,
            "train/loss/contrastive": 1.0 + seed,
            "train/loss/queue": 2.0,
            "train/loss/queue/filled": 0.5,
            "val/orphans": 0.3,
            "mine/beta": 1.0,
            **({"test/STS12": 50.0, "before/STS12": 40.0, "train/loss/late": 1.0} if step == 20 else {}),
        }
        for seed in (0, 1)
        for step in (10, 20)
    ]
    for seed in (0, 1):
        run_of(tmp_path, seed, {"loss.temperature": 0.1 * (1 + seed)}, metrics=rows[2 * seed : 2 * seed + 2])
    out = report(tmp_path).parent
    drawn = {path.stem for path in (out / "figures").glob("*.svg")} - {"scores"}
    numbers = {"train_loss_contrastive", "term_queue", "analyses_of_the_development_set", "other_numbers_of_mine"}
    assert drawn == numbers
    svg = (out / "figures" / "term_queue.svg").read_text()
    assert all(f">{text}<" in svg for text in ("Term queue", "loss", "filled", "step", " 0.1", " 0.2"))
    assert "Term queue over steps" in (out / "report.html").read_text()
    alone = report(tmp_path / "0").parent
    assert {path.stem for path in (alone / "figures").glob("*.svg")} == numbers


def test_a_figure_holds_few_numbers_and_scores_and_learning_rates_have_none() -> None:
    names = [f"train/loss/queue/{number}" for number in "abcdef"]
    listed = other_curves([*names, "val/hubs/share", "epoch_time", "lr-AdamW/pg2", "test/Avg.", "train/loss", "val/sts"])
    assert listed == {
        "Term queue, 1": dict(zip(names, "abcde", strict=False)),
        "Term queue, 2": {"train/loss/queue/f": "f"},
        "Other numbers": {"epoch_time": "epoch_time"},
        "Analyses of the development set": {"val/hubs/share": "hubs/share"},
    }


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    make_sweep(tmp_path, [0.05, 0.1], [1])
    code = f"import sys\nfrom simcse_lit.report import main\nmain({str(tmp_path)!r}, [])\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


def watched(page: Page) -> tuple[list[str], list[str]]:
    """What the console of a page will say, and what it will ask for."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    return said, asked


def test_the_page_is_sound_in_a_browser_at_both_widths_whatever_names_hold(tmp_path: Path, browser: Browser) -> None:
    """No error, no request but for the page itself, nothing wider than the window, no element made of a name."""
    number = 0
    for temperature in (0.01, 0.05):
        for name in (HOSTILE, "_wiki " + 40 * "x"):
            run_of(tmp_path, number, {"loss.temperature": temperature, "data.train_file": name}, score=60.0 + number)
            number += 1
    run_of(tmp_path, number, {"data.train_file": HOSTILE}, score=None, error=HOSTILE)
    paper = tmp_path / "paper.csv"
    paper.write_text("loss.temperature,metric,paper,source\n7,STS-B-dev,1,<script>alert(2)</script>\n")
    path = report(tmp_path, paper=paper)
    assert "<script" not in path.read_text()
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        said, asked = watched(page)
        page.goto(path.as_uri())
        page.screenshot(full_page=True)
        assert (said, asked) == ([], [path.as_uri()])
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelectorAll('script, img, link[rel=stylesheet]').length") == 0
        assert page.evaluate("document.querySelectorAll('figure svg').length") >= 2
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(ids) == len(set(ids))
        assert page.get_by_text(HOSTILE).count() > 0
        page.close()
