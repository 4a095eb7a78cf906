"""docs/reproduce/: the page of costs is what its script makes, and the script's arithmetic agrees with other sources."""

import csv
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.train import validate
from simcse_lit.launch.cases import jobs_of
from tests.conftest import ROOT

SIZES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}
SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "vocab_size": 99,
}


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("expected_cost")


def small_bert(attention: str = "eager", **changed: Any) -> BertModel:
    config = BertConfig(**{**SMALL, **changed})
    config._attn_implementation = attention
    model: BertModel = BertModel(config, add_pooling_layer=False).train()
    return model


def test_the_page_of_costs_is_what_the_script_makes(
    cost: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["expected_cost.py", "--check"])
    assert cost.main() == 0
    edited = tmp_path / "cost.md"
    edited.write_text(cost.PAGE.read_text(encoding="utf-8").replace("0.20", "0.02", 1), encoding="utf-8")
    monkeypatch.setattr(cost, "PAGE", edited)
    assert cost.main() == 1
    assert "Run: python benchmarks/expected_cost.py" in capsys.readouterr().err


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_parameters_are_those_of_transformers(cost: ModuleType, family: str, size: str) -> None:
    if family == "bert":
        made: Callable[[], torch.nn.Module] = lambda: BertModel(BertConfig(**SIZES[size]))  # noqa: E731
    else:
        roberta: dict[str, Any] = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
        made = lambda: RobertaModel(RobertaConfig(**roberta, **SIZES[size]))  # noqa: E731
    with torch.device("meta"):
        model = made()  # its pooler has the shape of the MLP head
    assert sum(each.numel() for each in model.parameters()) == cost.ARCHITECTURES[f"{family}-{size}"].parameters


def test_operations_are_those_that_torch_counts(cost: ModuleType) -> None:
    model, ids = small_bert(), torch.ones(3, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).last_hidden_state.sum().backward()
    about = cost.Architecture(layers=2, hidden=64, vocabulary=99, positions=512, types=2)
    assert about.flops(3 * 20, 3 * 20**2) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_activations_are_those_that_autograd_keeps(cost: ModuleType) -> None:
    rows, length = 40, 24

    def kept(layers: int) -> int:
        model = small_bert(num_hidden_layers=layers, attention="sdpa", attention_probs_dropout_prob=0.0)
        weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
        held: dict[int, tuple[Tensor, int]] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights and rows in (len(tensor), len(tensor) // length):
                held[storage.data_ptr()] = (tensor, storage.nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
            model(torch.ones(rows, length, dtype=torch.long))
        return sum(size for _, size in held.values())

    each = (kept(3) - kept(1)) / 2 / (rows * length * SMALL["hidden_size"])
    assert each == pytest.approx(cost.ACTIVATIONS, rel=0.03)


def test_operations_of_the_measured_steps_give_the_mfu_that_was_measured(cost: ModuleType) -> None:
    rows = json.loads(cost.MEASURED.read_text(encoding="utf-8"))["rows"]
    for work, _, way, step, _, mfu, _, _, matmul in rows:
        if way == cost.GRAPHS:  # its MFU has the most digits
            assert cost.gpu_flops(work) / (step / 1000) / (matmul * 1e12) == pytest.approx(mfu / 100, rel=0.02)


def test_predicted_steps_are_within_a_tenth_of_the_measured_ones(cost: ModuleType) -> None:
    lengths = json.loads(cost.LENGTHS.read_text(encoding="utf-8"))["texts"]
    model = cost.Model(json.loads(cost.MEASURED.read_text(encoding="utf-8")), lengths)
    ratios = [made / taken for _, _, taken, made, how in model.checks() if how == "predicted"]
    assert len(ratios) == 3
    assert all(0.9 < ratio < 1.1 for ratio in ratios)


@pytest.mark.parametrize("loss", ["unsup", "sup"])
@pytest.mark.parametrize("model", ["bert-base", "roberta-large"])
def test_recipes_are_those_of_train(cost: ModuleType, loss: str, model: str) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = validate(compose("train", [f"loss={loss}", f"model={model}", "run_dir=unused"]))
    run = cost.recipe(loss, model)
    assert (run.batch, run.epochs, run.interval) == (
        config.data.batch_size,
        config.trainer.max_epochs,
        config.trainer.val_check_interval,
    )
    assert run.views == max(2, len(config.data.columns))


def test_the_runs_of_every_sweep_are_counted(cost: ModuleType) -> None:
    names = {path.stem for path in (CONF_DIR / "sweep").glob("*.yaml")} - {"optuna", "joblib", "slurm", "submitit"}
    names -= {"successors"}  # a method has passes and encoders of its own, which the model of the cost does not know
    assert set(cost.PROSE["sweeps"]) == names
    for name in names:
        sweeper = yaml.safe_load((CONF_DIR / "sweep" / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]["sweeper"]
        params = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in sweeper["params"].items()])
        assert len(list(cost.jobs(name))) == len(jobs_of(sweeper["cases"], params)), name


def test_settings_of_a_sweep_reach_its_runs(cost: ModuleType) -> None:
    assert {run.batch for run in cost.jobs("batch-size-lr")} == {64, 128, 256, 512}
    assert {run.views for run in cost.jobs("hard-negative-weight")} == {2, 3, 4}
    assert {run.passes for run in cost.jobs("mlm-weight")} == {1, 2}
    assert {run.encoders for run in cost.jobs("objective")} == {1, 2}
    assert {run.interval for run in cost.jobs("alignment-uniformity")} == {10}
    assert {(run.loss, run.model) for run in cost.jobs("main")} >= {("unsup", "bert-base"), ("sup", "roberta-large")}


def test_the_table_of_experiments_has_all_of_them() -> None:
    text = (ROOT / "docs" / "reproduce" / "miniatures.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| \[([\w-]+)\]\(../../experiments/\1/README.md\) \|", text, re.MULTILINE)
    assert sorted(told) == sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


def test_the_papers_averages_are_those_of_its_table() -> None:
    text = (ROOT / "docs" / "reproduce" / "index.md").read_text(encoding="utf-8")
    rows = list(csv.DictReader((ROOT / "experiments" / "main" / "paper.csv").read_text(encoding="utf-8").splitlines()))
    average = {(row["loss.name"], row["model.name_or_path"]): row["paper"] for row in rows if row["metric"] == "Avg."}
    for name, model in (
        ("BERT-base", "google-bert/bert-base-uncased"),
        ("RoBERTa-base", "FacebookAI/roberta-base"),
        ("RoBERTa-large", "FacebookAI/roberta-large"),
    ):
        assert f"| {name} | {average['unsup', model]} | {average['sup', model]} |" in text
        assert re.search(rf"\| {name} \| {average['unsup', model]} \| [\d.]+ ± ", text)
