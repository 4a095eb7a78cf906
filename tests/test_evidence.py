"""The evidence of the miniatures: statistics of verdicts, what names a setting, and pages that are made from the rows."""

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import experiments.run
from experiments import again, evidence, rows
from experiments.rows import Row
from experiments.run import is_done
from experiments.settings import SWEEPS, Job, Shown, jobs_of_sweep, labels, shown_settings
from experiments.verdicts import AGAINST, AS_IN_PAPER, NOT_RUN, UNDECIDED, Claim, judge, read_claims, scores
from tests.conftest import ROOT

NUMBERS = st.floats(-100, 100).map(lambda value: float(f"{value:.5g}"))


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", str(ROOT / "tests"))  # a folder that exists


def row(changed: str, seed: int, score: float, *, step: int = 62, experiment: str = "miniature-unsup") -> Row:
    return Row(experiment, changed, seed, step, 62, {"STS-B-dev": score}, "32-true", 1.0, "abc")


def claim(second: str, expected: str = "above") -> Claim:
    return Claim("x", "y", "dropout", "STS-B-dev", expected, "miniature-unsup", "", second)


def of(changed: str, values: list[float]) -> list[Row]:
    return [row(changed, seed, value) for seed, value in enumerate(values)]


HIGH, LOW = [70.0, 71.0, 69.5, 70.2, 70.9], [60.0, 61.3, 59.9, 60.4, 60.5]


def test_a_difference_is_paired_by_seed_and_tested_by_student() -> None:
    extra = [row("b=1", 9, 0.0), row("", 0, 5.0, step=10)]  # a seed of one side, and a score during training
    (verdict,) = judge([claim("b=1")], [*of("", HIGH), *of("b=1", LOW), *extra])
    test = stats.ttest_rel(HIGH, LOW)
    assert list(verdict.differences) == [0, 1, 2, 3, 4]
    assert verdict.mean == pytest.approx(sum(HIGH) / 5 - sum(LOW) / 5)
    assert verdict.p == pytest.approx(test.pvalue)
    assert verdict.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert verdict.word == AS_IN_PAPER


def test_the_direction_decides_between_the_papers_side_and_the_other() -> None:
    every = [*of("", HIGH), *of("b=1", LOW)]
    assert judge([claim("b=1", "below")], every)[0].word == AGAINST
    swapped = [*of("", LOW), *of("b=1", HIGH)]
    assert judge([claim("b=1")], swapped)[0].word == AGAINST
    assert judge([claim("b=1", "below")], swapped)[0].word == AS_IN_PAPER


def test_without_enough_seeds_or_a_clear_difference_nothing_is_decided() -> None:
    assert judge([claim("b=1")], [*of("", HIGH[:4]), *of("b=1", LOW[:4])])[0].word == UNDECIDED
    assert judge([claim("b=1")], [*of("", HIGH), *of("b=1", [70.5, 70.0, 70.5, 69.5, 71.5])])[0].word == UNDECIDED
    assert judge([claim("b=1")], [*of("", HIGH), *of("b=1", HIGH)])[0].word == UNDECIDED  # no variance, no test
    assert judge([claim("b=1")], of("", HIGH))[0].word == NOT_RUN


def test_p_values_are_corrected_for_all_claims_together() -> None:
    near = [69.0, 70.2, 69.1, 69.0, 70.1]
    every = [*of("", HIGH), *of("b=1", LOW), *of("c=1", near)]
    alone, together = judge([claim("c=1")], every)[0], judge([claim("c=1"), claim("b=1")], every)[0]
    assert alone.p_holm == alone.p == together.p
    assert together.p_holm == together.p  # the largest p of two
    three = judge([claim("c=1"), claim("b=1"), claim("c=1")], every)
    assert three[0].p_holm == pytest.approx(2 * (three[0].p or math.nan))


