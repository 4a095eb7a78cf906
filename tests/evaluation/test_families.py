"""Tasks of a family of one's own: its metric and its average stand wherever scores do, and STS keeps its statistics."""

import csv
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simcse_lit.errors import UserError
from simcse_lit.evaluation.suite import check_tables, load_suite, make_task
from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import STS, TRANSFER, Family
from simcse_lit.report import report
from tests.cli.test_evaluate import raw_model, run
from tests.conftest import Cli, train_config
from tests.run_folders import make_run

MODULE = '''
from simcse_lit.evaluation.task import Result
from simcse_lit.families import Family

class Nearest:
    """The share of sentences whose nearest other one begins with the same letter."""

    family = Family("nearest", "precision at 1 in %", average="Mean nearest")
    in_average = True

    def __init__(self, files, name, *, sentences):
        self.name, self._sentences = name, sentences

    def sentences(self):
        return self._sentences

    def score(self, embed):
        vectors = embed(self._sentences)
        cosines = (vectors @ vectors.T).fill_diagonal_(float("-inf"))
        right = [self._sentences[row][0] == self._sentences[other][0] for row, other in enumerate(cosines.argmax(1))]
        return Result(100 * sum(right) / len(right), {"n": len(right), "f1": 1.0, "score": "of the task", "family": 3})
'''
FAMILY = Family("nearest", "precision at 1 in %", average="Mean nearest")


@dataclass(frozen=True)
class Told:
    """A task with a score that is given, which reads no file."""

    files: Any
    name: str
    value: float
    family: Family = FAMILY
    in_average: bool = True

    def sentences(self) -> list[str]:
        return ["one", "two"]

    def score(self, embed: Embed) -> Result:
        return Result(self.value, {"n": 2})


def own_sts(files: Any, name: str, *, value: float) -> Told:
    """A task of the family STS without pairs to resample."""
    return Told(files, name, value, STS)


