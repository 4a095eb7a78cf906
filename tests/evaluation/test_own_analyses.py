"""Analyses that a user wrote get their JSON, and a figure or a table; what they lack is said before encoding."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import make_analyses
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import load_suite
from simcse_lit.evaluation.task import Embed
from simcse_lit.report import report
from simcse_lit.training.build import build
from simcse_lit.training.scoring import Scorer
from tests.cli.test_evaluate import raw_model, run
from tests.conftest import train_config


class Width:
    """Returns numbers of every kind that torch and NumPy have."""

    name: ClassVar[str] = "width"

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        vectors_NH = embed(list(dict.fromkeys(task.sentences())))
        width = vectors_NH.shape[1]
        return {"width": np.int64(width), "none": float("nan"), "grid": np.arange(2.0), "ones": torch.ones(2)}


class Drawn(Width):
    name: ClassVar[str] = "drawn"

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        return {**super().compute(task, embed), "score": 7}

    def draw(self, by_label: dict[str, dict[str, Any]], path: Path) -> None:
        path.write_text(" ".join(f"{label}: {found['width']}, {found['score']}" for label, found in by_label.items()))


class Grouped:
    """Returns numbers in groups."""

    name: ClassVar[str] = "grouped"

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        return {
            "hubs": {"most": 3, "share": np.float32(0.5), "by_length": {"short": torch.tensor(0.25)}},
            "curve": [1, 2],
            "done": True,
        }


class SecondAlignment(Grouped):
    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        return {"alignment": 1.0}


class Bare(Grouped):
    def compute(self, task: STSTask, embed: Embed) -> Any:
        return 0.5


class Elsewhere(Grouped):
    def compute(self, task: STSTask, embed: Embed) -> Any:
        return {"norm": embed(["A sentence of no task."]).norm()}


class Nameless:
    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        raise AssertionError("nothing was to be encoded")


class Results(Nameless):
    name: ClassVar[str] = "results"


class Outside(Nameless):
    name: ClassVar[str] = "../mine"


class SecondDensity(Nameless):
    name: ClassVar[str] = "density"


class Idle:
    name: ClassVar[str] = "idle"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_model(tmp_path_factory.mktemp("model") / "raw", 0)


def test_an_analysis_of_ones_own_gets_its_json_beside_ours_and_no_figure(model: Path, tmp_path: Path) -> None:
    added = f"+analyses.mine._target_={__name__}.Width"
    content = run(tmp_path / "run", f"checkpoint={model}", "analyses=spectrum", "tasks@analysed=samples-dev", added)
    expected = {"width": 64, "none": None, "grid": [0.0, 1.0], "ones": [1.0, 1.0]}
    assert content["encoders"][0]["analyses"]["width"] == expected
    assert json.loads((tmp_path / "run" / "width.json").read_text()) == {"raw": expected}
    assert (tmp_path / "run" / "spectrum.png").is_file() and not list((tmp_path / "run").glob("width.[ps]*g"))


def test_an_analysis_of_ones_own_draws_all_encoders_together(model: Path, tmp_path: Path) -> None:
    other = raw_model(tmp_path / "other", 1)
    asked = (f"checkpoint=[{model},{other}]", "tasks=[]", "tasks@analysed=samples-dev")
    run(tmp_path / "run", *asked, f"+analyses.mine._target_={__name__}.Drawn")
    drawn = (tmp_path / "run" / "drawn.png").read_text()
    assert "raw: 64, 7" in drawn and "other: 64, 7" in drawn
    assert not (tmp_path / "run" / "drawn.md").exists()


def test_an_analysis_that_draws_nothing_has_a_table_of_its_numbers_and_of_those_in_groups(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = raw_model(tmp_path / "other", 1)
    asked = (f"checkpoint=[{model},{other}]", "tasks=[]", "tasks@analysed=samples-dev")
    run(tmp_path / "run", *asked, f"+analyses.mine._target_={__name__}.Grouped")
    rows = (tmp_path / "run" / "grouped.md").read_text().splitlines()
    assert rows[0] == "| Model | hubs/most | hubs/share | hubs/by\\_length/short |"
    assert [row.split(" | ")[1:] for row in rows[2:]] == [["3", "0.5", "0.25 |"]] * 2
    assert caplog.text.count("    hubs/share            0.5000\n") == 2
    assert caplog.text.count("    hubs/most             3\n") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bare", r"Bare\.compute returned float, and must return a dict"),
        ("Elsewhere", r"This sentence was not encoded: 'A sentence of no task\.'"),
    ],
)
def test_what_an_analysis_does_wrong_is_told(model: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, f"checkpoint={model}", "tasks@analysed=samples", f"+analyses.mine._target_={__name__}.{name}")


def scorer(name: str) -> Scorer:
    """A scorer of one analysis beside that of alignment, with the vectors of its development set."""
    config = train_config("senteval.from_hub=false", "tasks=[samples]", f"+analyses.mine._target_={__name__}.{name}")
    made = Scorer(load_suite(config), make_analyses(config.analyses))
    made.start(made.dev_sentences)
    torch.manual_seed(0)
    made.add(torch.arange(len(made.dev_sentences)), torch.randn(len(made.dev_sentences), 8))
    return made


def test_training_logs_every_float_of_an_analysis() -> None:
    logged = scorer("Grouped").dev(torch.device("cpu"))
    assert set(logged) == {"sts", "alignment", "uniformity", "hubs/share", "hubs/by_length/short"}
    assert (logged["hubs/share"], logged["hubs/by_length/short"]) == (0.5, 0.25)


def test_a_number_that_another_analysis_logs_is_refused() -> None:
    with pytest.raises(UserError, match="grouped measures alignment, which is already logged"):
        scorer("SecondAlignment").dev(torch.device("cpu"))


def test_training_refuses_an_analysis_before_it_loads_a_model() -> None:
    config = train_config("model.name_or_path=./nowhere", f"+analyses.mine._target_={__name__}.Idle", "tasks=[samples]")
    with pytest.raises(UserError, match=r"analyses\.mine: Idle is not an analysis"):
        build(config)


def test_the_folder_of_an_evaluation_is_no_run_and_the_report_says_where_its_tables_are(model: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", f"checkpoint={model}", "bootstrap.samples=0")
    with pytest.raises(UserError, match=rf"no run of (.|\n)*evaluation are in {tmp_path / 'run'}"):
        report(tmp_path)


def test_an_analysis_of_ones_own_is_enough(model: Path, tmp_path: Path) -> None:
    added = f"+analyses.mine._target_={__name__}.Width"
    run(tmp_path / "run", f"checkpoint={model}", "tasks=[]", "tasks@analysed=samples-dev", added)
    assert (tmp_path / "run" / "width.json").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nameless", r"analyses\.mine: Nameless is not an analysis. It needs `name`"),
        ("Idle", r"analyses\.mine: Idle is not an analysis"),
        ("Outside", r"analyses\.mine: Outside is not an analysis"),
        ("Results", r"analyses\.mine: the name results is taken"),
        ("SecondDensity", r"analyses\.mine: the name density is taken"),
        ("Width, sise: 3", r"analyses\.mine\.sise: Width takes no such argument"),
        ("Nowhere", r"analyses\.mine\._target_=.*Nowhere: cannot be imported"),
    ],
)
def test_what_is_no_analysis_is_refused_before_anything_is_encoded(
    model: Path, tmp_path: Path, name: str, message: str
) -> None:
    added = f"+analyses.mine={{_target_: {__name__}.{name}}}"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", f"checkpoint={model}", "analyses=density", "tasks@analysed=samples-dev", added)
    assert not (tmp_path / "run" / "results.json").exists()
