"""Post-processing of one's own: a class or a function and a file of configuration, told from what moves nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.postprocess import Transform, Whitening, fitted
from tests.cli.test_evaluate import raw_model, run
from tests.conftest import Cli

MODULE = """
class FirstNumbers:
    def __init__(self, keep):
        self.keep = keep

    def __call__(self, fit):
        return lambda vectors: (vectors - fit.mean(0))[:, : self.keep]
"""
OPTION = """
defaults: [none, _self_]
name: first
transform:
  _target_: mine.FirstNumbers
  keep: ${postprocess.dim}
dim: 8
"""


class Signs:
    def __call__(self, fit_NH: Tensor) -> Transform:
        return torch.sign


def shifted(fit_NH: Tensor, by: float) -> Transform:
    return lambda vectors_NH: vectors_NH + by * fit_NH.mean(0)


class NotCallable:
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_model(tmp_path_factory.mktemp("model") / "raw", 0)


def test_an_option_of_ones_own_is_fitted_and_named(warm_cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "conf" / "postprocess").mkdir(parents=True)
    (tmp_path / "conf" / "postprocess" / "first.yaml").write_text(OPTION)
    asked = ("--config-dir=conf", f"checkpoint={model}", "pooler=avg", "tasks=samples", "senteval.from_hub=false")
    done = warm_cli(*asked, "postprocess=first", "postprocess.dim=4", "hydra.run.dir=run", command="evaluate")
    assert done.returncode == 0, done.stderr
    assert "then first to 4, fitted on the sentences of each task" in done.stdout
    (encoder,) = json.loads((tmp_path / "run" / "results.json").read_text())["encoders"]
    assert encoder["postprocess"]["name"] == "first"
    assert encoder["postprocess"]["transform"] == {"_target_": "mine.FirstNumbers", "keep": 4}
    wrong = warm_cli(
        *asked[:1], "checkpoint=./nowhere", "postprocess=first", "+postprocess.transform.kep=3", command="evaluate"
    )
    assert wrong.returncode == 1
    assert "postprocess.transform.kep: FirstNumbers takes no such argument. Did you mean keep?" in wrong.stderr


def test_a_class_and_a_function_move_the_vectors(model: Path, tmp_path: Path) -> None:
    asked = (f"checkpoint={model}", "bootstrap.samples=0")

    def scored(name: str, **transform: Any) -> float:
        words = [f"+postprocess.transform.{key}={value}" for key, value in transform.items()]
        (encoder,) = run(tmp_path / name, *asked, *words)["encoders"]
        assert (encoder["postprocess"] or {}).get("name") == (transform.get("_target_", "").rpartition(".")[2] or None)
        return float(encoder["tasks"]["Pairs"]["score"])

    plain = scored("plain")
    function = {"_target_": f"{__name__}.shifted", "_partial_": "true"}
    assert scored("zero", **function, by=0) == plain
    assert len({plain, scored("centred", **function, by=-1), scored("signs", _target_=f"{__name__}.Signs")}) == 3


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            f"{{_target_: {__name__}.NotCallable}}",
            r"postprocess\.transform\._target_=.*NotCallable: makes an object without __call__",
        ),
        ("{_target_: simcse_lit.evaluation.postprocess.Whitening}", r"postprocess\.transform\.dim: has no value"),
        ("{_target_: nowhere.Mine}", r"postprocess\.transform\._target_=nowhere\.Mine: cannot be imported"),
        ("{dim: 3}", r"postprocess\.transform\._target_: has no value"),
    ],
)
def test_what_moves_nothing_is_told_before_a_model_is_loaded(tmp_path: Path, transform: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", "checkpoint=./nowhere", f"+postprocess.transform={transform}")


def test_what_is_no_vector_for_each_is_refused() -> None:
    vectors = torch.randn(20, 4)
    for made, found in ((lambda v: v[:3], r"\(3, 4\)"), (lambda v: v.sum(1), r"\(20,\)"), (lambda v: v.tolist(), "list")):
        with pytest.raises(UserError, match=rf"returned {found} for vectors \(20, 4\)"):
            fitted(lambda fit_NH, made=made: made, vectors)(vectors)
    with pytest.raises(UserError, match="fitting returned Tensor, and must return a function"):
        fitted(lambda fit_NH: fit_NH, vectors)
    torch.testing.assert_close(fitted(Whitening(2), vectors)(vectors), Whitening(2)(vectors)(vectors))
