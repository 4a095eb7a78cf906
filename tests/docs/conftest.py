"""A folder with the files that the documents name, where their commands run, and a stand-in for the Hub."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import DATA, LIMIT_S, Cli, forked, inherited
from tests.docs.documents import DOCUMENTS, commands, own_files, shown_files
from tests.hub_server import HubServer
from tests.hub_stand_ins import SAMPLES, make_corpora, make_models
from tests.warm_start import ROOT, WarmStart, run_warm

CUT = 60  # lines of each of SentEval's files
HUB_MODELS = re.compile(r"\b(?:google-bert|FacebookAI|distilbert|princeton-nlp|Qwen)/[\w.-]+")


class Workspace(NamedTuple):
    """Where commands run."""

    folder: Path  # what a command finds; each gets a copy
    environment: dict[str, str]
    address: str  # of the process that commands are forked from


def write_texts(folder: Path) -> None:
    """The reader's own texts, under the names that all documents use."""
    sentences = [line for line in (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines() if line][:300]
    for name, lines in {
        "sentences.txt": sentences,
        "corpus.txt": sentences[:200],
        "queries.txt": sentences[200:205],
    }.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "table.csv").write_text("text\n" + "\n".join(f'"{line}"' for line in sentences[:50]) + "\n", encoding="utf-8")
    for name in ("left.txt", "right.txt", "more.txt"):
        (folder / name).write_text("\n".join(sentences[205:210]) + "\n", encoding="utf-8")
    (folder / "published.csv").write_text(
        "loss.temperature,metric,paper,source\n0.05,Avg.,76.25,Table 5\n", encoding="utf-8"
    )
    with (SAMPLES / "triplets.csv").open(encoding="utf-8", newline="") as file:
        rows = [list(row.values()) for row in csv.DictReader(file)][:200]
    for name, columns in {"triplets.csv": ["sent0", "sent1", "hard_neg"], "pairs.csv": ["sent0", "sent1"]}.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *(row[: len(columns)] for row in rows)])


def write_senteval(folder: Path) -> None:
    """About sixty lines of every file of SentEval's, from all of it; TREC's whole, since its classes are rare."""
    for path in (DATA / "SentEval").rglob("*"):
        if path.is_file():
            cut = folder / path.relative_to(DATA)
            cut.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().splitlines(keepends=True)
            cut.write_bytes(b"".join(lines[:: max(1, len(lines) // CUT) if path.parent.name != "TREC" else 1]))


def write_stsb(folder: Path) -> None:
    """STS-B's training set as docs/how-to/scored-pairs.md makes it."""
    lines = (
        (folder / "data" / "SentEval" / "STS" / "STSBenchmark" / "sts-train.csv").read_text(encoding="utf-8").splitlines()
    )
    rows = ["\t".join(line.split("\t")[4:7]) for line in lines]
    (folder / "STS-B-train.tsv").write_text("\n".join(["score\tsentence1\tsentence2", *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, simcse_data: Path, my_lab: Path
) -> Iterator[Workspace]:
    """The folder, with a trained run, a sweep and an index in it, as the documents have them."""
    folder, root = tmp_path_factory.mktemp("workspace"), tmp_path_factory.mktemp("hub")
    write_texts(folder)
    write_senteval(folder / "data")
    write_stsb(folder)
    for document in DOCUMENTS:
        for name, text in shown_files(document.read_text(encoding="utf-8"), "my_conf").items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        for name, text in own_files(document.read_text(encoding="utf-8")).items():
            (folder / name).write_text(text, encoding="utf-8")
    make_models(root, sorted({name for command in commands() for name in HUB_MODELS.findall(command.line)} | DEFAULTS))
    make_corpora(root)
    with HubServer(root) as server:
        paths = {
            "SIMCSE_CACHE": str(cache_dir),
            "SIMCSE_DATA": str(folder / "data"),
            "PYTHONPATH": os.pathsep.join([str(my_lab), str(ROOT / "src")]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        environment = {**inherited(), **server.environment(tmp_path_factory.mktemp("hub_cache")), **paths}
        environment |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "COLUMNS": "80"}
        started = WarmStart(environment)
        run = forked(started.address, folder, environment)
        quick = ("model=tiny", "data=file", "data.train_file=sentences.txt", "data.batch_size=32", "trainer.max_steps=4")
        for made in (
            run(*quick, "hydra.run.dir=outputs/first"),
            run("-m", *quick, "loss.temperature=0.05,0.1", "hydra.sweep.dir=multirun/temperature"),
            run("folder=index", "input=corpus.txt", "checkpoint=outputs/first/export", command="index"),
        ):
            assert made.returncode == 0, made.stderr
        yield Workspace(folder, environment, started.address)
        started.close()


DEFAULTS = {
    "google-bert/bert-base-uncased",
    "google-bert/bert-large-uncased",
    "FacebookAI/roberta-base",
    "FacebookAI/roberta-large",
    "distilbert/distilroberta-base",
}


@pytest.fixture
def copied(workspace: Workspace, tmp_path: Path) -> Path:
    """A copy of the workspace for one command."""
    return Path(shutil.copytree(workspace.folder, tmp_path / "here", symlinks=True))


@pytest.fixture
def typed(workspace: Workspace, copied: Path) -> Cli:
    """Run a verb in the copy."""
    return forked(workspace.address, copied, workspace.environment)


@pytest.fixture
def typed_module(workspace: Workspace, copied: Path) -> Cli:
    """Run a module that lies in the copy."""

    def run(module: str) -> "subprocess.CompletedProcess[str]":
        return run_warm(workspace.address, [module], cwd=copied, env=workspace.environment, timeout=LIMIT_S)

    return run
