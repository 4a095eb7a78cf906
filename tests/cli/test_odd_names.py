"""Every verb works in a folder tree whose every name holds what a shell, Hydra, OmegaConf, YAML or a URL might read."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from simcse_lit.scores import read_scores
from tests.cli.test_resume import interrupted
from tests.conftest import OLD, Cli, forked, inherited
from tests.server.served import serving

ODD = "語 (v=1), #2's"
TRAIN = (
    "model=tiny", "trainer=cpu", "data=file", "pooler=avg", "projection=none", "data.batch_size=4",
    "senteval.from_hub=false", "evaluation.before=false", "evaluation.test=false", "tasks@dev=samples-dev", "tasks=[]",
    "analyses=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder three such names deep, with texts and an encoder."""
    root = tmp_path_factory.mktemp("tree") / ODD / f"a {ODD}" / f"{ODD} z"
    root.mkdir(parents=True)
    lines = [f"sentence {number} about {animal}s" for number in range(4) for animal in ("cat", "dog", "fish", "bird")]
    (root / f"{ODD}.txt").write_text("\n".join(lines) + "\n")
    rows = ["sent0,sent1,hard_neg", *(f"{line},{line} again,nothing of {line}" for line in lines)]
    (root / f"{ODD}.csv").write_text("\n".join(rows) + "\n")
    shutil.copytree(OLD / "export", root / f"export {ODD}")
    return root


@pytest.fixture
def here(tree: Path, warm_start: str, cache_dir: Path) -> Cli:
    """Run a command inside the tree."""
    return forked(warm_start, tree, {**inherited(), "SIMCSE_CACHE": str(cache_dir / ODD)})


def succeeded(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return done


def test_train_continue_and_report(here: Cli, tree: Path) -> None:
    text, run = tree / f"{ODD}.txt", tree / f"run {ODD}"
    words = (*TRAIN, f"data.train_file={text}", "trainer.max_epochs=2", "trainer.val_check_interval=2", f"name={ODD}")
    assert interrupted(here, run, 3, signal.SIGTERM, settings=words).returncode == 128 + signal.SIGTERM
    path = {"PYTHONPATH": str(tree / "modules")}
    again = succeeded(here(f"resume={run}", "~callbacks.signal", env=path))
    assert "from step 3" in again.stdout
    succeeded(here(str(run), command="report"))
    assert (run / "report" / "report.html").is_file()
    succeeded(here(f"folder={run}", f"out=report of {ODD}", command="report"))
    assert (tree / f"report of {ODD}" / "report.md").is_file()


def test_train_on_the_default_folder_and_on_triplets(here: Cli, tree: Path) -> None:
    words = ("loss=sup", *TRAIN, f"data.train_file={ODD}.csv", "trainer.max_steps=2", f"name={ODD}")
    succeeded(here(*words, f"model.name_or_path=export {ODD}", "model.pretrained=true"))
    (run,) = (tree / "outputs" / ODD).iterdir()
    assert read_scores(run)["after"]
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["name"] == ODD


@pytest.mark.long
def test_a_sweep_over_files_whose_names_have_commas(here: Cli, tree: Path) -> None:
    shutil.copy(tree / f"{ODD}.txt", tree / f"2 {ODD}.txt")
    sweep = tree / f"sweep {ODD}"
    files = f"data.train_file={ODD}.txt,2 {ODD}.txt"
    done = succeeded(here("-m", *TRAIN, files, "seed=1,2", "trainer.max_steps=2", f"hydra.sweep.dir={sweep}"))
    assert "4 jobs" in done.stdout
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2", "3"]
    succeeded(here(str(sweep), command="report"))
    page = (sweep / "report" / "report.md").read_text(encoding="utf-8")
    assert "data.train_file" in page and ODD in page.replace("\\", "")


def test_evaluate(here: Cli, tree: Path) -> None:
    model = tree / f"export {ODD}"
    other = shutil.copytree(model, tree / f"other {ODD}")
    words = ("tasks=samples", "bootstrap.samples=10")
    succeeded(here(f"checkpoint={model}", *words, f"hydra.run.dir={tree / f'eval {ODD}'}", command="evaluate"))
    results = json.loads((tree / f"eval {ODD}" / "results.json").read_text())
    assert [encoder["checkpoint"] for encoder in results["encoders"]] == [str(model)]
    both = f"checkpoint={model},{other}"
    done = succeeded(here(both, *words, f"embedding_cache=cache {ODD}", f"name={ODD}", command="evaluate"))
    assert "mean" in done.stdout
    succeeded(here(f"compare={model},{other}", *words, f"hydra.run.dir=compare {ODD}", command="evaluate"))


def test_encode_index_search_similarity_and_export(here: Cli, tree: Path) -> None:
    model = f"checkpoint=export {ODD}"
    for suffix in (".npy", ".parquet"):
        succeeded(here(model, f"input={ODD}.txt", f"output=vectors {ODD}{suffix}", command="encode"))
    assert np.load(tree / f"vectors {ODD}.npy").shape[0] == 16
    succeeded(here(model, f"input={ODD}.csv", "column=sent1", f"output=column {ODD}.npy", command="encode"))
    succeeded(here(model, f"input={ODD}.txt", f"folder=index {ODD}", command="index"))
    succeeded(here(f"vectors=vectors {ODD}.parquet", f"folder=index 2 {ODD}", command="index"))
    found = succeeded(here(f"folder=index {ODD}", "query=sentence 1 about cats", "output=jsonl", command="search"))
    assert json.loads(found.stdout)["hits"][0]["text"] == "sentence 1 about cats"
    typed = f"costs ${{5}}, 'or' #2 = null {ODD}"
    found = succeeded(here(f"folder=index {ODD}", f"query={typed}", "output=jsonl", command="search"))
    assert json.loads(found.stdout)["query"] == typed
    succeeded(here(f"folder=index {ODD}", f"input={ODD}.txt", command="search"))
    compared = succeeded(here(model, f"first={typed}", f"second={typed}", command="similarity"))
    assert float(compared.stdout) == pytest.approx(1, abs=1e-4)
    succeeded(here(model, f"first={tree / ODD}.txt", f"second={ODD}.txt", command="similarity"))
    for kind in ("transformers", "onnx"):
        succeeded(here(model, f"format={kind}", f"output={kind} {ODD}", command="export"))
    one, other = (
        succeeded(here(f"checkpoint={kind} {ODD}", f"first={typed}", "second=b", command="similarity"))
        for kind in ("transformers", "onnx")
    )
    assert float(one.stdout) == pytest.approx(float(other.stdout), abs=2e-4)


def test_serve(tree: Path) -> None:
    words = (f"checkpoint=export {ODD}", f"corpus={ODD}.txt")
    with serving(tree, *words) as (_, address):
        (hits,) = httpx.post(f"{address}/api/search", json={"queries": ["sentence 1 about cats"]}).json()["results"]
    assert hits[0]["text"] == "sentence 1 about cats"


def test_a_configuration_folder_with_such_a_name(here: Cli, tree: Path) -> None:
    own = tree / f"conf {ODD}" / "model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [tiny, _self_]\n")
    shown = succeeded(here("--config-dir", f"conf {ODD}", "model=mine", "--help"))
    assert "mine" in shown.stdout
    succeeded(here("--config-dir", f"conf {ODD}", "model=mine", "--cfg", "job", f"data.train_file={ODD}.txt", "data=file"))
