"""The STS protocol: loaders of every layout, correlations and their aggregation, and where the sets come from."""

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from simcse_lit.config.schema import SentEvalConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation import senteval
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import NoSentEval, SentEval
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import averages, load_suite, make_task, unique_sentences
from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import STS
from tests.conftest import evaluate_config, train_config

# Pairs of each set as SentEval's own loader counts them (STS13 without SMT).
SIZES = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186, "STS-B": 1379, "SICK-R": 4927}


def files(folder: Path | None) -> SentEval:
    return SentEval(SentEvalConfig(str(folder) if folder else None, from_hub=False, cache_dir="unused"))


def sets(folder: Path, *options: str) -> list[STSTask]:
    """The tasks that `tasks=[OPTIONS]` loads from a folder of SentEval's."""
    entries = evaluate_config(f"tasks=[{','.join(options)}]").tasks
    return [make_task(name, entry, files(folder)) for name, entry in entries.items()]  # type: ignore[misc]


def test_score_is_spearman_of_cosines_over_all_pairs_together() -> None:
    vectors = {"a": [1.0, 0.0], "b": [2.0, 1.0], "c": [0.0, 3.0], "d": [-1.0, 0.1]}
    task = STSTask("toy", [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c")], np.array([4.0, 1.0, 2.0, 4.5]))
    # Cosines 0.894, 0, -0.995, 0.447 rank 4, 2, 1, 3; gold ranks 3, 1, 2, 4: rho = 1 - 6 * (1 + 1 + 1 + 1) / (4 * 15).
    result = task.score(lambda sentences: torch.tensor([vectors[s] for s in sentences]))
    assert result.score == pytest.approx(60.0)
    assert result.metrics["spearman"] == result.score
    assert result.metrics["n"] == 4
    assert result.subsets == {}


def test_subsets_are_averaged_plainly_and_by_their_size() -> None:
    generator = np.random.default_rng(0)
    vectors = torch.from_numpy(generator.normal(size=(20, 3))).float()
    names = [str(place) for place in range(20)]
    gold = generator.uniform(0, 5, size=10)
    task = STSTask("toy", list(zip(names[:10], names[10:], strict=True)), gold, {"x": slice(0, 3), "y": slice(3, 10)})
    result = task.score(lambda sentences: vectors[[int(s) for s in sentences]])
    cosine = torch.cosine_similarity(vectors[:10].double(), vectors[10:].double()).numpy()
    for kind, correlation in (("spearman", spearmanr), ("pearson", pearsonr)):
        first, second = (100 * correlation(cosine[part], gold[part]).statistic for part in (slice(0, 3), slice(3, 10)))
        assert result.subsets["x"][kind] == pytest.approx(first)
        assert result.subsets["y"][kind] == pytest.approx(second)
        assert result.metrics[kind] == pytest.approx(100 * correlation(cosine, gold).statistic)
        assert result.metrics[f"{kind}_mean"] == pytest.approx((first + second) / 2)
        assert result.metrics[f"{kind}_weighted_mean"] == pytest.approx((3 * first + 7 * second) / 10)


def test_a_vector_that_is_no_number_names_its_sentence() -> None:
    embeddings = Embeddings(["fine", "broken"])
    embeddings.add(torch.tensor([1, 0]), torch.tensor([[float("nan"), 1.0], [1.0, 2.0]]))
    assert embeddings(["fine"]).tolist() == [[1.0, 2.0]]
    with pytest.raises(UserError, match="'broken'"):
        embeddings(["fine", "broken"])


def test_a_sentence_that_was_never_encoded_is_named_and_not_called_divergence() -> None:
    embeddings = Embeddings(["there", "forgotten"])
    embeddings.add(torch.tensor([0]), torch.ones(1, 2))
    with pytest.raises(UserError, match="1 of 2 sentences to score were not encoded, the first: 'forgotten'"):
        embeddings.share(torch.device("cpu"))


def test_sets_are_read_from_sentevals_layout_in_full(simcse_data: Path) -> None:
    tests = sets(simcse_data, "sts")
    assert {task.name: len(task.pairs) for task in tests} == SIZES
    assert all(len(task.pairs) == len(task.gold) for task in tests)
    for task in tests[:5]:
        assert sum(places.stop - places.start for places in task.subsets.values()) == len(task.pairs)
    (dev,) = sets(simcse_data, "STS-B-dev")
    assert len(dev.pairs) == 1500
    assert " ".join(dev.pairs[0]).lower().startswith("a man with a hard hat is dancing")
    assert not dev.in_average
    (again,) = sets(simcse_data / "SentEval", "STS-B-dev")
    assert again.pairs == dev.pairs
    (full,) = sets(simcse_data, "STS-B-full")
    assert len(full.pairs) == 5749 + 1500 + 1379


def test_missing_folder_and_missing_set_say_where_they_were_looked_for_and_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"senteval\.dir.*nowhere"):
        sets(tmp_path / "nowhere", "STS12")
    (tmp_path / "STS").mkdir()
    with pytest.raises(UserError, match=r"STS\.input\.MSRpar\.txt(.|\n)*SIMCSE_DATA"):
        sets(tmp_path, "STS12")
    with pytest.raises(NoSentEval, match=r"senteval\.from_hub=true"):
        _ = files(None).root


def test_an_archive_that_another_process_unpacked_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = from_hub(tmp_path, monkeypatch)
    make: Callable[..., str] = tempfile.mkdtemp
    others: list[str] = []

    def slowly(**options: Any) -> str:
        folder = make(**options)
        if not others:
            others.append(folder)
            others.append(str(SentEval(config).root))
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", slowly)
    root = SentEval(config).root
    assert str(root) == others[1] and (root / "STS" / "file").read_text() == "text"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["senteval-0123456789ab"]


def test_an_archive_that_cannot_be_unpacked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = from_hub(tmp_path, monkeypatch)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "senteval-0123456789ab").touch()
    with pytest.raises(UserError, match=r"senteval\.cache_dir=.*cannot be unpacked there"):
        _ = SentEval(config).root
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["senteval-0123456789ab"]


