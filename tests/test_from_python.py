"""From Python: a composed configuration, what it builds, and a Trainer of the user's own."""

import csv
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
import pytorch_lightning as pl
import torch
from hydra.core.global_hydra import GlobalHydra
from pytorch_lightning.callbacks import ModelCheckpoint

from simcse_lit import SimCSE, build, compose, save_export
from simcse_lit.errors import UserError
from simcse_lit.training.trainer import check_trainer
from tests.conftest import LIMIT_S, Cli, inherited, metrics

TINY = ["model=tiny", "data=samples", "loss=sup", "data.batch_size=64", "senteval.from_hub=false", "trainer=cpu"]


@pytest.fixture(autouse=True)
def cache(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_CACHE", str(cache_dir))


OWN = """
import random
import numpy as np, pytorch_lightning as pl, torch
from simcse_lit import build, compose
pl.seed_everything(99, verbose=False)  # the configuration's seed decides
module, data = build(compose("train", {asked}))
random.seed(1)
np.random.seed(1)
torch.manual_seed(1)
logged = pl.loggers.CSVLogger(".", name=None, version="own")
pl.Trainer(
    accelerator="cpu", gradient_clip_val=1.0, max_steps=6, logger=logged, log_every_n_steps=1,
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
).fit(module, data)
torch.save(module.state_dict(), "own.pt")
"""


def trainer(**arguments: Any) -> pl.Trainer:
    """As users write it, without what it prints."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = "callbacks" in arguments
    return pl.Trainer(accelerator="cpu", gradient_clip_val=1.0, **{**quiet, **arguments})


def weights(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_importing_the_names_imports_no_torch() -> None:
    code = "import sys, simcse_lit; simcse_lit.__all__; sys.exit('torch' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", code], env=inherited(), timeout=LIMIT_S, check=False).returncode


def test_a_trainer_of_ones_own_ends_with_the_weights_and_losses_of_the_command(cli: Cli, tmp_path: Path) -> None:
    asked = [*TINY, "seed=7", "trainer.max_steps=6", "trainer.log_every_n_steps=1"]
    done = cli(*asked, "hydra.run.dir=run", "evaluation.before=false", "evaluation.test=false")
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    # In a new Python, as the command: what earlier tests left in this one may change the last bits.
    script = OWN.format(asked=asked)
    own = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=inherited(), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert own.returncode == 0, own.stderr
    assert equal(torch.load(tmp_path / "own.pt", weights_only=True), saved)
    with (tmp_path / "own" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses == metrics(tmp_path / "run")["train/loss"] and len(losses) == 6


def test_building_leaves_the_random_state_of_the_program() -> None:
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(1), random.random()
    torch.manual_seed(3)
    random.seed(3)
    build(compose("train", TINY))
    assert (torch.rand(1), random.random()) == expected


def test_the_schedule_ends_with_the_steps_of_the_trainer() -> None:
    module, data = build(compose("train", [*TINY, "trainer.max_steps=99"]))
    own = trainer(max_steps=4)
    own.fit(module, data)
    assert own.optimizers[0].param_groups[0]["lr"] == 0


def test_a_training_that_is_continued_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = compose("train", TINY)
    module, data = build(config)
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=9, save_top_k=-1)
    trainer(max_steps=16, callbacks=[keep]).fit(module, data)  # 13 are an epoch
    again, data = build(config)
    trainer(max_steps=16).fit(again, data, ckpt_path=tmp_path / "step=9.ckpt")
    assert equal(weights(module), weights(again))


def test_what_a_trainer_of_ones_own_scores_and_what_is_exported_load_again(tmp_path: Path) -> None:
    config = compose("train", TINY)
    module, data = build(config)
    own = trainer(max_steps=2, num_sanity_val_steps=2, val_check_interval=1)
    own.fit(module, data)
    scored = own.validate(module, data, verbose=False)[0]
    assert scored["val/sts"] == pytest.approx(float(own.callback_metrics["val/sts"]))
    assert "test/Pairs" in own.test(module, data, verbose=False)[0]
    save_export(tmp_path / "export", config, module, data, {"after": {"dev": {"Pairs-dev": scored["val/sts"]}, "test": {}}})
    vectors = SimCSE(str(tmp_path / "export"), device="cpu").encode(["One.", "Two."])
    assert vectors.shape == (2, 64)
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert f"{scored['val/sts']:.2f}" in card


def test_a_dry_run_of_lightning_needs_no_whole_set() -> None:
    module, data = build(compose("train", TINY))
    trainer(fast_dev_run=True).fit(module, data)
    trainer(fast_dev_run=True).test(module, data)


def test_scoring_alone_reads_no_training_text(tmp_path: Path) -> None:
    (tmp_path / "triplets.csv").write_text("sent0,sent1,hard_neg\nnot,a\n", encoding="utf-8")
    file = f"data.train_file={tmp_path / 'triplets.csv'}"
    module, data = build(compose("train", [*TINY, "data=file", file]))
    trainer().validate(module, data, verbose=False)
    with pytest.raises(UserError, match=r"triplets.csv, line 2"):
        trainer(max_steps=1).fit(module, data)


@pytest.mark.parametrize(
    ("asked", "arguments", "message"),
    [
        ([], {"accumulate_grad_batches": 2}, r"Trainer\(accumulate_grad_batches\).*not a larger batch"),
        ([], {"limit_val_batches": 1, "val_check_interval": 1}, "limit_val_batches"),
        (
            ["data=stream", "data.train_file=pkg://simcse_lit/data/samples/triplets.csv", "trainer.max_steps=3"],
            {"max_steps": -1, "max_epochs": 1},
            r"Trainer\(max_steps\): a stream has no length",
        ),
        (["data.batch_size=900", "data.drop_last=true"], {}, "805 examples.*one batch of 900"),
    ],
)
def test_a_trainer_that_would_train_something_else_is_refused(
    asked: list[str], arguments: dict[str, Any], message: str
) -> None:
    module, data = build(compose("train", [*TINY, *asked]))
    with pytest.raises(UserError, match=f"(?s){message}"):
        trainer(**{"max_steps": 2, **arguments}).fit(module, data)


@pytest.mark.parametrize(
    ("asked", "deals", "message"),
    [
        ([], True, r"Trainer\(use_distributed_sampler=False\)"),
        (["data.batch_size=65"], False, "data.batch_size=65: is the batch of all 2 devices together"),
    ],
)
def test_several_devices_need_a_batch_that_they_share_and_no_sampler_of_lightnings(
    asked: list[str], deals: bool, message: str
) -> None:
    two: Any = SimpleNamespace(
        accumulate_grad_batches=1,
        max_steps=3,
        world_size=2,
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=deals),
    )
    with pytest.raises(UserError, match=message):
        check_trainer(two, compose("train", [*TINY, *asked]).data)


TWO = """
import sys, torch, pytorch_lightning as pl
from simcse_lit import build, compose

if __name__ == "__main__":
    devices = int(sys.argv[1])
    module, data = build(compose("train", sys.argv[2:]))
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", use_distributed_sampler=False,
        max_steps=4, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    )
    trainer.fit(module, data)
    dev = trainer.validate(module, data, verbose=False)
    if trainer.is_global_zero:
        torch.save({"weights": module.state_dict(), "dev": dev[0]["val/sts"]}, f"{devices}.pt")
