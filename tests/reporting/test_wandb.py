"""W&B: an offline run's own file is read back."""

import hashlib
import json
import os
import shlex
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from simcse_lit.config import CONF_DIR
from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.reporting.run import wandb as reporting
from simcse_lit.scores import read_scores
from tests.conftest import LIMIT_S, Cli, metrics

TINY = ("model=tiny", "data=samples", "senteval.from_hub=false", "trainer=cpu", "data.batch_size=64", "loss=sup")


def records(path: Path) -> Iterator[Record]:
    """Records of a .wandb file: W&B's header, then LevelDB's log format in blocks of 32 KiB."""
    data = path.read_bytes()
    assert data[:4] in (b"", b":W&B")
    position, parts = 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def written(folder: Path) -> list[Record]:
    """Records of the run whose files lie in `folder`, once its last one is there: W&B's own process writes them."""
    (path,) = folder.glob("*.wandb")
    last = time.monotonic() + LIMIT_S
    while True:
        found = list(records(path))
        kinds = [record.WhichOneof("record_type") for record in found]
        if "exit" in kinds:
            return found
        assert time.monotonic() < last, (path.stat().st_size, kinds)
        time.sleep(0.1)


def key(item: Any) -> str:
    return ".".join(item.nested_key) or str(item.key)


def history_of(found: list[Record]) -> dict[str, list[Any]]:
    """Everything that was logged over steps."""
    history: dict[str, list[Any]] = {}
    for record in found:
        for item in record.history.item:
            history.setdefault(key(item), []).append(json.loads(item.value_json))
    return history


def config_of(found: list[Record]) -> dict[str, Any]:
    updates = [update for record in found for update in (record.config.update, record.run.config.update)]
    return {key(item): json.loads(item.value_json) for update in updates for item in update}


CURVES = (
    "train/loss",
    "train/gradient_norm",
    "train/positive_cosine",
    "train/negative_cosine",
    "train/sentences_per_second",
    "lr-AdamW",
)


