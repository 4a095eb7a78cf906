"""Analyses that a user wrote get their JSON, and a figure if they draw one; what they lack is said before encoding."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from simcse_lit.errors import UserError
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Embed
from tests.cli.test_evaluate import raw_model, run


class Width:
    """Returns numbers of every kind that torch and NumPy have."""

    name: ClassVar[str] = "width"

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        vectors_NH = embed(list(dict.fromkeys(task.sentences())))
        width = vectors_NH.shape[1]
        return {"width": np.int64(width), "none": float("nan"), "grid": np.arange(2.0), "ones": torch.ones(2)}


class Drawn(Width):
    name: ClassVar[str] = "drawn"

    def draw(self, by_label: dict[str, dict[str, Any]], path: Path) -> None:
        path.write_text(" ".join(f"{label}: {found['width']}" for label, found in by_label.items()))


class Nameless:
    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        raise AssertionError("nothing was to be encoded")


class Results(Nameless):
    name: ClassVar[str] = "results"


class Elsewhere(Nameless):
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
    assert "raw: 64" in drawn and "other: 64" in drawn


def test_an_analysis_of_ones_own_is_enough(model: Path, tmp_path: Path) -> None:
    added = f"+analyses.mine._target_={__name__}.Width"
    run(tmp_path / "run", f"checkpoint={model}", "tasks=[]", "tasks@analysed=samples-dev", added)
    assert (tmp_path / "run" / "width.json").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nameless", r"analyses\.mine: Nameless is no analysis: it needs `name`"),
        ("Idle", r"analyses\.mine: Idle is no analysis"),
        ("Elsewhere", r"analyses\.mine: Elsewhere is no analysis"),
        ("Results", r"analyses\.mine: its name, results, is taken"),
        ("SecondDensity", r"analyses\.mine: its name, density, is taken"),
    ],
)
def test_what_is_no_analysis_is_refused_before_anything_is_encoded(
    model: Path, tmp_path: Path, name: str, message: str
) -> None:
    added = f"+analyses.mine._target_={__name__}.{name}"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", f"checkpoint={model}", "analyses=density", "tasks@analysed=samples-dev", added)
    assert not (tmp_path / "run" / "results.json").exists()
