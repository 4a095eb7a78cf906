"""A package that extends simcse-lit, installed into a folder of its own: examples/my_lab."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_resume import interrupted, outcome, run
from tests.conftest import LIMIT_S, Cli, inherited, metrics

SETTINGS = (
    *(
        "loss=memory",
        "data=samples",
        "model=tiny",
        "trainer=cpu",
        "senteval.from_hub=false",
        "tasks=[]",
        "tasks@dev=samples-dev",
    ),
    *("data.batch_size=32", "trainer.max_steps=12", "trainer.val_check_interval=6", "trainer.log_every_n_steps=1"),
    *("evaluation.before=false", "analyses=[]"),
)


@pytest.mark.usefixtures("in_lab")
def test_a_term_with_parameters_and_a_queue_trains_and_a_stopped_run_ends_as_one_that_was_not(
    cli: Cli, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = run(cli, whole, f"hydra.run.dir={whole}", settings=SETTINGS)
    assert done.returncode == 0, done.stderr
    logged = metrics(whole)
    losses = zip(logged["train/loss/contrastive"], logged["train/loss/memory"], strict=True)
    assert logged["train/loss"] == pytest.approx([contrastive + 0.5 * memory for contrastive, memory in losses], rel=1e-5)
    left = interrupted(cli, stopped, 5, signal.SIGTERM, settings=SETTINGS)  # the queue of 128 was filled once and a quarter
    assert left.returncode == 128 + signal.SIGTERM
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)


@pytest.mark.usefixtures("in_lab")
def test_a_reader_of_an_ending_and_of_a_scheme_is_used_by_every_verb(cli: Cli, tmp_path: Path) -> None:
    rows = (f"text: Sentence number {number} is here.\n" for number in range(40))
    (tmp_path / "corpus.lab").write_text("no colon\n\n" + "\n".join(rows))
    file = ("data=file", "data.columns=[text]", "data.train_file=corpus.lab", "data.on_bad_row=skip")
    done = cli(*SETTINGS, *file, "trainer.max_steps=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "Tokenised 40 rows" in done.stdout
    assert "corpus.lab, line 1: has a line without NAME: VALUE" in done.stdout
    asked = ("checkpoint=run/export", "input=lab://corpus.lab", "output=vectors.npy", "on_bad_row=skip")
    encoded = cli(*asked, command="encode")
    assert encoded.returncode == 0, encoded.stderr
    assert len(np.load(tmp_path / "vectors.npy")) == 40


@pytest.mark.usefixtures("in_lab")
def test_tasks_of_a_new_family_and_an_analysis_are_trained_on_evaluated_and_reported(cli: Cli, tmp_path: Path) -> None:
    asked = ("tasks=[weather,capitals]", "analyses=[alignment_uniformity,hubness]", "trainer.max_steps=4")
    done = cli(*SETTINGS, *asked, "trainer.val_check_interval=2", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "Retrieval: recall@1 in %\n" in done.stdout and "capitals weather    Avg.\n" in done.stdout
    assert all(0 < share < 1 for share in metrics(tmp_path / "run")["val/orphans"])
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "Retrieval: recall@1 in %.\n\n|  | capitals | weather | Avg. retrieval |" in card
    reported = cli("run", command="report")
    assert reported.returncode == 0, reported.stderr
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "Retrieval (capitals, weather, Avg. retrieval): recall@1 in %" in page
    assert "Term memory over steps" in page and "Analyses of the development set over steps" in page
    settings = ("checkpoint=run/export", "senteval.from_hub=false", "tasks@analysed=samples", "hydra.run.dir=evaluated")
    chosen = ("tasks=samples,weather,capitals", "analyses=hubness", "postprocess=all_but_the_top")
    evaluated = cli(*settings, *chosen, command="evaluate")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "then all_but_the_top, fitted on the sentences of each task" in evaluated.stdout
    assert "Retrieval: recall@1 in %\n" in evaluated.stdout and "    orphans " in evaluated.stdout
    assert (tmp_path / "evaluated" / "hubness.png").stat().st_size > 10_000
    header = (tmp_path / "evaluated" / "table.md").read_text().splitlines()[0]
    assert header == "| Model | Pairs | capitals | weather | Avg. retrieval |"


def test_a_maker_of_views_changes_the_positives_and_a_stopped_run_ends_as_one_that_was_not(cli: Cli, tmp_path: Path) -> None:
    asked = (*SETTINGS[1:], "augmentation=repetition", "augmentation.rate=0.5")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = run(cli, whole, f"hydra.run.dir={whole}", settings=asked)
    assert done.returncode == 0, done.stderr
    assert "unchanged by the augmentation" in done.stdout  # a number of repeated tokens may be 0
    left = interrupted(cli, stopped, 5, signal.SIGTERM, settings=asked)
    assert left.returncode == 128 + signal.SIGTERM
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)


@pytest.mark.usefixtures("in_lab")
def test_the_help_lists_what_the_package_brings() -> None:
    page = subprocess.run(
        [sys.executable, "-m", "simcse_lit", "train", "--help"],
        env=inherited(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert "loss: align_uniform, default, memory, sup, unsup\n" in page.stdout


def test_without_the_package_its_options_are_not_there(warm_cli: Cli) -> None:
    refused = warm_cli("loss=memory", "--cfg", "job")
    assert refused.returncode == 1 and "loss=memory: there is no such option." in refused.stderr
