"""Bars: drawn again and again on a terminal, whole lines in a log."""

import io
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from simcse_lit import progress
from simcse_lit.progress import Bar
from simcse_lit.training import callbacks
from simcse_lit.training.callbacks import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(stream: io.StringIO) -> str:
    with Bar(total=4, desc="Encoding", unit=" lines", file=stream, mininterval=0, delay=0) as bar:
        for _ in range(4):
            bar.update(1)
            bar.set_postfix_str("more")
    return stream.getvalue()


def test_a_terminal_has_a_bar_that_is_gone_in_the_end() -> None:
    drawn = work(Terminal())
    assert "Encoding:  75%" in drawn
    assert "\n" not in drawn and drawn.endswith("\r")
    assert drawn.rstrip("\r").rpartition("\r")[2].isspace()


def test_what_a_new_description_draws_is_removed_too() -> None:
    stream = Terminal()
    with Bar(total=4, desc="Fetching", file=stream, mininterval=0, delay=0) as bar:
        bar.set_description("Complete")
    assert "Complete" in stream.getvalue()
    assert stream.getvalue().rstrip("\r").rpartition("\r")[2].isspace()


def test_a_bar_of_short_work_is_not_drawn() -> None:
    stream = Terminal()
    with Bar(total=4, file=stream, mininterval=0) as bar:
        bar.update(4)
        bar.set_description("Complete")
    assert stream.getvalue() == ""


def test_a_log_has_nothing_of_work_that_is_done_in_a_minute() -> None:
    assert work(io.StringIO()) == ""


def test_a_log_has_a_line_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    written = work(io.StringIO())
    assert "\r" not in written and "\x1b" not in written
    assert "Encoding 3/4 lines, 00:00 left\n" in written


def test_two_bars_in_a_log_leave_one_another_alone() -> None:
    stream = io.StringIO()
    with Bar(total=2, file=stream) as outer:
        with Bar(total=2, file=stream):
            pass
        outer.clear()
    assert stream.getvalue() == ""


def test_a_cell_of_a_notebook_draws_bars() -> None:
    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    assert progress.redraws(OutStream())
    assert not progress.redraws(io.StringIO())


def a_trainer(step: int) -> Any:
    return SimpleNamespace(
        global_step=step,
        estimated_stepping_batches=500,
        is_global_zero=True,
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        callback_metrics={"train/loss": 0.5, "val/sts": 71.234},
        optimizers=[SimpleNamespace(param_groups=[{"lr": 3e-5}])],
        progress_bar_metrics={},
    )


def test_training_logs_a_line_for_each_score_and_one_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    clock = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    module: Any = SimpleNamespace()
    bar = ProgressBar()
    bar.setup(a_trainer(0), module, "fit")
    with caplog.at_level(logging.INFO):
        bar.on_train_start(bar.trainer)
        bar.on_validation_start(bar.trainer, module)
        bar.on_validation_end(bar.trainer, module)  # the untrained encoder's, which the table has
        for step, clock[0] in ((50, 10.0), (100, 61.0), (101, 62.0)):
            bar.setup(a_trainer(step), module, "fit")
            bar.on_train_batch_end(bar.trainer, module, {}, {}, step - 1)
        clock[0] = 125.0
        bar.setup(a_trainer(250), module, "fit")
        bar.on_validation_start(bar.trainer, module)
        bar.on_validation_end(bar.trainer, module)
        bar.on_train_end(bar.trainer, module)
    assert [record.getMessage() for record in caplog.records] == [
        "Step 100/500 04:04 left, loss=0.500, lr=3e-05, sts=71.23",
        "Step 250/500 02:05 left, loss=0.500, lr=3e-05, sts=71.23",
    ]


def test_a_terminal_has_no_line_beside_the_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    module: Any = SimpleNamespace()
    bar = ProgressBar()
    bar.setup(a_trainer(250), module, "fit")
    with caplog.at_level(logging.INFO):
        bar.on_train_start(bar.trainer)
        bar.on_validation_start(bar.trainer, module)
        bar.on_validation_end(bar.trainer, module)
        bar.on_train_end(bar.trainer, module)
    assert not bar.is_disabled
    assert not caplog.records