"""


@pytest.mark.long
def test_two_processes_of_ones_own_trainer_end_with_the_weights_of_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TWO, encoding="utf-8")
    # Each process has masks of its own. AdamW would make a step of a rounding error where a gradient is next to nothing.
    asked = ["model.dropout=0", "optimizer._target_=torch.optim.SGD", "~optimizer.extra.betas", "~optimizer.extra.eps"]
    for devices in ("2", "1"):
        done = subprocess.run(
            [sys.executable, "own.py", devices, *TINY, *asked, "optimizer.lr=0.1"],
            cwd=tmp_path,
            env={**inherited(), "SIMCSE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{devices}.pt", weights_only=True) for devices in (1, 2))
    assert two["dev"] == pytest.approx(one["dev"], abs=1e-2)
    for name, value in one["weights"].items():
        assert torch.allclose(two["weights"][name], value, atol=1e-5), name


@pytest.mark.parametrize(
    ("verb", "asked", "message"),
    [
        ("train", ["loss.temprature=1"], r"loss.temprature: there is no such key. Did you mean loss.temperature\?"),
        ("train", ["model=bert-bse"], r"(?s)model=bert-bse: there is no such option. Did you mean bert-base\?"),
        ("train", ["loss.temperature=-1"], "loss.temperature=-1.0: must be a finite number greater than 0"),
        ("train", ["seed=1,2"], "seed"),
        ("train", ["-m", "seed=1"], "compose: -m: takes overrides alone"),
        ("train", "model=tiny seed=1", r"a list of words: compose\('train', \['model=tiny', 'seed=1'\]\)"),
        ("trian", [], r"compose: trian: there is no such verb. Did you mean train\?"),
        ("encode", ["checkpoint=x"], "input"),
    ],
)
def test_a_mistake_is_said_as_on_the_command_line(verb: str, asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose(verb, asked)


def test_a_configuration_of_another_command_is_refused() -> None:
    with pytest.raises(UserError, match="needs the configuration of train, and this is a EncodeConfig"):
        build(compose("encode", ["checkpoint=x", "input=a.txt", "output=a.npy"]))


def test_words_mean_what_they_mean_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "data.train_file=a b ${c} = 'd'.csv"
    config = compose("train", [*TINY, "data=file", odd, "hydra.run.dir=outputs/first"])
    assert config.data.train_file == odd.partition("=")[2]
    assert config.run_dir == str(tmp_path / "outputs" / "first")
    assert config.callbacks["checkpoint"]["dirpath"] == f"{config.run_dir}/checkpoints"
    assert not list(tmp_path.iterdir())


def test_a_folder_of_ones_own_brings_its_options(tmp_path: Path) -> None:
    folder = tmp_path / "it's, mine"
    (folder / "loss").mkdir(parents=True)
    (folder / "loss" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [unsup]\nloss: {name: mine}\n", encoding="utf-8"
    )
    assert compose("train", ["loss=mine"], config_dir=folder).loss.name == "mine"
    with pytest.raises(UserError, match="there is no such folder"):
        compose("train", [], config_dir=tmp_path / "none")


def test_composing_leaves_hydra_as_it_was() -> None:
    with hydra.initialize(version_base="1.3"):
        before = GlobalHydra.instance().hydra
        compose("train", TINY)
        with pytest.raises(UserError):
            compose("train", ["loss.temprature=1"])
        assert GlobalHydra.instance().hydra is before
