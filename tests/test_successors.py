"""The comparison of methods under one protocol: how cells and finalists are chosen, its tables, and a run; short vectors."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats

from experiments import dimensions, methods, protocol, rows
from experiments.methods import BASELINE, Method, direction_table, measured, read_methods, results_table
from experiments.rows import Row
from experiments.settings import Job
from simcse_lit import SimCSE
from tests.conftest import ROOT

LOW, HIGH = "optimizer.lr=1e-4", "optimizer.lr=2e-4"


def row(name: str, cell: str, seed: int, dev: float, average: float = 0.0, seconds: float = 1.0) -> Row:
    scores = {"STS-B-dev": dev, "Avg.": average or dev, "seconds_per_step": seconds, "peak_GB": 1.0 + seed}
    return Row("miniature-successors", f"name={name} {cell}", seed, 62, 62, scores, "32-true", 1.0, "abc")


def job(name: str, cell: str) -> Job:
    words = ("+sweep=miniature/successors", f"name={name}", cell, "seed=0")
    return Job(words, "miniature-successors", f"name={name} {cell}", 0, {"name": name})


def method(name: str, paper: float | None = None) -> Method:
    return Method(name.upper(), "loss=x", "X 2020", "text", "–", "2", "", name=name, paper=paper)


def test_the_development_set_chooses_the_cell_of_each_method() -> None:
    jobs = [job("a", LOW), job("a", HIGH), job("b", LOW), job("b", HIGH)]
    found = [row("a", LOW, 0, 60, 70), row("a", HIGH, 0, 61, 65), row("b", LOW, 0, 63, 60), row("b", HIGH, 0, 62, 70)]
    assert [one.changed for one in protocol.best_cells(jobs, found)] == [f"name=a {HIGH}", f"name=b {LOW}"]


def test_the_finalists_are_the_best_beside_the_baseline_and_stay_so_with_more_seeds() -> None:
    names = [BASELINE, "mixcse", "dcl", "esimcse", "gist"]
    chosen = [job(name, LOW) for name in names]
    found = [row(name, LOW, seed, 60 + place) for place, name in enumerate(names) for seed in (0, 1, 2)]
    assert protocol.best_methods(chosen, found) == ["gist", "esimcse", "dcl"]
    more = [row("dcl", LOW, seed, 0) for seed in (3, 4)]
    assert protocol.best_methods(chosen, found + more) == ["gist", "esimcse", "dcl"]


def test_a_job_with_another_seed_differs_in_nothing_else() -> None:
    jobs = protocol.with_seeds([job("a", LOW)], range(2))
    assert [one.seed for one in jobs] == [0, 1]
    assert jobs[1].words == ("+sweep=miniature/successors", "name=a", LOW, "seed=1")
    assert replace(jobs[1], seed=0, words=jobs[0].words) == jobs[0]


def test_gains_are_over_the_baseline_and_tested_by_welch_with_holms_correction() -> None:
    base, high, near = [70.0, 71.0, 69.5], [75.0, 75.5, 74.8], [70.5, 70.9, 70.0]
    found = [row(BASELINE, LOW, seed, 60, value) for seed, value in enumerate(base)]
    found += [row("a", HIGH, seed, 60, value, 3.0) for seed, value in enumerate(high)]
    found += [row("a", LOW, 0, 99, 10), *(row("b", LOW, seed, 60, value) for seed, value in enumerate(near))]
    made = measured([method(BASELINE, 76.0), method("a", 78.0), method("b", 77.0), method("c")], found)
    assert [one.method.name for one in made] == [BASELINE, "a", "b"]
    assert made[1].cell == HIGH  # the cell with the seeds, not that of the grid alone
    smaller = stats.ttest_ind(high, base, equal_var=False).pvalue
    assert made[1].p == pytest.approx(2 * smaller)
    assert made[2].p == pytest.approx(stats.ttest_ind(near, base, equal_var=False).pvalue)
    table = {line[0]: line for line in results_table("text", made)[1:]}
    assert list(table) == ["A", "B", BASELINE.upper()]  # best average first
    assert table["A"][6:9] == ["74.80", "+4.93", f"{2 * smaller:.3f}"] and table["A"][-2:] == ["3.0", "3.0"]
    directions = {line[0]: line[2:5] for line in direction_table(made)[1:]}
    assert directions == {"A": ["+2.00", "+4.93", "as published"], "B": ["+1.00", "+0.30", "undecided"]}


def test_every_case_of_both_sweeps_is_a_method_and_every_method_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", str(ROOT / "tests"))  # a folder that exists
    names = [one.name for one in read_methods() if one.name]
    for scale in methods.SCALES:
        jobs = protocol.grid(scale, [] if scale == "miniature" else ["data.batch_size=64"])
        assert list(dict.fromkeys(one.config["name"] for one in jobs)) == names
        assert len({one.folder for one in jobs}) == len(jobs)
        assert not [word for one in jobs for word in one.words if "$" in word]  # as typed, a text is not interpolated
        for one in jobs:
            (used,) = [each for each in read_methods() if each.name == one.config["name"]]
            assert set(used.use.split()) <= set(one.words), used


def test_the_pages_are_those_that_the_rows_make() -> None:
    for path, text in methods.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m experiments.methods"


def test_each_row_is_of_a_method_and_the_seeds_are_complete() -> None:
    known = {one.name for one in read_methods()}
    by_method: dict[str, set[int]] = {}
    for each in rows.read(methods.FOLDER / "miniature.csv"):
        name = each.changed.partition(" ")[0].removeprefix("name=")
        assert name in known, each
        by_method.setdefault(name, set()).add(each.seed)
    assert all({0, 1, 2} <= seeds for seeds in by_method.values()), by_method


def test_the_protocol_runs_and_goes_on_where_it_was(tmp_path: Path, simcse_data: Path) -> None:
    environment = os.environ | {"SIMCSE_DATA": str(simcse_data), "PYTHONPATH": str(ROOT)}
    tiny = ("model=tiny", "data=samples", "senteval.from_hub=false", "tasks=STS-B", "analyses=none", "data.batch_size=8")
    words = ("miniature", "--rows=rows.csv", "--only=simcse", *tiny, "trainer.max_steps=1")
    command = [sys.executable, "-m", "experiments.protocol", *words]
    first, again = (subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True) for _ in "ab")
    assert first.returncode == again.returncode == 0, first.stdout + first.stderr
    assert [line for line in first.stdout.splitlines() if " jobs, " in line] == [
        "2 jobs, 2 without a row in rows.csv",
        "3 jobs, 2 without a row in rows.csv",
        "5 jobs, 2 without a row in rows.csv",
    ]
    assert again.stdout.count(" 0 without a row") == 3
    found = rows.read(tmp_path / "rows.csv")
    assert sorted(row.seed for row in found) == [0, 0, 1, 2, 3, 4]
    assert all(row.scores["peak_GB"] > 0 for row in found)


def test_an_unknown_method_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", str(ROOT / "tests"))
    monkeypatch.setattr(sys, "argv", ["protocol", "miniature", "--only=simcsee"])
    with pytest.raises(SystemExit, match="--only simcsee: there is no such method"):
        protocol.main()


def test_short_vectors_are_scored_by_the_first_numbers_of_both_runs(tmp_path: Path, simcse_data: Path) -> None:
    environment = os.environ | {"SIMCSE_DATA": str(simcse_data), "PYTHONPATH": str(ROOT)}
    code = "from experiments import dimensions as made; made.WIDTHS, made.SEEDS = (64, 16), range(1); made.main()"
    tiny = ("model=tiny", "data=samples", "tasks=STS-B", "data.batch_size=8", "trainer.max_steps=1")
    command = [sys.executable, "-c", code, "--path=short.csv", *tiny]
    first, again = (subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True) for _ in "ab")
    assert first.returncode == again.returncode == 0, first.stdout + first.stderr
    assert "2 runs, 2 to train" in first.stdout and "2 runs, 0 to train" in again.stdout
    found = dimensions.read(tmp_path / "short.csv")
    assert {loss: list(of) for loss, of in found.items()} == {"Matryoshka": [64, 16], "without": [64, 16]}
    for loss, by_width in found.items():
        job = dimensions.job_of(loss, 0, tiny)
        model = SimCSE(str(tmp_path / "multirun" / "rows" / job.folder / "export"))
        pairs = [
            line.split("\t") for line in (simcse_data / "SentEval/STS/STSBenchmark/sts-test.csv").open(encoding="utf-8")
        ]
        first_N, second_N = (model.encode([fields[place] for fields in pairs], normalize_to_unit=False) for place in (5, 6))
        for width, by_seed in by_width.items():
            cosines = torch.cosine_similarity(first_N[:, :width].double(), second_N[:, :width].double())
            gold = [float(fields[4]) for fields in pairs]
            assert by_seed[0] == pytest.approx(100 * stats.spearmanr(cosines, gold).statistic, abs=0.01)