def from_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SentEvalConfig:
    """A configuration by which an archive of one file is fetched and unpacked."""
    archive = folder / "0123456789abcdef" / "senteval.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("STS/file")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    monkeypatch.setattr(senteval, "download", lambda location, revision, key: [archive])
    return SentEvalConfig(None, from_hub=True, cache_dir=str(folder / "cache"))


def layout(root: Path) -> Path:
    """STS12 with three pairs a subset, one of them without a gold score; STS-B and SICK-R with one pair."""
    folder = root / "STS" / "STS12-en-test"
    folder.mkdir(parents=True)
    for subset in evaluate_config("tasks=STS12").tasks["STS12"]["subsets"]:
        (folder / f"STS.input.{subset}.txt").write_text('one  "x\tone\tsource\ntwo\ttwo\n\tempty\n')
        (folder / f"STS.gs.{subset}.txt").write_text("5\n\n0.5\n")
    benchmark = root / "STS" / "STSBenchmark"
    benchmark.mkdir()
    (benchmark / "sts-dev.csv").write_text('g\tf\ty\t1\t4.5\tan "open quote\tb\n')
    (root / "SICK").mkdir()
    (root / "SICK" / "SICK_test_annotated.txt").write_text(
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tx\n1\ta\tb\t3.3\tNEUTRAL\n"
    )
    return root


