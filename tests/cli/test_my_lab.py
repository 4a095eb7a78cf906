"""A package that extends simcse-lit with one of each kind, installed into a folder of its own: examples/my_lab.

One run has them all: it is trained, stopped, resumed, exported, evaluated and reported.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.cli.test_resume import interrupted, outcome, run
from tests.conftest import LIMIT_S, ROOT, Cli, inherited, metrics

SETTINGS = (
    *("loss=memory", "pooler=weighted_layers", "projection=projector", "augmentation=repetition", "augmentation.rate=0.5"),
    *("optimizer=triangular", "optimizer.schedule.cycles=3", "optimizer.lr=0.01", "adapter=scaling"),
    *("data=file", "data.columns=[text]", "data.on_bad_row=skip", "data.batch_size=32"),
    *("tasks=[weather,capitals]", "tasks@dev=samples-dev", "analyses=[alignment_uniformity,hubness]"),
    *("model=tiny", "trainer=cpu", "senteval.from_hub=false", "evaluation.before=false"),
    *("trainer.max_steps=12", "trainer.val_check_interval=6", "trainer.log_every_n_steps=1"),
)


@pytest.fixture(scope="session")  # workers take other modules between the tests of this one
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the package's own format, with a bad row."""
    words = (ROOT / "src" / "simcse_lit" / "data" / "samples" / "wikipedia.txt").read_text(encoding="utf-8").splitlines()
    rows = "\n".join(f"text: {line}\n" for line in words if line.strip())
    path = tmp_path_factory.mktemp("corpus") / "corpus.lab"
    path.write_text(f"no colon\n\n{rows}", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained() -> dict[str, Path]:
    """The run of the first test that needed one."""
    return {}


@pytest.fixture
def whole(trained: dict[str, Path], corpus: Path, cli: Cli, in_lab: None, tmp_path: Path) -> Iterator[Path]:
    """A run with everything that the package brings."""
    if "run" not in trained:
        folder = tmp_path / "whole"
        done = run(cli, folder, f"hydra.run.dir={folder}", f"data.train_file=lab://{corpus}", settings=SETTINGS)
        assert done.returncode == 0, done.stderr
        assert "corpus.lab, line 1: has a line without NAME: VALUE" in done.stdout
        assert "Retrieval: recall@1 in %\n" in done.stdout and "capitals weather    Avg.\n" in done.stdout
        trained["run"] = folder
    yield trained["run"]


@pytest.mark.long
def test_the_run_logs_each_part(whole: Path) -> None:
    logged = metrics(whole)
    losses = zip(logged["train/loss/contrastive"], logged["train/loss/memory"], strict=True)
    assert logged["train/loss"] == pytest.approx([contrastive + 0.5 * memory for contrastive, memory in losses], rel=1e-5)
    rates = next(values for name, values in logged.items() if name.startswith("lr-"))
    assert rates == pytest.approx([0, 0.005, 0.01, 0.005] * 3)
    assert all(0 < share < 1 for share in logged["val/orphans"])


@pytest.mark.long
def test_a_stopped_run_ends_as_one_that_was_not(whole: Path, corpus: Path, cli: Cli, tmp_path: Path) -> None:
    stopped, file = tmp_path / "stopped", f"data.train_file=lab://{corpus}"
    left = interrupted(cli, stopped, 5, signal.SIGTERM, file, settings=SETTINGS)  # the queue was filled once and a quarter
    assert left.returncode == 128 + signal.SIGTERM, left.stderr
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)


@pytest.mark.long
def test_the_export_records_what_its_vectors_need_and_no_term(whole: Path) -> None:
    section = json.loads((whole / "export" / "config.json").read_text())["simcse"]
    assert (section["pooler"], section["projection"]) == ("weighted_layers", "projector")
    assert section["parts"]["pooler"] == {"arguments": {"last": 2}, "package": "my-lab"}
    assert set(load_file(whole / "export" / "pooler.safetensors")) == {"scores_K"}
    assert not any("memory" in name or "scale" in name for name in load_file(whole / "export" / "model.safetensors"))
    card = (whole / "export" / "README.md").read_text()
    assert "Retrieval: recall@1 in %.\n\n|  | capitals | weather | Avg. retrieval |" in card