@pytest.mark.long
def test_the_offline_runs_of_a_sweep_hold_group_names_config_curves_tables_images_and_exports(
    cli: Cli, tmp_path: Path
) -> None:
    done = cli(
        "-m",
        *TINY,
        "logger=both",
        "trainer.max_steps=2",
        "trainer.val_check_interval=1",
        "trainer.log_every_n_steps=1",
        "loss.temperature=0.07",
        "seed=1,2",
        "evaluation.token_budget=65536",
        "hydra.sweep.dir=multirun/my/sweep",
        env={"HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    assert "wandb sync" in done.stdout
    digests = set()
    for number, seed in ((0, 1), (1, 2)):
        folder = tmp_path / "multirun" / "my" / "sweep" / str(number)
        assert yaml.safe_load((folder / "config.yaml").read_text())["seed"] == seed  # each job trains in a folder of its own
        assert (folder / "export" / "model.safetensors").is_file()
        (path,) = folder.rglob("*.wandb")
        assert str(path.parent) in done.stdout
        found = written(path.parent)

        run = next(record.run for record in found if record.WhichOneof("record_type") == "run")
        assert (run.project, run.run_group, run.display_name) == ("simcse-lit", "my/sweep", f"seed={seed}")
        config = config_of(found)
        assert config["loss"]["temperature"] == 0.07
        assert (config["data"]["batch_size"], config["seed"]) == (64, seed)

        history = history_of(found)
        logged = metrics(folder)
        for name in CURVES:
            assert len(history[name]) == 2, name
            assert history[name] == pytest.approx(logged[name], abs=1e-5), name
        for name in ("val/sts", "val/alignment", "val/uniformity"):
            assert len(history[name]) == 3, name  # untrained, and after each step
        # Of random weights neither need be larger; tests/cli/test_train.py holds both to a formula.
        assert all(-1 <= history[f"train/{pairs}_cosine"][0] <= 1 for pairs in ("positive", "negative"))
        assert history["train/gradient_norm"][0] > 0
        assert {"before/Pairs", "test/Pairs"} <= set(history)
        for figure in ("training_curve", "alignment_uniformity"):
            assert [end for name, end in image_of(history, f"figures/{figure}").items() if name == "format"] == ["png"]
        (table,) = (json.loads(path.read_text()) for path in path.parent.rglob("*.table.json"))
        assert table["columns"] == ["encoder", "Pairs", "Pairs-dev"]
        scores = read_scores(folder)
        assert table["data"] == [[stage, row["test"]["Pairs"], row["dev"]["Pairs-dev"]] for stage, row in scores.items()]

        artifacts = [record.artifact for record in found if record.WhichOneof("record_type") == "artifact"]
        (artifact,) = (one for one in artifacts if one.type != "run_table")
        assert artifact.type == "model" and artifact.name == f"export-{run.run_id}"
        metadata = json.loads(artifact.metadata)
        assert metadata["config"]["loss"]["temperature"] == 0.07
        ((data, digest),) = metadata["data_sha256"].items()
        assert digest == hashlib.sha256(local_path(data, "test").read_bytes()).hexdigest()
        assert {"model.safetensors", "config.json"} <= {entry.path for entry in artifact.manifest.contents}
        digests.add(artifact.digest)
    assert len(digests) == 2


def image_of(history: dict[str, list[Any]], name: str) -> dict[str, Any]:
    """What was logged of an image, whether as one value or as one value a field."""
    if name in history:
        return dict(history[name][0])
    return {key.rpartition(".")[2]: values[0] for key, values in history.items() if key.startswith(f"{name}.")}


def test_a_run_is_named_by_what_differs_and_its_seed_and_a_sweep_by_its_place(tmp_path: Path) -> None:
    task = ["loss=sup", "senteval.from_hub=False", "seed=3", "loss.temperature=0.1", "resume=auto"]
    hydra = OmegaConf.create({"job": {"num": 1}, "sweep": {"dir": str(tmp_path)}, "overrides": {"task": task}})
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {overrides: {task: [loss=sup, senteval.from_hub=false, 'seed=1,3', 'loss.temperature=0.1,0.2']}}"
    )
    assert reporting.run_name(hydra) == "loss.temperature=0.1 seed=3"
    hydra.job.num = "???"
    assert reporting.run_name(hydra) == "loss=sup senteval.from_hub=False loss.temperature=0.1 seed=3"
    assert reporting.sweep_name("multirun/unsup/2026-01-01") == "unsup/2026-01-01"
    assert reporting.sweep_name("/scratch/me/temperatures") == "temperatures"


def test_going_online_without_a_key_is_refused_with_the_way_out(warm_cli: Cli, tmp_path: Path) -> None:
    done = warm_cli(*TINY, "logger=wandb", "logger.wandb.mode=online", "hydra.run.dir=run", env={"HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "no API key. Log in with: wandb login;" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hydra's settings of a single run, in an environment without W&B's variables."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("wandb.sdk.wandb_setup._singleton", None)  # which has read the environment
    settings = OmegaConf.create(
        {"job": {"name": "train", "num": "???"}, "overrides": {"task": ["seed=3"]}, "sweep": {"dir": "multirun/a/b"}}
    )
    monkeypatch.setattr(reporting, "HydraConfig", SimpleNamespace(get=lambda: settings))
    return settings


def logger_of(folder: Path, **changes: Any) -> Any:
    """The logger of conf/logger/wandb.yaml, with other values for some keys."""
    asked = {"entity": None, "name": None, "group": None, "tags": [], "mode": "auto", "resume": None, **changes}
    conf = OmegaConf.load(CONF_DIR / "logger" / "wandb.yaml").wandb
    project = asked.pop("project", conf.project)
    return reporting.build_logger(project=project, save_dir=str(folder), **asked)


def test_a_continued_run_goes_on_in_its_own_wandb_run(tmp_path: Path, single: Any) -> None:
    def run_id(resume: str | None) -> str:
        logger = logger_of(tmp_path, mode="offline", resume=resume)
        reporting.finish(logger, failed=False)
        return str(logger.experiment.id)

    first, continued, another = run_id("auto"), run_id("auto"), run_id(None)
    assert first == continued != another


def test_the_end_of_a_continued_offline_run_names_all_its_parts_in_their_order(
    tmp_path: Path, single: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "my runs"
    for _ in range(3):
        logger = logger_of(folder, mode="offline", resume="auto")
        caplog.clear()
        reporting.finish(logger, failed=False)
        time.sleep(1.1)  # W&B names parts by the second
    other = logger_of(folder, mode="offline")
    reporting.finish(other, failed=False)
    (line,) = (said for said in caplog.messages if "To upload it" in said and str(logger.experiment.id) in said)
    command = shlex.split(line.partition("To upload it: ")[2])
    parts = sorted(folder.glob(f"wandb/offline-run-*-{logger.experiment.id}"))
    assert command == ["wandb", "sync", *map(str, parts)] and len(parts) == 3
    assert parts == sorted(parts, key=lambda part: part.stat().st_ctime)


VARIABLES = {
    "WANDB_PROJECT": "mine",
    "WANDB_ENTITY": "us",
    "WANDB_NAME": "first",
    "WANDB_RUN_GROUP": "tries",
    "WANDB_TAGS": "one, two",
    "WANDB_NOTES": "on a train",
}


def recorded(logger: Any) -> Any:
    """What the offline file says of the run."""
    folder = Path(logger.experiment.dir).parent
    reporting.finish(logger, failed=False)
    return next(record.run for record in written(folder) if record.WhichOneof("record_type") == "run")


def told(run: Any) -> tuple[str, str, str, str, list[str], str]:
    return run.project, run.entity, run.display_name, run.run_group, list(run.tags), run.notes


def test_without_a_word_of_the_users_a_run_is_ours_and_named_by_its_overrides(tmp_path: Path, single: Any) -> None:
    assert told(recorded(logger_of(tmp_path, mode="offline"))) == ("simcse-lit", "", "seed=3", "", [], "")


def test_the_users_variables_win_over_our_defaults(tmp_path: Path, single: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    single.job.num = 4  # a job of a sweep, whose group we would name
    for name, value in {**VARIABLES, "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    assert told(recorded(logger_of(tmp_path))) == ("mine", "us", "first", "tries", ["one", "two"], "on a train")


def test_a_typed_key_wins_over_the_users_variables(tmp_path: Path, single: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**VARIABLES, "WANDB_MODE": "disabled", "WANDB_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    typed = {"project": "typed", "entity": "them", "name": "second", "group": "g", "tags": ["three"], "mode": "offline"}
    assert told(recorded(logger_of(tmp_path, **typed)))[:5] == ("typed", "them", "second", "g", ["three"])


@pytest.mark.parametrize(
    "variables",
    [{"WANDB_MODE": "disabled"}, {"WANDB_DISABLED": "true"}, {"WANDB_DISABLED": "1", "WANDB_MODE": "online"}],
)
def test_the_user_may_switch_wandb_off(
    tmp_path: Path, single: Any, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert logger_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_trains_without_wandb_when_the_user_has_switched_it_off(warm_cli: Cli, tmp_path: Path) -> None:
    short = (*TINY, "trainer.max_steps=2", "evaluation.before=false", "tasks=[]", "hydra.run.dir=run")
    done = warm_cli(*short, "logger=both", env={"HOME": str(tmp_path), "WANDB_DISABLED": "true"})
    assert done.returncode == 0, done.stderr
    assert "W&B is switched off" in done.stdout and "wandb sync" not in done.stdout
    assert (tmp_path / "run" / "metrics.csv").is_file() and not (tmp_path / "run" / "wandb").exists()


@pytest.mark.parametrize("mode", ["offline", "dryrun"])
def test_the_users_mode_decides_where_none_is_typed(
    tmp_path: Path, single: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(reporting, "_has_key", lambda: True)  # with which a run would be online
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = logger_of(tmp_path)
    assert logger.experiment.offline
    reporting.finish(logger, failed=False)


@pytest.mark.parametrize(
    ("changes", "variables", "says"),
    [
        (
            {"tags": ["a", "b" * 65]},
            {},
            "logger.wandb.tags: bbbbbbbbbbbbbbbbbbbb...: has 65 characters. W&B accepts at most 64",
        ),
        ({"group": "g" * 129}, {}, "group=gggggggggggggggggggg...: has 129 characters. W&B accepts at most 128."),
        ({"name": "n" * 129}, {}, "logger.wandb.name=nnnnnnnnnnnnnnnnnnnn...: has 129 characters"),
        ({}, {"WANDB_TAGS": "a," + "b" * 65}, "WANDB_TAGS: bbbbbbbbbbbbbbbbbbbb...: has 65"),
        ({}, {"WANDB_RUN_GROUP": "g" * 129}, "WANDB_RUN_GROUP=gggggggggggggggggggg...: has 129"),
        ({}, {"WANDB_NAME": "n" * 129}, "WANDB_NAME=nnnnnnnnnnnnnnnnnnnn...: has 129"),
        ({"project": "a/b", "mode": "offline"}, {}, "logger.wandb: Invalid project name 'a/b'"),
        ({"project": "p" * 129, "mode": "offline"}, {}, "logger.wandb: Invalid project name"),
        ({}, {"WANDB_MODE": "sometimes"}, "WANDB_MODE=sometimes: not one of online, offline, shared, disabled."),
        ({}, {"WANDB_MODE": "OFFLINE"}, "WANDB_MODE=OFFLINE: not one of"),  # nor does W&B itself take it
        ({}, {"WANDB_MODE": "online", "HOME": "/nowhere"}, "WANDB_MODE=online: no API key. Log in with: wandb login"),
    ],
)
def test_what_wandb_does_not_take_is_said_before_training(
    tmp_path: Path,
    single: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    variables: dict[str, str],
    says: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as raised:
        logger_of(tmp_path, **changes)
    assert str(raised.value).startswith(says)


def test_the_longest_that_wandb_takes_is_taken_and_what_we_name_ourselves_is_cut(tmp_path: Path, single: Any) -> None:
    tags, name, group = ["t" * 64], "n" * 128, "g" * 128
    run = recorded(logger_of(tmp_path / "a", mode="offline", tags=tags, name=name, group=group))
    assert (list(run.tags), run.display_name, run.run_group) == (tags, name, group)
    single.job.num, single.sweep.dir = 0, f"multirun/{'s' * 200}/2026-01-01"
    single.overrides.task = [f"a{number}=value" for number in range(30)] + ["seed=7"]
    run = recorded(logger_of(tmp_path / "b", mode="offline"))
    assert len(run.display_name) == len(run.run_group) == 128
    assert run.display_name.endswith("seed=7") and run.run_group.endswith("/2026-01-01")