def test_pairs_without_gold_score_are_left_out_and_a_short_set_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    year, dev, sick = sets(layout(tmp_path), "STS12", "STS-B-dev", "SICK-R")
    assert year.pairs[:2] == [('one "x', "one"), (".", "empty")]
    assert year.gold[:2].tolist() == [5.0, 0.5]
    assert year.subsets["MSRvid"] == slice(2, 4)
    assert dev.pairs == [('an "open quote', "b")]
    assert sick.gold.tolist() == [3.3]
    assert "STS12 has 10 pairs here, 3,108 in the paper's protocol" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "option", "message"),
    [
        ("SICK/SICK_test_annotated.txt", b"h\n1\ta\tb\thigh\tx\n", "SICK-R", "line 2: 'high' is not a gold score"),
        ("SICK/SICK_test_annotated.txt", b"h\n1\tcaf\xe9\tb\t3\tx\n", "SICK-R", r"annotated\.txt: not UTF-8"),
        ("SICK/SICK_test_annotated.txt", b"h\n1\ta\tb\n", "SICK-R", "line 2: 3 fields, expected 4"),
        ("SICK/SICK_test_annotated.txt", b"h\n", "SICK-R", "SICK-R: the files hold no pair"),
        ("STS/STS12-en-test/STS.gs.MSRpar.txt", b"5\n", "STS12", "MSRpar has 3 pairs and 1 gold"),
        ("STS/STS12-en-test/STS.input.MSRpar.txt", b"a\nb\tc\nd\te\n", "STS12", "line 1: no second sentence"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, file: str, content: bytes, option: str, message: str) -> None:
    (layout(tmp_path) / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        sets(tmp_path, option)


OWN = "simcse_lit.evaluation.sts.file"


def test_a_set_of_ones_own_is_a_file_with_two_sentences_and_a_score(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": "one  sentence", "b": "another", "gold": 0.5}\n{"a": "x", "b": "y", "gold": 1}\n')
    entry = {"_target_": OWN, "path": str(path), "columns": ["a", "b", "gold"]}
    task = make_task("Own", entry, None)
    assert isinstance(task, STSTask)
    assert (task.name, task.pairs, task.gold.tolist()) == ("Own", [("one sentence", "another"), ("x", "y")], [0.5, 1.0])
    with pytest.raises(UserError, match=r"tasks\.Own\.columns: .*no column score. Its columns: a, b, gold"):
        make_task("Own", {**entry, "columns": ["a", "b", "score"]}, None)
    with pytest.raises(UserError, match=r"tasks\.Own\.path: .*no such file"):
        make_task("Own", {**entry, "path": "nowhere.csv"}, None)
    with pytest.raises(UserError, match=r"(?s)tasks\.Own\.colums: file takes no such argument.*Did you mean columns"):
        make_task("Own", {**entry, "colums": []}, None)
    path.write_text('{"a": "x", "b": "y", "gold": 1}\n{"a": "x", "b": null, "gold": 1}\n')
    with pytest.raises(UserError, match="line 2: b is missing"):
        make_task("Own", entry, None)
    path.write_text('{"a": "\\ud83d", "b": "y", "gold": 1}\n')
    with pytest.raises(UserError, match="line 1: a holds half of a surrogate pair"):
        make_task("Own", entry, None)
    with pytest.raises(UserError, match=r"tasks\.Own\.columns=\[a,b\]: must name the columns"):
        make_task("Own", {**entry, "columns": ["a", "b"]}, None)
    (tmp_path / "own.txt").write_text("x\ty\t1\n")
    with pytest.raises(UserError, match=r"tasks\.Own\.path: .*own\.txt: a \.txt file has no columns"):
        make_task("Own", {**entry, "path": str(tmp_path / "own.txt")}, None)


def test_without_sentevals_files_training_takes_the_bundled_pairs_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    suite = load_suite(train_config("senteval.from_hub=false", "senteval.dir=null"))
    assert "not on the paper's STS sets" in caplog.text
    (test,) = suite.test
    assert suite.dev is not None
    assert not set(unique_sentences([suite.dev])) & set(unique_sentences([test]))
    assert len(unique_sentences([suite.dev, test])) >= 600


def test_a_development_set_of_ones_own_is_kept_where_sentevals_files_are_nowhere(tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("a\tb\tgold\nx\ty\t1\nx\tz\t2\n")
    entry = f"{{_target_: {OWN}, path: {tmp_path / 'own.tsv'}, columns: [a, b, gold]}}"
    suite = load_suite(train_config("senteval.from_hub=false", "senteval.dir=null", "~dev.STS-B-dev", f"+dev.own={entry}"))
    assert suite.dev is not None and suite.dev.name == "own"
    assert [task.name for task in suite.test] == ["Pairs"]
    with pytest.raises(UserError, match="tasks@dev=two: the best checkpoint is chosen by Spearman on pairs"):
        entry = "{_target_: tests.evaluation.test_sts.NotPairs}"
        load_suite(train_config("senteval.dir=null", "evaluation.test=false", "~dev.STS-B-dev", f"+dev.two={entry}"))


class NotPairs:
    """A task that is none of sentence pairs."""

    family, in_average = STS, True

    def __init__(self, files: SentEval, name: str) -> None:
        self.name = name

    def sentences(self) -> list[str]:
        return []

    def score(self, embed: Embed) -> Result:
        return Result(0.0, {})


def test_training_can_be_tested_on_other_tasks_and_choose_on_another_set(simcse_data: Path) -> None:
    suite = load_suite(train_config(f"senteval.dir={simcse_data}", "tasks=[STS-B,SICK-R]", "tasks@dev=STS16"))
    assert suite.dev is not None and suite.dev.name == "STS16"
    assert [task.name for task in suite.test] == ["STS-B", "SICK-R"]


def test_an_average_needs_all_tasks_of_its_family() -> None:
    pairs, gold = [("a", "b")], np.array([1.0])
    tasks = [STSTask("x", pairs, gold), STSTask("y", pairs, gold), STSTask("dev", pairs, gold, in_average=False)]
    assert averages(tasks, {"x": 60.0, "y": 70.0, "dev": 0.0}) == {"Avg.": 65.0}
    assert averages(tasks, {"x": 60.0, "dev": 0.0}) == {}
    assert averages(tasks[:1], {"x": 60.0}) == {}
