"""Training end to end through the real command line, with random weights of two layers so that a run takes seconds."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from pytorch_lightning.plugins.precision import Precision

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.train import validate
from simcse_lit.errors import UserError
from simcse_lit.formats.export import load_export
from simcse_lit.scores import read_scores
from simcse_lit.train import main as train
from simcse_lit.training.module import SimCSEModule
from tests.conftest import LIMIT_S, Cli, inherited, metrics

# Two layers of random weights on bundled text; 13 steps.
TINY = ("model=tiny", "data=samples", "senteval.from_hub=false", "trainer=cpu", "data.batch_size=64", "hydra.run.dir=run")
SHORT = (*TINY, "loss=sup", "trainer.max_epochs=1", "trainer.val_check_interval=5", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A run of its own folder, by a new Python as a user starts it, and what it said."""
    folder = tmp_path_factory.mktemp("a_run")
    done = subprocess.run(
        [sys.executable, "-m", "simcse_lit.train", *SHORT],
        cwd=folder,
        env={**inherited(), "SIMCSE_CACHE": str(cache_dir)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_a_run_leaves_everything_that_it_promises(a_run: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    run, done = a_run
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.csv", "training_curve.png", "checkpoints", "export"} <= names
    assert (run / "training_curve.png").read_bytes().startswith(b"\x89PNG")

    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["train_file"] == "pkg://simcse_lit/data/samples/triplets.csv"  # resolved, no ${...}
    assert "${" not in (run / "config.yaml").read_text()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["libraries"]["torch"] == torch.__version__
    assert environment["device"].startswith("cpu: ")
    assert environment["command"][1:] == list(SHORT)

    logged = metrics(run)
    # 805 rows in batches of 64 are 13 steps: validated untrained, after 5 and 10, and after the last.
    assert len(logged["train/loss"]) == 13
    assert len(logged["val/sts"]) == 4
    assert {"before/Pairs", "test/Pairs", "train/sentences_per_second", "lr-AdamW"} <= set(logged)
    best = max(logged["val/sts"][1:])
    # Linear decay to 0 over 13 steps, from the recipe's 5e-5; the monitor logs a step's rate before the step.
    assert logged["lr-AdamW"] == pytest.approx([5e-5 * (13 - step) / 13 for step in range(13)])

    checkpoints = sorted((run / "checkpoints").iterdir())
    assert [path.name for path in checkpoints][1] == "last.ckpt"
    state = torch.load(checkpoints[0], weights_only=True)
    weights = state["state_dict"]["encoder.backbone.embeddings.word_embeddings.weight"]
    encoder, _ = load_export(run / "export")
    assert torch.equal(next(encoder.backbone.get_input_embeddings().parameters()), weights)
    card = (run / "export" / "README.md").read_text(encoding="utf-8")
    assert f"{logged['test/Pairs'][0]:.2f}" in card and f"{best:.2f}" in card
    assert f"{logged['test/Pairs'][0]:.2f}" in done.stdout
    assert "Run folder  run" in done.stdout


def test_terminal_output_fits_80_columns_and_holds_no_warning(
    a_run: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    _, done = a_run
    lines = done.stdout.replace("\r", "\n").splitlines()
    assert not [line for line in lines if len(line) > 80]
    assert "Warning" not in done.stdout + done.stderr
    assert any("loss=" in line and "lr=" in line and "sent/s=" in line for line in lines)


def test_the_same_seed_gives_the_same_run_and_scoring_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    runs = {
        "first": (),
        "second": (),
        "unscored": ("evaluation.before=false", "trainer.val_check_interval=100"),
        "seed": ("seed=7",),
    }
    losses = {}
    for name, changes in runs.items():
        done = cli(*SHORT, f"hydra.run.dir={name}", "trainer.max_steps=4", *changes)
        assert done.returncode == 0, done.stderr
        losses[name] = metrics(tmp_path / name)["train/loss"]
    assert losses["first"] == losses["second"] == losses["unscored"]
    assert losses["first"] != losses["seed"]


@pytest.mark.parametrize(
    "changes",
    [
        ("loss=unsup",),
        ("loss=unsup", "loss.mlm_weight=0.1", "projection=none"),
        ("loss=unsup", "augmentation=crop", "data.num_workers=1"),
        ("loss=unsup", "augmentation=synonym", "model.dropout=0", "loss.encoders=2"),
        ("loss=unsup", "loss.fixed_dropout=true", "loss.mlm_weight=0.1", "trainer.micro_batch_size=8"),
        ("loss=unsup", "data.next_sentences=3"),
        ("loss=sup", "loss.similarity=dot", "loss.temperature=1", "loss.encoders=2", "pooler=avg"),
        ("loss=sup", "data.columns=[sent0,sent1]"),
        ("loss=sup", "loss.hard_negative_weight=0.5", "loss.mlm_weight=0.1", "trainer.length_chunks=never"),
        ("loss=sup", "trainer.precision=bf16-mixed", "pooler=avg_first_last", "optimizer.schedule=cosine"),
        ("loss=sup", "trainer.precision=bf16-mixed", "loss.mlm_weight=0.1", "trainer.micro_batch_size=8"),
        ("loss=sup", "data.drop_last=true", "data.num_workers=1", "callbacks.progress=null", "pooler=avg_top2"),
    ],
    ids=lambda changes: " ".join(changes),
)
def test_every_objective_and_option_trains(tmp_path: Path, cache_dir: Path, changes: tuple[str, ...]) -> None:
    settings = (*TINY[:-1], f"data.cache_dir={cache_dir}", f"run_dir={tmp_path}", "hydra.run.dir=unused")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", [*settings, "trainer.max_steps=2", "trainer.log_every_n_steps=1", *changes])
    train(validate(composed))
    logged = metrics(tmp_path)
    assert len(logged["train/loss"]) == 2
    assert ("train/loss/mlm" in logged) == ("loss.mlm_weight=0.1" in changes)
    if "train/loss/mlm" in logged:
        parts = zip(logged["train/loss/contrastive"], logged["train/loss/mlm"], strict=True)
        assert logged["train/loss"] == pytest.approx([contrastive + 0.1 * mlm for contrastive, mlm in parts], rel=1e-5)


def test_a_run_that_fails_on_its_text_leaves_no_cache_and_no_export(warm_cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("sent0,sent1,hard_neg\na,b,c\nd,,f\n")
    cache = tmp_path / "own_cache"
    done = warm_cli(*SHORT, "data=file", "data.train_file=bad.csv", f"data.cache_dir={cache}")
    assert done.returncode == 1
    assert "bad.csv, line 3: sent1 is blank" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(cache.iterdir())
    assert not (tmp_path / "run" / "export").exists()
    fixed = warm_cli(*SHORT, "data=file", "data.train_file=bad.csv", f"data.cache_dir={cache}", "data.on_bad_row=skip")
    assert fixed.returncode == 0, fixed.stderr
    assert "line 3: sent1 is blank" in fixed.stdout


def test_a_run_without_tasks_is_scored_on_the_development_set_alone(warm_cli: Cli, tmp_path: Path) -> None:
    done = warm_cli(*TINY, "tasks=[]", "trainer.max_steps=1")
    assert done.returncode == 0, done.stderr
    scores = read_scores(tmp_path / "run")
    assert list(scores) == ["before", "after"]
    for row in scores.values():
        assert list(row["dev"]) == ["Pairs-dev"] and row["test"] == {}


def test_your_own_text_file_trains_unsupervised(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("".join(f"sentence number {i} of mine\n" for i in range(40)))
    done = warm_cli(*TINY, "data=file", "data.train_file=mine.txt", "trainer.max_steps=1", "data.batch_size=16")
    assert done.returncode == 0, done.stderr
    assert "40 examples" in done.stdout


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("+trainer.extra.foo=1", "trainer: .*foo"),
        ("+optimizer.extra.foo=1", "optimizer: torch.optim.AdamW: .*foo"),
        pytest.param(
            "trainer.accelerator=gpu",
            "trainer: ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that is asked for"),
        ),
    ],
)
def test_arguments_that_a_library_refuses_are_said_before_any_work(
    tmp_path: Path, cache_dir: Path, change: str, expected: str
) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", [*TINY[:-1], f"run_dir={tmp_path}", f"data.cache_dir={cache_dir}", change])
    with pytest.raises(UserError, match=expected):
        train(validate(composed))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("data.max_length=65",), "data.max_length=65: .* takes 64 tokens at most"),
        (("data.drop_last=true", "data.batch_size=2000"), "data.drop_last: 1296 examples do not fill one batch"),
        (("run_dir=/dev/null/run",), "run_dir: /dev/null/run cannot be made"),
    ],
)
def test_settings_that_no_step_could_follow_are_refused(
    tmp_path: Path, cache_dir: Path, changes: tuple[str, ...], expected: str
) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", [*TINY[:-1], f"run_dir={tmp_path}", f"data.cache_dir={cache_dir}", *changes])
    with pytest.raises(UserError, match=expected):
        train(validate(composed))


