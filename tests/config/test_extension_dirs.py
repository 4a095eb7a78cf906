"""Folders of configuration files that installed packages bring."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from simcse_lit import config


def test_a_package_that_cannot_be_used_is_warned_of_and_the_others_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good_lab" / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "good_lab" / "__init__.py").touch()
    (tmp_path / "good_lab" / "conf" / "loss" / "mine.yaml").touch()
    (tmp_path / "torn_lab").mkdir()
    (tmp_path / "torn_lab" / "__init__.py").write_text("raise RuntimeError('is torn')")
    monkeypatch.syspath_prepend(tmp_path)
    values = ("absent_lab.conf", "good_lab.conf", "good_lab.other", "torn_lab.conf")
    entries = [EntryPoint(value.partition(".")[0], value, config.EXTENSIONS) for value in values]
    monkeypatch.setattr(config, "entry_points", lambda group: entries)
    config.extension_dirs.cache_clear()
    try:
        assert config.extension_dirs() == (tmp_path / "good_lab" / "conf",)
        assert "mine" in config.options("loss")
    finally:
        config.extension_dirs.cache_clear()
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 3 and all("its configuration options are not loaded" in line for line in warned)
    assert any("torn_lab" in line and "is torn" in line for line in warned)
