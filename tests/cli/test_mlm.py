"""`loss=mlm` on the command line: held-out loss before and after, the best checkpoint, the export, and SimCSE on it."""

import math
import signal
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.held_out import MaskedBatches
from simcse_lit.scores import dev_score, read_families, read_scores, to_maximise
from tests.architectures import save_model
from tests.cli.test_resume import interrupted, outcome, run
from tests.conftest import Cli, metrics

TEXTS = "pkg://simcse_lit/data/samples/wikipedia.txt"
SHORT = (
    *("loss=mlm", "model=tiny", f"data.train_file={TEXTS}", "data.held_out=100", "data.batch_size=64", "trainer=cpu"),
    *("trainer.max_steps=12", "trainer.val_check_interval=4", "trainer.log_every_n_steps=2", "optimizer.lr=5e-3"),
)
SIMCSE = (
    *("loss=unsup", "data=samples", "data.batch_size=32", "trainer=cpu", "trainer.max_steps=2", "evaluation.before=false"),
    *("evaluation.test=false", "senteval.from_hub=false"),
)


@pytest.fixture(scope="module")
def kept() -> dict[str, Path]:
    return {}


@pytest.fixture
def trained(warm_cli: Cli, kept: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; `said` in it is what it printed."""
    if "run" not in kept:
        folder = tmp_path_factory.mktemp("mlm") / "run"
        done = warm_cli(*SHORT, f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "said").write_text(done.stdout)
        kept["run"] = folder
    return kept["run"]


def held_out_texts() -> list[str]:
    return local_path(TEXTS, "test").read_text(encoding="utf-8").splitlines()[-100:]


def loss_and_accuracy(folder: Path) -> tuple[float, float]:
    """Those of an exported model on the held-out lines, with the loss of transformers, a sentence at a time."""
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    rows = tokenizer(held_out_texts(), truncation=True, max_length=64)["input_ids"]
    batches = MaskedBatches(pa.array(rows, pa.list_(pa.int32())), tokenizer, token_budget=1)
    total, right, tokens = 0.0, 0, 0
    for number in range(len(batches)):
        batch = batches[number]
        wanted = batch["labels"] != -100
        with torch.no_grad():
            output = model(batch["input_ids"], labels=batch["labels"])
        total += float(output.loss) * int(wanted.sum()) if wanted.any() else 0.0
        right += int((output.logits.argmax(-1) == batch["labels"])[wanted].sum())
        tokens += int(wanted.sum())
    return total / tokens, 100 * right / tokens


def test_the_scores_are_those_of_the_export_and_it_was_chosen_by_the_lowest_loss(trained: Path) -> None:
    scores, logged = read_scores(trained), metrics(trained)
    after = scores["after"]["dev"]
    assert list(after) == ["held-out loss", "held-out accuracy"] and scores["after"]["test"] == {}
    assert tuple(after.values()) == pytest.approx(loss_and_accuracy(trained / "export"), rel=1e-5)
    assert len(logged["val/mlm_loss"]) == len(logged["val/mlm_accuracy"]) == 4  # after 0, 4, 8 and 12 steps
    assert after["held-out loss"] == pytest.approx(min(logged["val/mlm_loss"]), rel=1e-6)
    assert scores["before"]["dev"]["held-out loss"] == pytest.approx(math.log(2000), abs=0.1)  # a random model guesses
    assert after["held-out loss"] < scores["before"]["dev"]["held-out loss"] - 0.3
    assert "val/sts" not in logged and "train/positive_cosine" not in logged


def test_a_run_that_gets_worse_keeps_the_weights_with_the_lowest_loss(warm_cli: Cli, tmp_path: Path) -> None:
    done = warm_cli(*SHORT, "optimizer.lr=1", "optimizer.warmup_ratio=0.9", "evaluation.before=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    losses = metrics(tmp_path / "run")["val/mlm_loss"]
    assert losses[-1] > min(losses) and len(losses) == 3, losses
    after = read_scores(tmp_path / "run")["after"]["dev"]["held-out loss"]
    assert after == pytest.approx(min(losses), rel=1e-6)
    assert loss_and_accuracy(tmp_path / "run" / "export")[0] == pytest.approx(after, rel=1e-5)


def test_the_terminal_says_what_is_trained_and_both_numbers(trained: Path) -> None:
    said = (trained / "said").read_text()
    for part in (
        "and its language-modelling head\nLoss     mlm, 15% of the tokens masked, 1 view\nData     1,196 examples",
        "100 rows held out",
        "held-out loss, nats per masked token: before 7.",
        "held-out accuracy, % of the masked tokens: before ",
        "Curve    7.",
    ):
        assert part in said
    assert "Scored on bundled" not in said and "negatives" not in said and "cannot be reached" not in said
    assert (trained / "training_curve.png").stat().st_size > 5000


def test_a_sweeper_maximises_minus_the_loss(trained: Path) -> None:
    after = read_scores(trained)["after"]
    assert to_maximise(after, read_families(trained)) == -dev_score(after)[1] < 0


def test_the_export_starts_simcse_with_its_trained_head(warm_cli: Cli, trained: Path) -> None:
    done = warm_cli(*SIMCSE, f"model.name_or_path={trained}/export", "loss.mlm_weight=0.1", "augmentation=mlm")
    assert done.returncode == 0, done.stderr
    assert "no language-modelling head" not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["export", "checkpoints/last.ckpt"])
def test_as_an_encoder_it_is_a_raw_model(warm_cli: Cli, trained: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "sentences.txt").write_text("A man is playing a guitar .\n")
    words = (f"checkpoint={trained}/{kind}", "input=sentences.txt", "output=vectors.npy")
    done = warm_cli(*words, command="encode")
    assert done.returncode != 0
    if kind == "export":
        assert "a raw model, which does not record its pooler" in done.stderr
        assert warm_cli(*words, "pooler=avg", command="encode").returncode == 0
    else:
        said = "holds a masked language model, and no sentence encoder.\nUse the export of the run: checkpoint="
        assert f"{said}{trained}/export" in done.stderr


def test_two_processes_measure_the_same(warm_cli: Cli, trained: Path, tmp_path: Path) -> None:
    done = warm_cli(*SHORT, "trainer=ddp_cpu", "trainer.max_steps=2", "hydra.run.dir=run", "evaluation.token_budget=200")
    assert done.returncode == 0, done.stderr
    before = [read_scores(folder)["before"]["dev"] for folder in (trained, tmp_path / "run")]
    for name, score in before[0].items():
        assert before[1][name] == pytest.approx(score, rel=1e-5)
    after = read_scores(tmp_path / "run")["after"]["dev"]["held-out loss"]
    assert after == pytest.approx(loss_and_accuracy(tmp_path / "run" / "export")[0], rel=1e-5)


def test_stopped_and_resumed_the_weights_and_the_numbers_are_the_same(cli: Cli, tmp_path: Path) -> None:
    settings = (*SHORT, "evaluation.before=false")
    for folder in ("whole", "stopped"):
        if folder == "stopped":
            stop = interrupted(cli, tmp_path / folder, 6, signal.SIGTERM, settings=settings)
            assert stop.returncode == 128 + signal.SIGTERM
        again = run(cli, tmp_path / folder, f"hydra.run.dir={tmp_path / folder}", "resume=auto", settings=settings)
        assert again.returncode == 0, again.stderr
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    more = run(cli, tmp_path / "whole", f"hydra.run.dir={tmp_path / 'whole'}", "resume=auto", settings=settings)
    assert "is finished: held-out loss" in more.stdout


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("t5", "is an encoder-decoder, whose language model is its decoder"),
        ("gpt2", "is not a masked language model"),
        ("xlnet", "is not a masked language model"),
    ],
)
def test_a_model_without_a_masked_language_model_is_refused(warm_cli: Cli, tmp_path: Path, kind: str, said: str) -> None:
    named = f"model.name_or_path={save_model(tmp_path / kind, kind)}"
    done = warm_cli(*SHORT, named, "model.pretrained=true", "data.max_length=32")
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
    assert "loss=mlm needs one" in done.stderr


def test_reinit_layers_is_recorded_and_its_seed_decides_the_weights(warm_cli: Cli, tmp_path: Path, trained: Path) -> None:
    start = (*SIMCSE, f"model.name_or_path={trained}/export", "trainer.max_steps=1", "optimizer.lr=1e-9")
    for folder, *changes in (("plain",), ("drawn", "model.reinit_layers=1"), ("other", "model.reinit_layers=1", "seed=7")):
        assert warm_cli(*start, *changes, f"hydra.run.dir={folder}").returncode == 0
    files = (tmp_path / name / "export" / "model.safetensors" for name in ("plain", "drawn", "other"))
    plain, drawn, other = map(load_file, files)
    name = "encoder.layer.{}.output.dense.weight"
    torch.testing.assert_close(plain[name.format(0)], drawn[name.format(0)], rtol=0, atol=1e-6)
    assert (plain[name.format(1)] - drawn[name.format(1)]).abs().max() > 0.01
    assert (other[name.format(1)] - drawn[name.format(1)]).abs().max() > 0.01
    assert "| `model.reinit_layers` | `1` |" in (tmp_path / "drawn" / "export" / "README.md").read_text()
    assert "reinit_layers: 1" in (tmp_path / "drawn" / "config.yaml").read_text()