def test_callbacks_and_loggers_that_are_switched_off_are_off(tmp_path: Path, cache_dir: Path) -> None:
    off = ("logger=[]", "callbacks.checkpoint=null", "callbacks.progress=null", "callbacks.final_validation=null")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose(
            "train", [*TINY[:-1], f"run_dir={tmp_path}", f"data.cache_dir={cache_dir}", "trainer.max_steps=2", *off]
        )
    assert -100 <= train(validate(composed)) <= 100
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "environment.json", "export", "scores.json"}


def test_another_logger_is_a_matter_of_switching(tmp_path: Path, cache_dir: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = (*TINY[:-1], f"data.cache_dir={cache_dir}", f"run_dir={tmp_path}", "logger=[csv,tensorboard]", "loss=sup")
    short = ("trainer.max_steps=2", "trainer.log_every_n_steps=1", "evaluation.before=false", "evaluation.test=false")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("train", [*settings, *short])
    train(validate(composed))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    in_csv = metrics(tmp_path)
    for name in ("train/loss", "train/gradient_norm", "val/sts"):
        assert [event.value for event in events.Scalars(name)] == pytest.approx(in_csv[name])


def test_logged_cosines_and_gradient_norm_are_those_of_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    anchor, positive, negative = (torch.randn(count, 8, generator=generator) for count in (3, 6, 6))
    first = 2
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(_log_loss=lambda name, value: logged.update({name: float(value)}))
    present = torch.ones(12, dtype=torch.bool)
    present[9] = False  # the fourth hard negative is missing
    SimCSEModule._log_cosines(module, anchor, (positive, negative), present, first)
    candidates = [row for row, there in zip([*positive, *negative], present.tolist(), strict=True) if there]
    cosines = [[torch.cosine_similarity(row, other, dim=0).item() for other in candidates] for row in anchor]
    own = [cosines[place][first + place] for place in range(3)]
    others = [value for place, row in enumerate(cosines) for column, value in enumerate(row) if column != first + place]
    assert logged["train/positive_cosine"] == pytest.approx(sum(own) / 3, abs=1e-5)
    assert logged["train/negative_cosine"] == pytest.approx(sum(others) / len(others), abs=1e-5)

    weights = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    for place, parameter in enumerate(weights):
        parameter.grad = torch.full_like(parameter, 1.0 + place)
    trainer = SimpleNamespace(strategy=None, precision_plugin=Precision())
    module = SimpleNamespace(
        trainer=trainer,
        _is_logged=True,
        parameters=lambda: weights,
        log=lambda name, value: logged.update({name: float(value)}),
    )
    SimCSEModule.configure_gradient_clipping(module, torch.optim.SGD(weights, lr=1.0), 1.0)
    assert logged["train/gradient_norm"] == pytest.approx((6 * 1.0 + 4 * 4.0) ** 0.5)
    assert sum(float((p.grad**2).sum()) for p in weights if p.grad is not None) == pytest.approx(1.0, abs=1e-4)
