"""W&B: an offline run's own file is read back."""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from simcse_lit.reporting.run import wandb as reporting
from tests.conftest import Cli, metrics

TINY = ("model=tiny", "data=samples", "senteval.from_hub=false", "trainer=cpu", "data.batch_size=64", "loss=sup")


def records(path: Path) -> Iterator[Record]:
    """Records of a .wandb file: W&B's header, then LevelDB's log format in blocks of 32 KiB."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
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
        found = list(records(path))

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
        scores = json.loads((folder / "scores.json").read_text())
        assert table["data"] == [[stage, row["test"]["Pairs"], row["dev"]["Pairs-dev"]] for stage, row in scores.items()]

        artifacts = [record.artifact for record in found if record.WhichOneof("record_type") == "artifact"]
        (artifact,) = (one for one in artifacts if one.type != "run_table")
        assert artifact.type == "model" and artifact.name == f"export-{run.run_id}"
        metadata = json.loads(artifact.metadata)
        assert metadata["config"]["loss"]["temperature"] == 0.07
        ((data, digest),) = metadata["data_sha256"].items()
        assert digest == hashlib.sha256(Path(data).read_bytes()).hexdigest()
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


def test_a_continued_run_goes_on_in_its_own_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = OmegaConf.create({"job": {"name": "train", "num": "???"}, "overrides": {"task": []}})
    hydra = SimpleNamespace(get=lambda: settings)
    monkeypatch.setattr(reporting, "HydraConfig", hydra)

    def run_id(resume: str | None) -> str:
        logger = reporting.build_logger(
            project="p", entity=None, name=None, group=None, tags=[], mode="offline", save_dir=str(tmp_path), resume=resume
        )
        reporting.finish(logger, failed=False)
        return str(logger.experiment.id)

    first, continued, another = run_id("auto"), run_id("auto"), run_id(None)
    assert first == continued != another
