"""The real command line: help, composed configurations, and mistakes answered in one screen before torch is imported.

Every process here runs under PYTHONPROFILEIMPORTTIME (as `python -X importtime`), so each also shows what it imported.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from simcse_lit.config import CONF_DIR
from tests.conftest import Cli

HEAVY = {"torch", "transformers", "pytorch_lightning", "datasets", "numpy", "pyarrow", "wandb", "matplotlib", "scipy"}
SCREEN = 12  # lines


class Answer(NamedTuple):
    code: int
    out: str
    error: str
    imported: set[str]

    @property
    def lines(self) -> list[str]:
        return [line for line in self.error.splitlines() if line.strip()]


def ask(cli: Cli, *arguments: str, command: str = "train", **env: str) -> Answer:
    done = cli(*arguments, command=command, env={"PYTHONPROFILEIMPORTTIME": "1", **env})
    lines = done.stderr.splitlines()
    profile = [line for line in lines if line.startswith("import time:")]
    error = [line for line in lines if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in profile}
    return Answer(done.returncode, done.stdout, "\n".join(error), imported)


def assert_one_message(answer: Answer, *parts: str) -> None:
    """A mistake: status 1, one message of at most one screen on standard error, no stack, nothing heavy imported."""
    assert answer.code == 1, answer
    assert [part for part in parts if part not in answer.error] == [], answer.error
    assert "Traceback" not in answer.error
    assert sum(line.startswith("Error: ") for line in answer.lines) == 1
    assert len(answer.error.splitlines()) <= SCREEN
    assert "hydra" in answer.imported  # the profile was read
    assert not answer.imported & HEAVY


def test_help_lists_the_groups_and_keys_without_importing_torch(cli: Cli) -> None:
    answer = ask(cli, "--help")
    assert (answer.code, answer.lines) == (0, [])
    section = answer.out.split("== Groups: GROUP=OPTION ==\n")[1].split("\n\n")[0]
    assert not [line for line in section.splitlines() if len(line) > 80]
    section = section.replace("\n  ", " ")
    groups = {name: options.split(", ") for name, options in (line.split(": ") for line in section.splitlines())}
    assert set(groups["loss"]) == {path.stem for path in (CONF_DIR / "loss").glob("*.yaml")}
    assert set(groups["pooler"]) == {"cls", "cls_before_pooler", "avg", "avg_first_last", "avg_top2", "last_token", "mask"}
    assert set(groups["projection"]) == {"mlp", "mlp_train_only", "none", "batch_norm"}
    assert {"bert-base", "bert-large", "roberta-base", "roberta-large", "minilm-l3"} <= set(groups["model"])
    assert {"data", "recipe", "optimizer", "trainer", "callbacks", "logger", "experiment"} <= set(groups)
    assert "temperature: 0.05" in answer.out
    assert "--hydra-help" in answer.out
    assert not answer.imported & HEAVY


def test_help_shows_overrides_and_the_options_of_ones_own_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "ours.yaml").write_text("name_or_path: x\n")
    answer = ask(cli, "--config-dir", "mine", "loss.temperature=0.25", "--help")
    assert (answer.code, answer.lines) == (0, [])
    assert "temperature: 0.25" in answer.out
    groups = answer.out.replace("\n  ", " ").splitlines()  # a long list of options continues on the next line
    assert any(line.startswith("model: ") and "ours" in line.split(", ") for line in groups)


@pytest.mark.parametrize("command", ["encode", "similarity", "serve"])
def test_commands_that_use_an_encoder_answer_at_once_and_leave_nothing(cli: Cli, tmp_path: Path, command: str) -> None:
    answer = ask(cli, "--help", command=command)
    assert (answer.code, answer.lines) == (0, [])
    assert f"\n  simcse-lit {command} checkpoint=" in answer.out
    assert "token_budget: 4096" in answer.out
    assert not answer.imported & HEAVY
    assert_one_message(ask(cli, command=command), "checkpoint: has no value")
    assert_one_message(ask(cli, "checkpoint=a,b=(", "max_lenght=5", command=command), "max_lenght", "max_length")
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_the_recipe_that_model_and_loss_select(cli: Cli, tmp_path: Path) -> None:
    answer = ask(cli, "--cfg", "job", "model=roberta-large", "loss=sup")
    assert (answer.code, answer.lines) == (0, [])
    got = yaml.safe_load(answer.out)
    assert got["model"]["name_or_path"] == "FacebookAI/roberta-large"
    assert (got["data"]["batch_size"], got["data"]["max_length"]) == (512, 32)
    assert (got["optimizer"]["lr"], got["trainer"]["max_epochs"]) == (1e-5, 3)
    assert got["projection"]["name"] == "mlp"
    assert got["loss"]["temperature"] == 0.05
    assert not answer.imported & HEAVY
    assert list(tmp_path.iterdir()) == []  # looking leaves no run folder behind


def test_cfg_job_resolve_prints_what_is_interpolated(cli: Cli) -> None:
    answer = ask(cli, "--cfg", "job", "--resolve", "loss=sup")
    assert answer.code == 0, answer.error
    got = yaml.safe_load(answer.out)
    assert "${" not in answer.out
    assert got["name"] == "sup"
    assert got["data"]["columns"] == ["sent0", "sent1", "hard_neg"]


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        ("loss.temprature=1", ["loss.temprature: ", "Did you mean loss.temperature?"]),
        ("modle=tiny", ["modle: ", "Did you mean model?"]),
        ("model=bert-bse", ["model=bert-bse: ", "Did you mean bert-base?", "roberta-large"]),
        ("trainer.devices=two", ["trainer.devices: ", "'two'", "Integer"]),
        ("loss.temperature", ["loss.temperature=VALUE"]),
        ("logger=null", ["logger"]),
        ("model=7", ["model=7: there is no such option", "Options:"]),
        ("+experiment=quickstrat", ["experiment=quickstrat: ", "Did you mean quickstart?"]),
        ("tasks=试", ["试"]),
    ],
)
def test_a_mistake_is_answered_with_one_message(cli: Cli, mistake: str, parts: list[str]) -> None:
    assert_one_message(ask(cli, mistake), *parts)


def test_a_contradiction_is_answered_with_one_message(cli: Cli) -> None:
    answer = ask(cli, "loss=sup", "data.columns=[sent0]")
    assert_one_message(answer, "loss=sup data.columns=[sent0]", "data.columns=[sent0,sent1,hard_neg]", "loss=unsup")


def test_a_mistake_in_a_sweep_is_answered_with_one_message(cli: Cli) -> None:
    assert_one_message(ask(cli, "-m", "pooler=avg,avgg"), "pooler=avgg: ", "Did you mean avg?")


def test_a_run_folder_that_cannot_be_written_names_its_key(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = ask(cli, "hydra.run.dir=file/run")
    assert_one_message(answer, "hydra.run.dir: ", "cannot be written", "file/run", "hydra.run.dir=DIR")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_hydra_full_error_shows_the_stack(cli: Cli) -> None:
    answer = ask(cli, "loss.temperature=-1", HYDRA_FULL_ERROR="1")
    assert answer.code != 0
    assert "Traceback (most recent call last)" in answer.error
    assert "UserError: loss.temperature=-1.0: " in answer.error


def test_a_users_own_folder_of_models_is_found(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("defaults: [default, _self_]\nname_or_path: ./weights\n")
    answer = ask(cli, "--config-dir", "own", "model=mine", "loss=sup", "--cfg", "job")
    assert answer.code == 0, answer.error
    got = yaml.safe_load(answer.out)
    assert got["model"]["name_or_path"] == "./weights"
    assert (got["data"]["batch_size"], got["optimizer"]["lr"], got["trainer"]["max_epochs"]) == (512, 5e-5, 3)
    assert_one_message(ask(cli, "--config-dir", "own", "model=mien"), "model=mien: ", "Did you mean mine?")
