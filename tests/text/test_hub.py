"""The Hub's code path for real, over HTTP, against a loopback server that speaks its protocol (`hub_server.py`)."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cli, forked, inherited
from tests.hub_server import HubServer
from tests.hub_stand_ins import make_corpora, make_models
from tests.warm_start import WarmStart

RELEASE = "princeton-nlp/sup-simcse-bert-base-uncased"
RUN = ("trainer=cpu", "trainer.max_steps=2", "data.batch_size=8", "hydra.run.dir=run")


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, both corpora and the seven STS sets, under the names that conf/ asks for."""
    root = tmp_path_factory.mktemp("hub")
    make_models(root, ["google-bert/bert-base-uncased", "FacebookAI/roberta-large", RELEASE])
    make_corpora(root)
    return root


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub_cache")


@pytest.fixture(scope="module")
def from_hub(hub_root: Path, hub_cache: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A process for commands that ask one server: its address is read when the libraries are imported."""
    with HubServer(hub_root) as server:
        environment = {**inherited(), **server.environment(hub_cache)}
        started = WarmStart(environment)
        yield started.address, environment
        started.close()


@pytest.fixture
def hub_cli(from_hub: tuple[str, dict[str, str]], tmp_path: Path, cache_dir: Path) -> Cli:
    """As `cli`, with a Hub."""
    address, environment = from_hub
    return forked(address, tmp_path, {**environment, "SIMCSE_CACHE": str(cache_dir)})


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
    again = cli(*RUN, "hydra.run.dir=again", env=environment)
    assert again.returncode == 0, again.stderr
    assert "cannot be reached" in again.stdout
    first, second = ((tmp_path / run / "metrics.csv").read_text() for run in ("run", "again"))
    assert first.splitlines()[1] == second.splitlines()[1]  # the untrained score


def test_supervised_training_reads_the_authors_triplets(hub_cli: Cli) -> None:
    done = hub_cli(*RUN, "model=roberta-large", "loss=sup", "evaluation.test=false")
    assert done.returncode == 0, done.stderr
    assert "805 examples" in done.stdout
    assert "3 views" in done.stdout


def test_triplets_are_built_from_raw_snli_and_mnli(hub_cli: Cli) -> None:
    done = hub_cli(*RUN, "loss=sup", "data=snli-mnli", "evaluation.test=false")
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
            "has no such file",
        ),
        (("model=tiny", "data=wiki1m", "data.revision=v9"), "data.revision=v9"),
    ],
)
def test_what_the_hub_does_not_have_is_said(hub_cli: Cli, changes: tuple[str, ...], expected: str) -> None:
    done = hub_cli(*RUN, *changes, "senteval.from_hub=false")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_the_message_names_what_was_looked_for_and_two_ways_out(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {"HF_ENDPOINT": closed, "HF_HOME": str(tmp_path / "empty")}
    weights = cli(*RUN, env=environment)
    text = cli(*RUN, "model=tiny", env=environment)
    for done, wanted in ((weights, "google-bert/bert-base-uncased"), (text, "wiki1m_for_simcse.txt")):
        assert done.returncode == 1
        assert wanted in done.stderr and closed in done.stderr and "=F" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 10
    assert "bundled sentence pairs" in weights.stdout


def test_evaluate_fetches_a_release_and_sentevals_archive_and_runs_again_without_the_hub(
    cli: Cli, tmp_path: Path, hub_root: Path, hub_cache: Path
) -> None:
    arguments = (f"checkpoint={RELEASE}", "tasks=sts", "bootstrap.samples=0")
    cache = {"SIMCSE_CACHE": str(tmp_path / "cache")}
    with HubServer(hub_root) as server:
        done = cli(*arguments, "hydra.run.dir=run", command="evaluate", env=server.environment(hub_cache) | cache)
        environment = server.environment(hub_cache) | cache
    assert done.returncode == 0, done.stderr
    assert "SimCSE release (supervised)" in done.stdout and "pooler cls, projection mlp" in done.stdout
    assert "SICK-R has 50 pairs here, 4,927 in the paper's protocol" in done.stdout
    again = cli(*arguments, "hydra.run.dir=again", command="evaluate", env=environment)
    assert again.returncode == 0, again.stderr
    assert "cannot be reached" in again.stdout
    results = [json.loads((tmp_path / run / "results.json").read_text())["encoders"][0] for run in ("run", "again")]
    assert results[0]["tasks"] == results[1]["tasks"]
    missing = cli("checkpoint=nobody/nothing", "tasks=samples", command="evaluate", env=environment)
    assert missing.returncode == 1
    assert "checkpoint: nobody/nothing: is not on this machine" in missing.stderr and "=FOLDER" in missing.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("checkpoint=nobody/nothing",), "checkpoint: nobody/nothing: there is no model nobody/nothing on"),
        (("checkpoint=not//a//name",), "checkpoint: not//a//name: there is no such folder"),
        (("checkpoint='nobody nothing'",), "neither a folder here nor a name on the Hub"),
        ((f"checkpoint={RELEASE}", "revision=v9"), f"revision=v9: the model {RELEASE} has no such revision"),
    ],
)
def test_what_evaluate_does_not_find_on_the_hub_is_said(hub_cli: Cli, changes: tuple[str, ...], expected: str) -> None:
    done = hub_cli(*changes, "tasks=samples", command="evaluate")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
