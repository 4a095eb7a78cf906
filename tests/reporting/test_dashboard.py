"""The dashboard as it would be sent to W&B, and the sweep file whose agents call the training command. Nothing is sent."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.train import validate
from simcse_lit.errors import UserError
from tests.conftest import ROOT


def panels_of(model: Any) -> dict[str, list[dict[str, Any]]]:
    """Section to its panels' settings, of what would go over the wire."""
    spec = model.spec.model_dump(by_alias=True, exclude_none=True)
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in sections if section["panels"]}


def test_the_dashboard_holds_every_curve_and_score_grouped_by_the_key() -> None:
    pytest.importorskip("wandb_workspaces")
    from simcse_lit.dashboard import build

    for by, wire in ((None, "group"), ("loss.temperature", "loss.value.temperature")):
        model = build("me/simcse-lit", by)._to_model()
        assert (model.entity, model.project) == ("me", "simcse-lit")
        sections = panels_of(model)
        curves = [
            name for title in ("Learning", "Optimisation", "Speed") for panel in sections[title] for name in panel["metrics"]
        ]
        assert curves == [
            *("train/loss", "val/sts", "val/alignment", "val/uniformity"),
            *("train/positive_cosine", "train/negative_cosine", "train/gradient_norm", "lr-AdamW"),
            "train/sentences_per_second",
        ]
        assert wire in str(sections["Learning"][0]).lower()
        assert len(sections["Scores"]) == 5 and len(sections["Figures"]) == 1


def test_a_dashboard_without_a_project_or_a_login_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    from simcse_lit.dashboard import build

    with pytest.raises(UserError, match="must be ENTITY/PROJECT"):
        build("simcse-lit")
    command = [sys.executable, "-m", "simcse_lit.dashboard", "me/simcse-lit"]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "no API key. Log in with: wandb login" in done.stderr
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, env=environment)
    assert (dry.returncode, dry.stdout.splitlines()[0]) == (0, "Learning: 4 panels")


def test_the_command_that_an_agent_of_the_wandb_sweep_forms_composes() -> None:
    sweep = yaml.safe_load((ROOT / "docs" / "how-to" / "wandb-sweep.yaml").read_text())
    drawn = {key: space["values"][0] if "values" in space else space["min"] for key, space in sweep["parameters"].items()}
    words = [word for word in sweep["command"] if word not in ("${env}", "${args_no_hyphens}")]
    assert words[:3] == ["python", "-m", "simcse_lit.train"] and sweep["command"][-1] == "${args_no_hyphens}"
    assert sweep["metric"] == {"name": "val/sts", "goal": "maximize"}
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        arguments = [f"{key}={value}" for key, value in drawn.items()]
        config = validate(compose("train", [*words[3:], *arguments, "run_dir=unused"]))
    assert (config.loss.temperature, config.pooler["name"], config.seed) == (0.01, "cls", 1)
    assert {"csv", "wandb"} <= set(config.logger)
