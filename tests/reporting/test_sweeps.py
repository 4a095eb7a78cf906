"""Reports of what presets sweep over: lists, runs of other machines, several encoders before training, long names."""

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from simcse_lit.families import HELD_OUT
from simcse_lit.report import report
from simcse_lit.reporting.sweep import figures as sweep_figures
from simcse_lit.reporting.sweep.comparison import compare
from simcse_lit.reporting.sweep.paper import read_published
from simcse_lit.reporting.sweep.runs import read_runs
from simcse_lit.scores import write_scores
from tests.run_folders import make_run, make_sweep


def test_settings_may_be_lists(tmp_path: Path) -> None:
    """As of data.columns (Table 7): they are grouped, tested, drawn, ranked and found in the paper's table."""
    number = 0
    for columns, score in (("[sent0,sent1]", 78.0), ("[sent0,sent1,hard_neg]", 80.0)):
        for weight, seed in itertools.product((0.0, 1.0), (0, 1)):
            overrides = [f"data.columns={columns}", f"loss.hard_negative_weight={weight}", f"seed={seed}"]
            changed: dict[str, Any] = {"loss.hard_negative_weight": weight, "seed": seed}
            changed["data.columns"] = columns.strip("[]").split(",")
            make_run(tmp_path / str(number), overrides, changed, after={"STS-B-dev": score + weight + seed / 10})
            number += 1
    paper = tmp_path / "paper.csv"
    paper.write_text(
        "data.columns,loss.hard_negative_weight,metric,paper,source\n"
        '"[sent0,sent1]",0.0,STS-B-dev,84.9,Table 7\n"[sent0,sent1,hard_neg]",0.0,STS-B-dev,86.2,Table 7\n'
    )
    page = report(tmp_path, paper=paper, baseline={"data.columns": "[sent0,sent1]", "loss.hard_negative_weight": "0"})
    text = (page.parent / "report.md").read_text()
    assert r"| \[sent0,sent1,hard\_neg\] | 0 | 2 | 80.05 ± 0.07 | +2.00 |" in text
    assert r"| \[sent0,sent1,hard\_neg\], 0.0 | STS-B-dev | 86.20 | 80.05 ± 0.07 | Table 7 |" in text
    assert (page.parent / "figures" / "heat_map.svg").is_file()


def test_the_command_of_a_run_made_elsewhere_names_no_folder_of_that_machine(tmp_path: Path) -> None:
    """The configuration of another checkout of this package is no configuration of the user's."""
    for number, conf in enumerate(("/elsewhere/conf", "/mine/conf")):
        folder = tmp_path / str(number)
        make_run(folder, ["seed=3"], {}, after={"STS-B-dev": 1.0})
        path = folder / ".hydra" / "hydra.yaml"
        source = f"[{{path: {conf}, schema: file, provider: main}}]"
        path.write_text(path.read_text().replace("config_sources: []", f"config_sources: {source}"))
        environment = json.loads((folder / "environment.json").read_text())
        (folder / "environment.json").write_text(
            json.dumps({**environment, "command": ["/elsewhere/src/simcse_lit/train.py"]})
        )
    commands = [shlex.split(run.command) for run in read_runs(tmp_path)]
    assert commands[0] == ["python", "-m", "simcse_lit.train", "seed=3"]
    assert commands[1] == ["python", "-m", "simcse_lit.train", "--config-path", "/mine/conf", "seed=3"]


def test_each_encoder_before_training_has_a_row(tmp_path: Path) -> None:
    """With one encoder there is one row; with several, each setting has its own."""
    make_sweep(tmp_path / "one", [0.01, 0.05], [1, 2])
    page = report(tmp_path / "one")
    assert page.read_text().count("before training") == 1
    lines = (page.parent / "report.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| before")] == [
        "| before training | – | 50.00 | 40.00 | 45.00 | 43.00 | – | – | – |"
    ]
    for number, (model, before) in enumerate((("bert-base", 40.0), ("roberta-base", 30.0))):
        folder = tmp_path / "two" / str(number)
        untrained = {"STS-B-dev": before}
        make_run(
            folder,
            [f"model={model}"],
            {"model.name_or_path": model},
            choices={"model": model},
            before=untrained,
            after={"STS-B-dev": 70.0},
        )
    page = report(tmp_path / "two")
    text = (page.parent / "report.md").read_text()
    for model, shown in (("bert-base", "40.00"), ("roberta-base", "30.00")):
        assert f"| before training, {model} | – | {shown} |" in text
        assert re.search(rf"before training, {model}</th><td></td><td>{shown}</td>", page.read_text())


