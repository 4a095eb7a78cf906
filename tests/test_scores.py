"""scores.json: what is written is read back, the file of version 0.1 too, and a damaged one is named."""

import json
from pathlib import Path

import pytest

from simcse_lit.errors import UserError
from simcse_lit.scores import by_task, dev_score, read_scores, write_scores

SCORES = {
    "before": {"dev": {"STS-B-dev": 36.52}, "test": {}},
    "after": {"dev": {"STS-B-dev": 55.89}, "test": {"STS12": 41.5, "Avg.": 51.48}},
}


def test_scores_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_scores(tmp_path, SCORES)
    assert read_scores(tmp_path) == SCORES
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_scores_of_version_0_1_had_the_development_set_first(tmp_path: Path) -> None:
    old = {"before": {"STS-B-dev": 36.52}, "after": {"STS-B-dev": 55.89, "STS12": 41.5, "Avg.": 51.48}}
    (tmp_path / "scores.json").write_text(json.dumps(old))
    assert read_scores(tmp_path) == SCORES


def test_an_old_test_set_named_dev_stays_a_test_set(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps({"after": {"mine": 1.0, "dev": 2.0, "test": 3.0}}))
    assert read_scores(tmp_path) == {"after": {"dev": {"mine": 1.0}, "test": {"dev": 2.0, "test": 3.0}}}


def test_a_run_without_scores_has_none(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"after": 3}', '{"after": {"dev": {"a": "high"}, "test": {}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=r"scores\.json: cannot be read"):
        read_scores(tmp_path)


def test_the_development_set_leads_each_row() -> None:
    assert by_task(SCORES)["after"] == {"STS-B-dev": 55.89, "STS12": 41.5, "Avg.": 51.48}
    assert dev_score(SCORES["after"]) == ("STS-B-dev", 55.89)
