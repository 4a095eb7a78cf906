"""What `train` says of the text that it reads: in the terminal, in the run folder and in the report; and what it refuses."""

import json
import re
from pathlib import Path

import pytest

from simcse_lit.errors import UserError
from simcse_lit.text.sources import open_sources
from tests.conftest import Cli

RUN = (
    *(
        "data=file",
        "model=tiny",
        "trainer=cpu",
        "senteval.from_hub=false",
        "evaluation.before=false",
        "evaluation.test=false",
    ),
    *("tasks=[]", "trainer.max_steps=2", "analyses=[]", "data.cache_dir=cache"),
)
WORDS = ["the", "water", "of", "a", "river", "is", "cold", "and", "deep", "and", "the", "sea", "is", "wide"]


def lines(count: int) -> list[str]:
    return [f"{number} {' '.join(WORDS[number % 5 : number % 5 + 6])}" for number in range(count)]


def test_what_was_read_is_said_in_the_terminal_the_run_folder_and_the_report(warm_cli: Cli, tmp_path: Path) -> None:
    text = [*lines(28), *lines(4), "", "water " * 60]
    (tmp_path / "a.txt").write_text("\n".join(text) + "\n")
    settings = (*RUN, "data.train_file=a.txt", "data.batch_size=10", "data.max_length=32", "data.on_bad_row=skip")
    for run in ("run", "again"):  # the second finds the corpus in the cache
        done = warm_cli(*settings, f"hydra.run.dir=runs/{run}")
        assert done.returncode == 0, done.stderr
        (block,) = re.findall(r"^Data .*(?:\n {9}.*)*", done.stdout, re.MULTILINE)
        assert " ".join(block.split()) == (
            "Data 33 examples, batch 10, length 32 "
            "33 rows of 34, 1 left out; 4 duplicates; 1 cut at 32 tokens; shortest batch 3"
        )
        assert max(map(len, block.splitlines())) <= 80
        environment = json.loads((tmp_path / "runs" / run / "environment.json").read_text())
        assert environment["data"] == {
            **{"rows": 34, "left_out": 1, "unlabelled": 0, "examples": 33, "duplicates": {"texts": 4}, "cut": 1, "blank": 0},
            **{"max_length": 32, "shortest_batch": 3},
        }
    assert "from the cache" in done.stdout
    done = warm_cli("runs", command="report")
    assert done.returncode == 0, done.stderr
    said = "Data: 33 examples; 33 rows of 34, 1 left out; 4 duplicates; 1 cut at 32 tokens; shortest batch 3"
    for file in ("report.html", "report.md"):
        assert said in (tmp_path / "runs" / "report" / file).read_text(), file


def test_of_a_corpus_without_anything_unusual_only_the_examples_are_said(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(lines(20)) + "\n")
    done = warm_cli(*RUN, "data.train_file=a.txt", "data.batch_size=10", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Data     20 examples, batch 10, length 32\nSteps", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("one.txt", "alone\n", (), "has one example"),
        ("same.txt", "the same\n" * 64, (), "all 64 texts are the same text"),
        ("pairs.csv", "sent0,sent1\na,b\nc,d\n", ("loss=sup",), "data.columns=[sent0,sent1]"),
        ("corpus.gz", "text\n", (), "corpus.txt.gz"),
        ("gbk.txt", "这是一个中文句子。\n".encode("gbk"), (), "GB18030 (GBK)"),
        ("a.txt", "one\ntwo\n", ("data.batch_size=1",), "data.batch_size=1"),
    ],
)
def test_what_cannot_be_learnt_from_or_read_is_refused_with_the_way_out(
    warm_cli: Cli, tmp_path: Path, name: str, content: str | bytes, settings: tuple[str, ...], message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    done = warm_cli(*RUN, f"data.train_file={name}", *settings, "hydra.run.dir=run")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "export").exists()


def test_pairs_a_pattern_and_an_ending_in_capitals_train(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        (tmp_path / "data" / f"{part}.CSV").write_text(
            "sent0; sent1\n" + "".join(f"{part} {line};of {line}\n" for line in lines(6))
        )
    given = ("loss=sup", "data.columns=[sent0,sent1]", "data.batch_size=4", "data.train_file=data/*.CSV")
    done = warm_cli(*RUN, *given, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "12 examples, batch 4" in done.stdout and "2 views" in done.stdout
    with pytest.raises(UserError, match=r"is a folder\. Name its files"):
        open_sources(str(tmp_path / "data"), None, key="data.train_file")
