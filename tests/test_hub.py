"""The Hub's code path for real, over HTTP, against a loopback server that speaks its protocol (`hub_server.py`)."""

import csv
import gzip
import json
import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from pyarrow import parquet
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from simcse_lit.config.resolvers import local_path
from simcse_lit.evaluation.sts import HUB, HUB_SICK

from .conftest import Cli
from .hub_server import HubServer

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SAMPLES = TINY.parent
RUN = ("trainer=cpu", "trainer.max_steps=2", "data.batch_size=8", "hydra.run.dir=run")


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, both corpora and the seven STS sets, under the names that conf/ asks for."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    for name in ("google-bert/bert-base-uncased", "FacebookAI/roberta-large"):
        folder = root / "models" / name
        BertForMaskedLM(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    corpora = root / "datasets" / "princeton-nlp" / "datasets-for-simcse"
    corpora.mkdir(parents=True)
    wiki = (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines()[:60]
    (corpora / "wiki1m_for_simcse.txt").write_text("\n".join([*wiki[:30], "", *wiki[30:]]) + "\n", encoding="utf-8")
    shutil.copy(SAMPLES / "triplets.csv", corpora / "nli_for_simcse.csv")
    with (SAMPLES / "triplets.csv").open(encoding="utf-8", newline="") as file:
        triplets = list(csv.DictReader(file))[:20]
    for name, file_name, rows in (
        ("stanfordnlp/snli", "plain_text/train-00000-of-00001.parquet", triplets[:10]),
        ("nyu-mll/multi_nli", "data/train-00000-of-00001.parquet", triplets[10:]),
    ):
        labelled = [
            {"premise": row["sent0"], "hypothesis": row[view], "label": label}
            for row in rows
            for view, label in (("sent1", 0), ("hard_neg", 2))
        ]
        labelled.append({"premise": "No agreement.", "hypothesis": "None.", "label": -1})
        path = root / "datasets" / name / file_name
        path.parent.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(labelled), path)
    with (SAMPLES / "pairs.tsv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sick = root / "datasets" / HUB_SICK
    sick.mkdir(parents=True)
    with gzip.open(sick / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        for pair in pairs[:50]:
            row = {"sentence_A": pair["sentence1"], "sentence_B": pair["sentence2"]}
            file.write(json.dumps(row | {"relatedness_score": float(pair["score"])}) + "\n")
    for place, name in enumerate(HUB.values()):
        folder = root / "datasets" / name
        folder.mkdir(parents=True)
        rows = [
            {"sentence1": pair["sentence1"], "sentence2": pair["sentence2"], "score": float(pair["score"])}
            for pair in pairs[place :: len(HUB)]
        ]
        for split in ("test", "validation"):
            with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    return root


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub_cache")


def test_the_papers_default_runs_on_what_the_hub_serves_and_again_without_it(
    cli: Cli, tmp_path: Path, hub_root: Path, hub_cache: Path
) -> None:
    with HubServer(hub_root) as server:
        done = cli(*RUN, env=server.environment(hub_cache))
        asked = " ".join(server.requests)
        environment = server.environment(hub_cache)
    assert done.returncode == 0, done.stderr
    assert "google-bert/bert-base-uncased" in asked and "wiki1m_for_simcse.txt" in asked
    assert "60 examples" in done.stdout
    assert "line 31: text is blank" in done.stdout  # wiki1m reports blank lines and goes on
    for column in ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."):
        assert column in done.stdout
    # The sets served here are small, and a set that is not the paper's is called so.
    assert "SICK-R has 50 pairs here, 4,927 in the paper's protocol" in done.stdout
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["projection"]["name"] == "mlp_train_only"

    # The server is gone: the same run starts from the cache at once, and says so.
    again = cli(*RUN, "hydra.run.dir=again", env=environment, timeout=100)
    assert again.returncode == 0, again.stderr
    assert "cannot be reached" in again.stdout
    first, second = ((tmp_path / run / "metrics.csv").read_text() for run in ("run", "again"))
    assert first.splitlines()[1] == second.splitlines()[1]  # the untrained score


def test_supervised_training_reads_the_authors_triplets(cli: Cli, hub_root: Path, hub_cache: Path) -> None:
    with HubServer(hub_root) as server:
        done = cli(*RUN, "model=roberta-large", "loss=sup", "evaluation.test=false", env=server.environment(hub_cache))
    assert done.returncode == 0, done.stderr
    assert "805 examples" in done.stdout
    assert "3 views" in done.stdout


def test_triplets_are_built_from_raw_snli_and_mnli(cli: Cli, hub_root: Path, hub_cache: Path) -> None:
    with HubServer(hub_root) as server:
        done = cli(*RUN, "loss=sup", "data=snli-mnli", "evaluation.test=false", env=server.environment(hub_cache))
    assert done.returncode == 0, done.stderr
    assert "20 examples" in done.stdout
    assert "2 unusable rows" in done.stdout and "label -1" in done.stdout


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("model.name_or_path=nobody/nothing", "data=samples"), "model.name_or_path: nobody/nothing: neither a folder"),
        (("model=tiny", "data=file", "data.train_file=hf://datasets/no/such/file.txt"), "there is no data set no/such"),
        (
            ("model=tiny", "data=file", "data.train_file=hf://datasets/princeton-nlp/datasets-for-simcse/x.txt"),
            "holds no such file",
        ),
        (("model=tiny", "data=wiki1m", "data.revision=v9"), "data.revision=v9"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    cli: Cli, hub_root: Path, hub_cache: Path, changes: tuple[str, ...], expected: str
) -> None:
    with HubServer(hub_root) as server:
        done = cli(*RUN, *changes, "data.sts_from_hub=false", env=server.environment(hub_cache))
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_the_message_names_what_was_looked_for_and_two_ways_out(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {"HF_ENDPOINT": closed, "HF_HOME": str(tmp_path / "empty")}
    weights = cli(*RUN, env=environment, timeout=100)
    text = cli(*RUN, "model=tiny", env=environment, timeout=100)
    for done, wanted in ((weights, "google-bert/bert-base-uncased"), (text, "wiki1m_for_simcse.txt")):
        assert done.returncode == 1
        assert wanted in done.stderr and closed in done.stderr and "Two ways out" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 10
    assert "bundled sentence pairs" in weights.stdout