def test_the_markdown_says_on_what_and_of_what_its_numbers_are(tmp_path: Path) -> None:
    make_sweep(tmp_path, [0.01, 0.05], [1, 2])
    paper = tmp_path / "paper.csv"
    paper.write_text("loss.temperature,metric,paper,source\n0.05,STS-B-dev,86.2,Table D.1\n")
    text = (report(tmp_path, paper=paper).parent / "report.md").read_text()
    assert "Device cpu: a processor; commit 0123abc; torch 2.13.0" in text
    assert "model.name\\_or\\_path google-bert/bert-base-uncased" in text and "trainer.precision 32-true" in text
    assert "The published figures are single runs with the paper's backbones, corpora and sets" in text


def _within(axis: Axes, place: float) -> bool:
    low, high = axis.get_xlim()
    return low <= place <= high


@pytest.mark.parametrize("settings", [2, 8])
def test_titles_and_labels_of_the_scores_stand_beside_each_other(
    settings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the long names of Table 6 in miniature, nothing is written over anything else, cut off or shortened."""
    for number in range(settings):
        pooler, projection = ("cls", "avg_first_last")[number % 2], ("none", "mlp", "mlp_train_only", "other")[number // 2]
        choices = {"experiment": "miniature-unsup", "pooler": pooler, "projection": projection}
        overrides = [f"{key}={value}" for key, value in choices.items()] + [f"trainer.max_steps={60 + number}"]
        changed = {"trainer.max_steps": 60 + number, "pooler.name": pooler, "projection.name": projection}
        make_run(tmp_path / str(number), overrides, changed, choices=choices, after={"STS-B-dev": 80.0 + number})
    runs = read_runs(tmp_path)
    comparison = compare(runs, metric=None, baseline=None, defaults=None)
    rows = [
        f"{setting.values[0]},{setting.values[1]},STS-B-dev,{70 + k},x\n" for k, setting in enumerate(comparison.settings)
    ]
    keys = ",".join(axis.key for axis in comparison.axes[:2])
    (tmp_path / "paper.csv").write_text(f"{keys},metric,paper,source\n{''.join(rows)}")
    kept: list[Figure] = []
    monkeypatch.setattr(sweep_figures, "save", lambda figure, path: kept.append(figure))
    sweep_figures.draw_scores(comparison, read_published(tmp_path / "paper.csv", comparison), tmp_path / "x.png")
    (figure,) = kept
    figure.canvas.draw()
    left, right = figure.axes
    texts = [text for axis in (left, right) for text in axis.findobj(Text) if text.get_text() and text.get_visible()]
    texts += [text for text in figure.findobj(Text) if text not in texts and text.get_text()]
    outside = [tick for axis in (left, right) for tick in axis.xaxis.get_major_ticks() if not _within(axis, tick.get_loc())]
    texts = [text for text in texts if not any(text in (tick.label1, tick.label2) for tick in outside)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible()]
    assert {"Ours", "Published", "STS-B-dev", comparison.axes[0].key} & {text for text, _ in boxes} >= {"Ours", "Published"}
    assert not any("…" in text for text, _ in boxes)
    for (first, one), (second, other) in itertools.combinations(boxes, 2):
        assert not one.overlaps(other), (first, second)
    for text, box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height, text


def test_of_a_loss_the_lowest_is_the_best(tmp_path: Path) -> None:
    """Runs of loss=mlm: the setting and the run at the top of the page are those with the lowest held-out loss."""
    for number, (rate, loss) in enumerate(((1e-4, 2.5), (1e-5, 3.5), (1e-3, 3.0))):
        folder = tmp_path / str(number)
        make_run(folder, [f"optimizer.lr={rate}"], {"optimizer.lr": rate, "loss.name": "mlm"})
        row = {"held-out loss": loss, "held-out accuracy": 50 - loss}
        write_scores(folder, {"after": {"dev": row, "test": {}}}, HELD_OUT)
    comparison = compare(read_runs(tmp_path), metric=None, baseline=None, defaults=None)
    assert comparison.metric == "held-out loss" and comparison.unit("held-out loss") == "nats per masked token"
    assert [setting.values for setting in comparison.ranked()] == [(1e-4,), (1e-3,), (1e-5,)]
    by_accuracy = compare(read_runs(tmp_path), metric="held-out accuracy", baseline=None, defaults=None)
    assert [setting.values for setting in by_accuracy.ranked()] == [(1e-4,), (1e-3,), (1e-5,)]
    page = report(tmp_path).read_text(encoding="utf-8")
    assert re.search(r"best run, held-out loss.{0,200}2\.50", page, re.DOTALL)
    assert re.search(r"best setting, held-out loss.{0,200}2\.50", page, re.DOTALL)
