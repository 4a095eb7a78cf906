"""scores.json: what is written is read back, the file of version 0.1 too, and a damaged one is named."""

import json
import math
from pathlib import Path

import pytest

from simcse_lit.config.same_run import finished_runs
from simcse_lit.errors import UserError
from simcse_lit.families import STS, Family
from simcse_lit.scores import NoScore, by_task, dev_score, read_families, read_scores, write_scores
from tests.run_folders import make_run

SCORES = {
    "before": {"dev": {"STS-B-dev": 36.52}, "test": {}},
    "after": {"dev": {"STS-B-dev": 55.89}, "test": {"STS12": 41.5, "Avg.": 51.48}},
}
FAMILIES = {"STS-B-dev": STS, "found": Family("retrieval", "nDCG@10 x 100", columns=("found",)), "STS12": STS}


def test_scores_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_scores(tmp_path, SCORES, FAMILIES)
    assert read_scores(tmp_path) == SCORES
    assert read_families(tmp_path) == FAMILIES
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_scores_of_version_0_1_had_the_development_set_first(tmp_path: Path) -> None:
    old = {"before": {"STS-B-dev": 36.52}, "after": {"STS-B-dev": 55.89, "STS12": 41.5, "Avg.": 51.48}}
    (tmp_path / "scores.json").write_text(json.dumps(old))
    assert read_scores(tmp_path) == SCORES
    assert read_families(tmp_path) == {}


def test_an_old_test_set_named_dev_stays_a_test_set(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps({"after": {"mine": 1.0, "dev": 2.0, "test": 3.0}}))
    assert read_scores(tmp_path) == {"after": {"dev": {"mine": 1.0}, "test": {"dev": 2.0, "test": 3.0}}}


def test_a_run_without_scores_has_none(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == {}
    assert read_families(tmp_path) == {}


@pytest.mark.parametrize("families", ["[]", '{"a": {}}', '{"a": {"tasks": [], "columns": [], "metric": "b", "nome": "a"}}'])
def test_damaged_families_are_named(tmp_path: Path, families: str) -> None:
    (tmp_path / "scores.json").write_text(f'{{"after": {{"dev": {{"a": 1.0}}, "test": {{}}}}, "families": {families}}}')
    with pytest.raises(UserError, match=r"scores\.json: cannot be read"):
        read_families(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"after": 3}', '{"after": {"dev": {"a": "high"}, "test": {}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=r"scores\.json: cannot be read"):
        read_scores(tmp_path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("form", "stage"),
    [
        ('{{"before": {{"dev": {{"a": {}}}, "test": {{}}}}}}', "before"),
        ('{{"after": {{"dev": {{"b": 1.0}}, "test": {{"a": {}}}}}}}', "after"),
        ('{{"after": {{"b": 1.0, "a": {}}}}}', "after"),  # of version 0.1
    ],
)
def test_a_number_that_is_no_score_is_refused_with_its_task(tmp_path: Path, form: str, stage: str, value: str) -> None:
    (tmp_path / "scores.json").write_text(form.format(value))
    said = rf"scores\.json: a {stage} training is -?(nan|inf), which is no score(.|\n)*resume={tmp_path}"
    with pytest.raises(NoScore, match=said):
        read_scores(tmp_path)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_written_and_the_old_file_stays(tmp_path: Path, score: float) -> None:
    write_scores(tmp_path, SCORES, FAMILIES)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_scores(tmp_path, {**SCORES, "after": {"dev": {"STS-B-dev": score}, "test": {}}}, {})
    assert read_scores(tmp_path) == SCORES


def test_a_job_without_a_score_is_not_finished(tmp_path: Path) -> None:
    for name, score in (("good", 70.0), ("none", math.nan)):
        make_run(tmp_path / name, [f"seed={name}"], {"seed": name}, after={"STS-B-dev": score})
    assert [run.folder.name for run in finished_runs(tmp_path).values()] == ["good"]


def test_the_development_set_leads_each_row() -> None:
    assert by_task(SCORES)["after"] == {"STS-B-dev": 55.89, "STS12": 41.5, "Avg.": 51.48}
    assert dev_score(SCORES["after"]) == ("STS-B-dev", 55.89)
