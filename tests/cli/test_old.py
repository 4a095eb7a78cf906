"""What version 0.1 wrote (tests/old) still loads, resumes, searches and reports."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simcse_lit import Index, SimCSE, load_export
from tests.conftest import OLD, Cli, metrics

EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folders, in which the old run's own place does not exist."""
    assert not Path("/home/user/old").exists()
    return Path(shutil.copytree(OLD, tmp_path / "old"))


@pytest.mark.parametrize(("kind", "source"), [("export", "export"), ("checkpoint", "stopped/checkpoints/last.ckpt")])
def test_vectors_are_those_of_version_0_1(old: Path, monkeypatch: pytest.MonkeyPatch, kind: str, source: str) -> None:
    monkeypatch.chdir(old)  # the checkpoint names its base model as the run did: backbone
    vectors = SimCSE(source).encode(EXPECTED["sentences"], return_numpy=True, normalize_to_unit=False)
    np.testing.assert_allclose(vectors, EXPECTED[kind], atol=1e-5)


def test_an_export_says_how_it_is_read(old: Path) -> None:
    encoder, tokenizer = load_export(old / "export")
    assert (encoder.pooler.name, encoder.head.name, len(tokenizer)) == ("avg", "mlp_train_only", 2000)


def test_an_index_finds_what_it_found(old: Path) -> None:
    queries = torch.as_tensor(SimCSE(str(old / "export")).encode(EXPECTED["sentences"]))
    hits = Index.load(old / "index").search(queries, 3)
    for found, expected in zip(hits, EXPECTED["hits"], strict=True):
        assert [hit.id for hit in found] == [place for place, _ in expected]
        np.testing.assert_allclose([hit.score for hit in found], [score for _, score in expected], atol=1e-5)


def test_a_stopped_run_that_was_moved_ends_as_the_one_that_was_not_stopped(old: Path, warm_cli: Cli) -> None:
    shutil.copytree(old, old.parent, dirs_exist_ok=True)  # the command's folder, where the run's backbone/ is
    done = warm_cli("resume=stopped")
    assert done.returncode == 0, done.stderr
    assert "Resume   from step 5" in done.stdout
    ended, whole = (load_file(folder / "export" / "model.safetensors") for folder in (old.parent / "stopped", old))
    for name, weight in whole.items():
        torch.testing.assert_close(ended[name], weight, rtol=0, atol=1e-5)
    scores = json.loads((old.parent / "stopped" / "scores.json").read_text())
    before = json.loads((old / "finished" / "scores.json").read_text())
    for stage in ("before", "after"):
        assert {**scores[stage]["dev"], **scores[stage]["test"]} == pytest.approx(before[stage], abs=0.01)
    scored = metrics(old.parent / "stopped")["val/sts"]
    assert scored == pytest.approx(metrics(old / "finished")["val/sts"], abs=0.01), "what was logged before is kept"
    again = warm_cli("resume=stopped")
    assert "is finished: Pairs-dev" in again.stdout


def test_the_report_of_old_runs_has_their_scores(old: Path, warm_cli: Cli) -> None:
    done = warm_cli("old", command="report")
    assert done.returncode == 0, done.stderr
    text = (old / "report" / "report.md").read_text()
    assert "| finished | 1 | -4.79 | 6.61 |" in text
    assert "- unfinished: stopped last step logged: 3" in text


def test_a_sweep_knows_an_old_finished_job_and_does_not_run_it_again(old: Path, warm_cli: Cli) -> None:
    sweep = old.parent / "sweep"
    shutil.copytree(old / "finished", sweep / "0")
    shutil.copytree(old / "backbone", old.parent / "backbone")
    config = (sweep / "0" / "config.yaml").read_text().replace("/home/user/old/finished", str(sweep / "0"))
    cache = old.parent / "cache"
    (sweep / "0" / "config.yaml").write_text(config.replace("/home/user/old/cache", str(cache)))
    overrides = [line[2:] for line in (sweep / "0" / ".hydra" / "overrides.yaml").read_text().splitlines()]
    done = warm_cli("-m", *overrides, "hydra.sweep.dir=sweep", env={"SIMCSE_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    assert "finished  -4.79 in sweep/0" in done.stdout