def test_the_untrained_encoder_is_the_same_for_every_seed() -> None:
    every = [*of("", HIGH), row("", 0, 68.0, step=0)]
    (verdict,) = judge([claim("untrained")], every)
    assert list(verdict.differences.values()) == pytest.approx([value - 68 for value in HIGH])
    assert scores(every, ("miniature-unsup", ""), "STS-B-dev") == dict(enumerate(HIGH))


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["", "a=1", "a=$SIMCSE_DATA/x b=[1,2]"]), st.integers(0, 9), st.integers(0, 3)),
        st.dictionaries(st.sampled_from(["STS-B-dev", "Avg.", "alignment"]), NUMBERS, min_size=1),
    )
)
def test_rows_are_read_as_they_were_written(given_rows: dict[tuple[str, int, int], dict[str, float]]) -> None:
    made = [Row("p", *key, 3, values, "32-true", 2.5, "abc") for key, values in given_rows.items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        rows.write(made, path)
        again, text = rows.read(path), path.read_bytes()
        rows.write(reversed(again), path)
        assert path.read_bytes() == text  # the order of the file does not depend on that of the runs
    assert {(one.setting, one.seed, one.step): one.scores for one in again} == {
        (one.setting, one.seed, one.step): one.scores for one in made
    }


def test_what_is_measured_and_where_does_not_name_a_setting() -> None:
    words = ["trainer.precision=bf16-mixed", "evaluation.test=true", "tasks=transfer", "logger=tensorboard"]
    plain, other = jobs_of_sweep("temperature"), jobs_of_sweep("temperature", words)
    assert [(job.setting, job.seed) for job in plain] == [(job.setting, job.seed) for job in other]


def test_the_presets_own_value_names_no_change_so_tables_share_a_run() -> None:
    default = ("miniature-unsup", "")
    for name in ("main", "augmentation", "objective", "dropout", "pooling", "batch-size-lr"):
        assert default in [job.setting for job in jobs_of_sweep(name)], name
    assert ("miniature-sup", "") in [job.setting for job in jobs_of_sweep("mlm-weight")]


@pytest.mark.parametrize("name", SWEEPS)
def test_jobs_that_differ_have_names_and_folders_that_differ(name: str) -> None:
    jobs = jobs_of_sweep(name)
    assert len({(job.setting, job.seed) for job in jobs}) == len(jobs)
    assert len({job.folder for job in jobs}) == len(jobs)
    assert all(str(ROOT) not in job.changed for job in jobs)


def test_settings_of_a_table_have_labels_that_differ() -> None:
    for name in SWEEPS:
        shown = shown_settings(name)
        assert list(labels(shown).values()) == shown, name
    assert "miniature-unsup, warmup_ratio=0.1" in labels(shown_settings("beyond-recipe"))


def test_settings_have_the_figures_of_the_papers_table() -> None:
    shown = {one.setting[1]: one for one in shown_settings("dropout")}
    assert shown[""].paper == 82.5 and shown["loss.fixed_dropout=true"].paper == 43.6
    assert shown["model.dropout=0.3"].paper is None
    pooling = {one.setting: one.paper for one in shown_settings("pooling")}
    assert pooling["miniature-sup", "projection.name=mlp"] == 86.2


def test_each_claim_compares_settings_of_its_sweep_with_five_seeds() -> None:
    for one in read_claims():
        jobs = jobs_of_sweep(one.sweep)
        for side in one.sides:
            if side[1] != "untrained":
                assert {job.seed for job in jobs if job.setting == side} == {0, 1, 2, 3, 4}, one.claim
        assert one.expected in ("above", "below")


def test_three_seeds_choose_the_setting_whose_test_sets_are_judged_with_five() -> None:
    def both(changed: str, dev: list[float], average: list[float]) -> list[Row]:
        scored = zip(of(changed, dev), average, strict=True)
        return [replace(row, scores={**row.scores, "Avg.": value}) for row, value in scored]

    default = both("", HIGH, [60.0, 61.0, 60.5, 60.2, 60.8])
    chosen = both("b=1", [72.0, 73.0, 71.0, 50.0, 50.0], [62.0, 63.0, 62.5, 62.2, 62.8])  # the last two seeds do not count
    other = of("c=1", [71.0, 71.5, 71.2])
    few = of("d=1", [99.0, 99.0])
    shown: dict[str, list[Shown]] = {name: [] for name in evidence.SEARCHED}
    shown["dropout"] = [Shown(("miniature-unsup", changed), {}, None) for changed in ("", "b=1", "c=1", "d=1")]
    told = evidence.beyond([*default, *chosen, *other, *few], shown)
    assert "of 2 other settings, `b=1` is the best on STS-B dev\nwith three seeds (72.00)" in told
    assert "+2.00, which is more than two standard deviations" in told and "`miniature-sup`: not run yet." in told
    near = both("b=1", [72.0, 73.0, 71.0, 50.0, 50.0], [60.1, 61.1, 60.6, 60.3, 60.9])
    assert "+0.10, which is not more" in evidence.beyond([*default, *near, *other], shown)
    assert "`miniature-unsup`: not run yet." in evidence.beyond([*default, *chosen, *of("c=1", [80.0] * 3)], shown)


def test_each_row_is_a_run_of_a_sweep_and_each_run_has_its_rows() -> None:
    found = rows.read()
    jobs = [job for name in SWEEPS for job in jobs_of_sweep(name)]
    assert {(row.setting, row.seed) for row in found} == {(job.setting, job.seed) for job in jobs}
    assert [job.words for job in jobs if not is_done(job, found)] == []


def test_pages_and_readmes_are_those_that_the_rows_make(capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("same", [True, False])
def test_make_evidence_fails_if_a_verdict_is_another_one(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = rows.read()

    def run_missing(jobs: list[Job], path: Path, at_once: int) -> None:
        asked = {(job.setting, job.seed) for job in jobs}
        found = [row for row in committed if (row.setting, row.seed) in asked and row.is_last]
        assert {(row.setting, row.seed) for row in found} == asked and len(asked) == 25
        bad = () if same else (("miniature-unsup", ""), ("miniature-unsup", "loss.fixed_dropout=true"))
        dev = "STS-B-dev"  # as good with one mask as with two
        rows.write([replace(row, scores={dev: 60 + row.seed / 9}) if row.setting in bad else row for row in found], path)

    monkeypatch.setattr(again, "run_missing", run_missing)
    monkeypatch.setattr(again, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["again"])
    assert again.main() == (0 if same else 1)
    printed = capsys.readouterr().out
    assert ("before: as in the paper" in printed) != same
    assert printed.count(" seeds)") == 4 and (tmp_path / "evidence.md").is_file()


def run(folder: Path, data: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`python -m experiments.run WORDS` in a folder, with the rows there."""
    environment = os.environ | {"SIMCSE_DATA": str(data), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments.run", *words, f"--rows={folder / 'rows.csv'}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_runs_are_added_once_and_one_that_fails_is_named(tmp_path: Path, simcse_data: Path) -> None:
    tiny = ("model=tiny", "data=samples", "senteval.from_hub=false", "tasks@dev=samples-dev", "analyses=none")
    words = ("mlm-weight", *tiny, "data.batch_size=8", "trainer.max_steps=1", "loss.mlm_weight=0,0.1", "seed=0")
    failed = run(tmp_path, simcse_data, *words, "optimizer.lr=1e30")
    assert failed.returncode == 1 and "2 jobs, 2 without a row" in failed.stdout
    assert failed.stdout.count("seed=0: failed, see multirun/rows/") == failed.stderr.count("seed=0") == 2
    first, second = run(tmp_path, simcse_data, *words), run(tmp_path, simcse_data, *words, "seed=0,1")
    assert first.returncode == second.returncode == 0, first.stderr
    assert "2 jobs, 2 without a row" in first.stdout
    assert "4 jobs, 2 without a row" in second.stdout
    found = rows.read(tmp_path / "rows.csv")
    assert [row.seed for row in found] == [0, 1, 0, 1]
    assert len({row.setting for row in found}) == 2 and all("loss.mlm_weight" in row.changed for row in found[:2])
    assert not list((tmp_path / "multirun" / "rows").glob("*/export"))  # folders of finished runs are removed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dropuot"], "dropuot: there is no such sweep. Sweeps: main, augmentation"),
        (["seed=1"], "Name a sweep. Sweeps: main"),
        (["main", "--at-once=0"], "--at-once=0: must be 1 or more"),
        (["main", "optimizer.lrr=1"], "optimizer.lrr"),
        (["main", "--rows=bad.csv"], "bad.csv, line 2: is no row of a run ('seed')"),
    ],
)
def test_what_cannot_be_run_is_one_message(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("experiment,changed\nx,y\n")
    monkeypatch.setattr(sys, "argv", ["run", *words])
    with pytest.raises(SystemExit) as caught:
        experiments.run.main()
    assert told in str(caught.value)


@pytest.mark.long
def test_thirty_steps_tell_masks_positives_and_supervision_apart(tmp_path: Path, simcse_data: Path) -> None:
    """A mistake in masks, views, positives, gathering or pooling shows here: the margins are a third of those measured."""
    words = ("seed=0,1", "trainer.max_steps=30", "evaluation.test=false", "evaluation.before=false")
    for sweep in (("dropout", "model.dropout=0.1", "loss.fixed_dropout=false,true"), ("main", "experiment=miniature-sup")):
        done = run(tmp_path, simcse_data, *sweep, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    found = rows.read(tmp_path / "rows.csv")
    steps = "trainer.max_steps=30"
    two_masks = scores(found, ("miniature-unsup", steps), "STS-B-dev")
    one_mask = scores(found, ("miniature-unsup", f"loss.fixed_dropout=true {steps}"), "STS-B-dev")
    supervised = scores(found, ("miniature-sup", steps), "STS-B-dev")
    for seed in (0, 1):
        assert two_masks[seed] - one_mask[seed] > 2, (two_masks, one_mask)
        assert supervised[seed] - two_masks[seed] > 2, (supervised, two_masks)
