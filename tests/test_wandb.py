"""W&B: an offline run's own file is read back."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from simcse_lit.reporting import wandb as reporting

from .conftest import Cli

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


def test_an_offline_run_holds_config_curves_scores_and_the_group_of_its_sweep(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "-m",
        *TINY,
        "logger=both",
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=1",
        "loss.temperature=0.07",
        "hydra.sweep.dir=my-sweep",
        "hydra.sweep.subdir=job",
        env={"HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    assert "wandb sync" in done.stdout
    (path,) = (tmp_path / "my-sweep" / "job").rglob("*.wandb")
    assert str(path.parent) in done.stdout
    found = list(records(path))

    run = next(record.run for record in found if record.WhichOneof("record_type") == "run")
    assert run.project == "simcse-lit"
    assert run.run_group == "my-sweep"
    assert "loss.temperature=0.07" in run.display_name
    config = {
        key(item): json.loads(item.value_json)
        for record in found
        for update in (record.config.update, record.run.config.update)
        for item in update
    }
    assert config["loss"]["temperature"] == 0.07
    assert config["data"]["batch_size"] == 64

    history: dict[str, list[Any]] = {}
    for record in found:
        for item in record.history.item:
            history.setdefault(key(item), []).append(json.loads(item.value_json))
    assert len(history["train/loss"]) == 4
    assert len(history["val/sts"]) == 3  # untrained, and after 2 and 4 steps
    assert history["train/sentences_per_second"][0] > 0
    assert history["lr-AdamW"]
    assert {"before/Pairs", "test/Pairs"} <= set(history)
    tables = [name for name in history if name.startswith("scores")]
    assert tables
    media = list(path.parent.rglob("scores*.table.json"))
    assert json.loads(media[0].read_text())["columns"] == ["encoder", "Pairs", "Pairs-dev"]
    assert [row[0] for row in json.loads(media[0].read_text())["data"]] == ["before", "after"]


def test_going_online_without_a_key_is_refused_with_the_way_out(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "logger=wandb", "logger.wandb.mode=online", "hydra.run.dir=run", env={"HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "no API key. Log in with: wandb login;" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_continued_run_goes_on_in_its_own_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = OmegaConf.create({"job": {"override_dirname": "", "name": "train", "num": "???"}})
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