@pytest.mark.long
def test_the_export_is_evaluated_and_the_run_reported(whole: Path, cli: Cli, tmp_path: Path) -> None:
    reported = cli(str(whole), command="report")
    assert reported.returncode == 0, reported.stderr
    page = (whole / "report" / "report.html").read_text()
    assert "Retrieval (capitals, weather, Avg. retrieval): recall@1 in %" in page
    assert "Term memory over steps" in page and "Analyses of the development set over steps" in page
    settings = (f"checkpoint={whole}/export", "senteval.from_hub=false", "tasks@analysed=samples", "hydra.run.dir=evaluated")
    chosen = ("tasks=samples,weather,capitals", "analyses=hubness", "postprocess=all_but_the_top")
    evaluated = cli(*settings, *chosen, command="evaluate")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "pooler weighted_layers" in evaluated.stdout
    assert "then all_but_the_top, fitted on the sentences of each task" in evaluated.stdout
    assert "Retrieval: recall@1 in %\n" in evaluated.stdout and "    orphans " in evaluated.stdout
    assert (tmp_path / "evaluated" / "hubness.png").stat().st_size > 10_000
    header = (tmp_path / "evaluated" / "table.md").read_text().splitlines()[0]
    assert header == "| Model | Pairs | capitals | weather | Avg. retrieval |"


@pytest.mark.long
def test_a_checkpoint_is_exported_in_the_packages_format_and_its_card_says_how_to_use_it(
    whole: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = next((whole / "checkpoints").glob("best-*.ckpt"))
    done = cli(f"checkpoint={best}", "format=table", "format.dtype=float32", "output=table", command="export")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "table" / "README.md").read_text(encoding="utf-8")
    assert "library_name: numpy\n" in card
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert code is not None
    words = ["man", "music"]
    (tmp_path / "in.txt").write_text("\n".join(words))
    encoded = cli(f"checkpoint={whole}/export", "input=in.txt", "output=out.npy", "normalize=false", command="encode")
    assert encoded.returncode == 0, encoded.stderr
    own = np.load(tmp_path / "out.npy")
    monkeypatch.chdir(tmp_path / "table")
    found: dict[str, np.ndarray] = {}
    exec(code[1].replace('["A man is playing a guitar.", "Somebody makes music."]', '["man", "music", "man music"]'), found)
    np.testing.assert_allclose(found["vectors"][:2], own, atol=1e-4)
    np.testing.assert_allclose(found["vectors"][2], np.mean(own, axis=0), atol=1e-4)


@pytest.mark.long
def test_without_the_package_one_line_names_it(whole: Path, cli: Cli, my_lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path != str(my_lab)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(others))
    best = next((whole / "checkpoints").glob("best-*.ckpt"))
    for source in (whole / "export", best):
        refused = cli(f"checkpoint={source}", "output=copy", command="export")
        assert refused.returncode == 1
        assert "was made with pooler=weighted_layers of the package my-lab, which is not installed here." in refused.stderr


@pytest.mark.usefixtures("in_lab")
@pytest.mark.long
def test_a_file_is_read_by_its_ending_too(cli: Cli, corpus: Path, whole: Path, tmp_path: Path) -> None:
    asked = (f"checkpoint={whole}/export", f"input={corpus}", "output=vectors.npy", "on_bad_row=skip")
    encoded = cli(*asked, command="encode")
    assert encoded.returncode == 0, encoded.stderr
    assert len(np.load(tmp_path / "vectors.npy")) == corpus.read_text(encoding="utf-8").count("text: ")


@pytest.mark.usefixtures("in_lab")
@pytest.mark.long
def test_the_packages_own_tests_pass() -> None:
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "examples" / "my_lab" / "tests")]
    done = subprocess.run(tests, env=inherited(), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("in_lab")
def test_the_help_lists_what_the_package_brings() -> None:
    page = subprocess.run(
        [sys.executable, "-m", "simcse_lit", "train", "--help"],
        env=inherited(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    listed = page.stdout.replace("\n  ", " ").split("\nloss: ")[1].splitlines()[0].split(", ")
    assert {"align_uniform", "memory", "sup", "unsup"} <= set(listed)


def test_without_the_package_its_options_are_not_there(warm_cli: Cli) -> None:
    refused = warm_cli("loss=memory", "--cfg", "job")
    assert refused.returncode == 1 and "loss=memory: there is no such option." in refused.stderr