def added(**values: float) -> list[str]:
    return [f"+tasks.{name}={{_target_: {__name__}.Told, value: {value}}}" for name, value in values.items()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_model(tmp_path_factory.mktemp("model") / "raw", 0)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "simcse_lit")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def test_evaluate_shows_and_records_the_family_with_its_average(
    model: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    content = run(tmp_path, f"checkpoint={model}", "bootstrap.samples=50", *added(second=30, first=10))
    assert content["families"]["nearest"]["metric"] == "precision at 1 in %"
    assert content["families"]["sts"]["metric"] == "Spearman x 100"
    (encoder,) = content["encoders"]
    assert encoder["tasks"]["first"] == {"family": "nearest", "score": 10.0, "interval": None, "n": 2, "subsets": {}}
    assert encoder["averages"] == {"Mean nearest": {"score": 20.0, "interval": None}}
    table = "nearest: precision at 1 in %\n      first  second Mean nearest\nraw   10.00   30.00        20.00"
    assert table in said()
    assert said().count("bootstrap interval") == 1
    assert (tmp_path / "table.md").read_text().startswith("| Model | Pairs | first | second | Mean nearest |\n")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {(row["task"], row["value"]) for row in rows if row["metric"] == "score"} >= {("Mean nearest", "20.0")}


def test_pairs_are_compared_and_the_tasks_that_are_not_are_named(
    model: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    other = raw_model(tmp_path / "other", 1)
    compare = ("checkpoint=null", f"compare=[{model},{other}]", "bootstrap.samples=50")
    content = run(tmp_path / "both", *compare, *added(first=10))
    assert list(content["comparison"]["by_task"]) == ["Pairs"]
    assert "Not compared (the bootstrap needs the pairs of an STS task): first" in said()
    content = run(tmp_path / "none", *compare, "tasks=[]", *added(first=10, second=30))
    assert content["comparison"]["by_task"] == {}
    assert said().endswith("table.tex") and said().count("paired bootstrap") == 1


def test_an_average_of_sts_with_a_task_that_has_no_pairs_has_no_interval(model: Path, tmp_path: Path) -> None:
    own = f"+tasks.own={{_target_: {__name__}.own_sts, value: 50}}"
    (encoder,) = run(tmp_path, f"checkpoint={model}", "bootstrap.samples=50", own)["encoders"]
    assert encoder["tasks"]["Pairs"]["interval"] is not None
    assert encoder["averages"]["Avg."]["interval"] is None


def test_training_scores_a_family_of_ones_own_and_the_report_and_card_name_it(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "conf" / "tasks").mkdir(parents=True)
    for name, words in (("animals", "[a cat, a dog, bark, cow]"), ("weather", "[snow, sun, rain]")):
        text = f"{name}:\n  _target_: mine.Nearest\n  sentences: {words}\n"
        (tmp_path / "conf" / "tasks" / f"{name}.yaml").write_text(text)
    done = warm_cli(
        "--config-dir=conf", "tasks=[STS12,animals,weather]", "model=tiny", "data=samples", "trainer=cpu",
        "trainer.max_steps=2", "data.batch_size=16", "senteval.from_hub=false", "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "STS: Spearman x 100 on bundled pairs\n" in done.stdout  # in the place of STS12, whose files are not here
    assert "nearest: precision at 1 in %\n" in done.stdout and "animals weather Mean nearest" in done.stdout
    after = json.loads((tmp_path / "run" / "scores.json").read_text())["after"]["test"]
    assert after["Mean nearest"] == pytest.approx((after["animals"] + after["weather"]) / 2)
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "nearest: precision at 1 in %.\n\n|  | animals | weather | Mean nearest |" in card
    (tmp_path / "mine.py").unlink()  # its package need not be there
    reported = warm_cli("run", command="report")
    assert reported.returncode == 0, reported.stderr
    text = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "nearest (animals, weather, Mean nearest): precision at 1 in %" in text
    assert "STS (Pairs): Spearman × 100" in text and "transfer" not in text.lower()


def test_the_report_of_old_runs_knows_the_metrics_of_the_paper(tmp_path: Path) -> None:
    after = {"STS-B-dev": 80.0, "STS12": 70.0, "Avg.": 71.0, "MR": 75.0, "own": 3.0}
    make_run(tmp_path / "0", [], {}, after=after)
    text = (report(tmp_path).parent / "report.md").read_text()
    assert (
        "STS: Spearman × 100. Transfer: accuracy in %. other (own): score. STS-B-dev: Spearman × 100, the development set"
        in text
    )


def test_tasks_that_can_be_made_are_scored_though_sentevals_files_are_nowhere() -> None:
    suite = load_suite(train_config("senteval.from_hub=false", "tasks=[STS12,MR,samples]", *added(own=1)))
    assert [task.name for task in suite.test] == ["Pairs", "own"]


class Partial:
    """It has no `score`."""

    family, in_average, sentences = STS, True, ()

    def __init__(self, files: Any, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class Old(Told):
    """As tasks were before families had a class."""

    family: str = "retrieval"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"_target_": f"{__name__}.Partial"}, r"tasks\.mine: Partial is not a task: it has no score"),
        (
            {"_target_": f"{__name__}.Old", "value": 1.0},
            r"(?s)tasks\.mine: Old\.family is 'retrieval'. It must be .*Family",
        ),
    ],
)
def test_what_is_no_task_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task("mine", entry, None)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("a", FAMILY), r"tasks\.a: two tasks have this name"),
        (("b", Family("nearest", "recall")), r"tasks\.b: its family nearest \(recall\) differs .* \(precision at 1 in %\)"),
        (("b", Family("own", "recall", average="Mean nearest")), r"nearest and own both call their average Mean nearest"),
        (("Mean nearest", FAMILY), r"tasks\.Mean nearest: this is the name of an average"),
    ],
)
def test_tasks_that_tables_cannot_tell_apart_are_refused(second: tuple[str, Family], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tables([Told(None, "a", 1.0), Told(None, second[0], 1.0, second[1])])
    check_tables([Told(None, "a", 1.0), Told(None, "b", 1.0, TRANSFER), Told(None, "c", 1.0, Family("x", "recall"))])
