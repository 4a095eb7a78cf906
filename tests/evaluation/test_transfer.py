"""The transfer tasks: loaders of every layout, and the three protocols against plain loops over scikit-learn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from simcse_lit.config.schema import SentEvalConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.suite import make_task
from simcse_lit.evaluation.transfer import Classifier, Example, TransferTask, features, one_file_a_class, questions, table
from simcse_lit.families import TRANSFER
from tests.conftest import evaluate_config

# Examples of each set as SentEval's own loader counts them.
SIZES = {
    "MR": [10662],
    "CR": [3775],
    "SUBJ": [10000],
    "MPQA": [10606],
    "SST2": [67349, 872, 1821],
    "TREC": [5452, 500],
    "MRPC": [4076, 1725],
}
L2 = [1e-1, 1e-2, 1e-3]
WEAKEST_FIRST = [1e-3, 1e-2, 1e-1]
CLASSIFIER = Classifier(l2=L2, folds=3, seed=1111, held_out=0.1, tol=1e-7, max_iter=10_000)
EASY = Classifier(l2=[1e-3], folds=2, seed=0, held_out=0.0, tol=1e-4, max_iter=1000)


def files(folder: Path) -> SentEval:
    return SentEval(SentEvalConfig(str(folder), from_hub=False, cache_dir="unused"))


def write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def noisy(sizes: Sequence[int], signal: float = 0.6, classes: int = 2) -> tuple[list[list[Example]], Callable[..., Tensor]]:
    """Sets of numbered sentences, and vectors in which the class shows through noise."""
    generator = np.random.default_rng(0)
    labels = np.arange(sum(sizes)) % classes
    vectors = generator.normal(size=(len(labels), 8)) + signal * generator.normal(size=(classes, 8))[labels] + 1
    examples: list[Example] = [((str(place),), int(label)) for place, label in enumerate(labels)]
    ends = np.cumsum(sizes).tolist()
    sets = [examples[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    tensor = torch.from_numpy(vectors).float()
    return sets, lambda sentences: tensor[[int(sentence) for sentence in sentences]]


def arrays(examples: list[Example], embed: Callable[..., Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return embed([texts[0] for texts, _ in examples]).double().numpy(), np.array([label for _, label in examples])


def fit(x: np.ndarray, y: np.ndarray, l2: float) -> LogisticRegression:
    return LogisticRegression(C=1 / (l2 * len(y)), tol=1e-9, max_iter=100_000).fit(x, y)


def folds(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedKFold(3, shuffle=True, random_state=1111).split(y[:, None], y))


def first_best(accuracies: list[float]) -> tuple[float, float]:
    """SentEval: scores.append(round(100*np.mean(regscores), 2)) for reg in regs, weakest first; regs[np.argmax(scores)]."""
    scores = [round(100 * accuracy, 2) for accuracy in accuracies]
    place = scores.index(max(scores))
    return WEAKEST_FIRST[place], accuracies[place]


def chosen_by_folds(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The penalty of the best mean accuracy over the folds, and that accuracy."""
    return first_best([float(np.mean([fit(x[a], y[a], l2).score(x[b], y[b]) for a, b in folds(y)])) for l2 in WEAKEST_FIRST])


def without_held_out(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SentEval: permutation = np.random.permutation(len(X)) after np.random.seed(seed), train on [int(split * len(X)):]."""
    np.random.seed(1111)
    permutation = np.random.permutation(len(x))
    return x[permutation[int(0.1 * len(x)) :]], y[permutation[int(0.1 * len(x)) :]]


@pytest.mark.parametrize("classes", [2, 3])
def test_train_alone_is_nested_cross_validation(classes: int) -> None:
    (examples,), embed = noisy([150], classes=classes)
    result = TransferTask("toy", {"train": examples}, CLASSIFIER).score(embed)
    x, y = arrays(examples, embed)
    penalties, dev, test = [], [], []
    for train, held in folds(y):
        l2, accuracy = chosen_by_folds(x[train], y[train])
        penalties.append(l2)
        dev.append(accuracy)
        test.append(fit(*without_held_out(x[train], y[train]), l2).score(x[held], y[held]))
    assert len(set(penalties)) > 1  # or a choice that ignores the folds would pass
    assert result.score == result.metrics["accuracy"] == pytest.approx(100 * np.mean(test))
    assert result.metrics["dev_accuracy"] == pytest.approx(100 * np.mean(dev))
    assert result.metrics["l2"] == penalties
    assert result.metrics["n"] == 150


def test_train_and_test_choose_the_penalty_by_cross_validation_on_train() -> None:
    (train, test), embed = noisy([120, 80])
    result = TransferTask("toy", {"train": train, "test": test}, CLASSIFIER).score(embed)
    x, y = arrays(train, embed)
    l2, dev = chosen_by_folds(x, y)
    assert result.score == pytest.approx(100 * fit(*without_held_out(x, y), l2).score(*arrays(test, embed)))
    assert result.metrics == {
        "accuracy": result.score,
        "dev_accuracy": pytest.approx(100 * dev),
        "l2": l2,
        "n": 80,
    }


def test_a_dev_set_chooses_the_penalty_and_all_of_train_is_trained_on() -> None:
    (train, dev, test), embed = noisy([100, 90, 80])
    classifier = replace(CLASSIFIER, held_out=0.5)
    result = TransferTask("toy", {"train": train, "dev": dev, "test": test}, classifier).score(embed)
    l2, best = first_best([fit(*arrays(train, embed), l2).score(*arrays(dev, embed)) for l2 in WEAKEST_FIRST])
    assert result.score == pytest.approx(100 * fit(*arrays(train, embed), l2).score(*arrays(test, embed)))
    assert result.metrics["dev_accuracy"] == pytest.approx(100 * best)
    assert result.metrics["l2"] == l2
    assert result.metrics["n"] == 80


@pytest.mark.parametrize("sizes", [[60], [60, 30], [60, 30, 30]])
def test_of_equally_good_penalties_the_weakest_is_chosen(sizes: list[int]) -> None:
    parts, embed = noisy(sizes, signal=20.0)
    sets = dict(zip(("train", "dev", "test") if len(sizes) == 3 else ("train", "test"), parts, strict=False))
    result = TransferTask("toy", sets, CLASSIFIER).score(embed)
    assert (result.metrics["dev_accuracy"], result.metrics["l2"]) == (100, [1e-3] * 3 if len(sizes) == 1 else 1e-3)


def test_accuracies_that_differ_in_the_third_decimal_are_equal() -> None:
    assert CLASSIFIER.choose(np.array([0.80004, 0.80001, 0.79])) == 1
    assert CLASSIFIER.choose(np.array([0.80006, 0.80004, 0.79])) == 0


def test_random_labels_give_chance_and_the_same_score_twice() -> None:
    (examples,), embed = noisy([1000], signal=0.0)
    task = TransferTask("toy", {"train": examples}, CLASSIFIER)
    first = task.score(embed)
    assert first.score == pytest.approx(50, abs=5)  # three standard errors
    assert task.score(embed) == first


def test_a_vector_far_from_the_origin_changes_nothing() -> None:
    (examples,), embed = noisy([150])
    task = TransferTask("toy", {"train": examples}, CLASSIFIER)
    assert task.score(lambda sentences: embed(sentences) + 100).score == pytest.approx(task.score(embed).score, abs=0.7)


def test_features_of_a_pair_are_its_absolute_difference_and_its_product_in_either_order() -> None:
    vectors = {"a": [1.0, -2.0], "b": [3.0, 0.5]}

    def embed(sentences: Sequence[str]) -> Tensor:
        return torch.tensor([vectors[sentence] for sentence in sentences])

    expected = [2.0, 2.5, 3.0, -1.0]
    assert features([("a", "b"), ("b", "a")], embed).tolist() == [expected, expected]
    assert features([("a",), ("b",)], embed).tolist() == [vectors["a"], vectors["b"]]


def test_f1_of_pairs_counts_the_second_class() -> None:
    vectors = {"x": [1.0, 0.0], "y": [0.0, 1.0]}
    same, different = ("x", "x"), ("x", "y")
    train: list[Example] = [*([(same, 1)] * 10), *([(different, 0)] * 10)]
    # Called a paraphrase: 3 rightly, 1 wrongly; missed: 2; rightly refused: 4. F1 = 2 * 3 / (2 * 3 + 1 + 2).
    test: list[Example] = [*([(same, 1)] * 3), (same, 0), *([(different, 1)] * 2), *([(different, 0)] * 4)]
    task = TransferTask("toy", {"train": train, "test": test}, EASY)
    result = task.score(lambda sentences: torch.tensor([vectors[sentence] for sentence in sentences]))
    assert result.score == pytest.approx(70)
    assert result.metrics["f1"] == pytest.approx(100 * 6 / 9)
    assert list(task.sentences())[18:22] == ["x", "x", "x", "y"]


def test_one_file_a_class_is_latin_1_and_sorted_by_words_and_class(tmp_path: Path) -> None:
    write(tmp_path, "MR/neg", "dull  and\tlong\r\n\nbad\n".encode("latin-1"))
    write(tmp_path, "MR/pos", "fine\ncaf\xe9 scenes\n".encode("latin-1"))
    task = one_file_a_class(
        files(tmp_path),
        "MR",
        classes=["MR/neg", "MR/pos"],
        encoding="latin-1",
        examples={"train": 5},
        classifier=EASY,
    )
    expected = [((".",), 0), (("bad",), 0), (("fine",), 1), (("café scenes",), 1), (("dull and long",), 0)]
    assert task.sets == {"train": expected}
    assert (task.name, task.family, task.in_average) == ("MR", TRANSFER, True)


def make_table(folder: Path, **changed: Any) -> TransferTask:
    """MRPC's layout, with two training pairs of each class and one test pair."""
    conf: dict[str, Any] = {
        "sets": {"train": "MRPC/train.txt", "test": "MRPC/test.txt"},
        "sentences": [3, 4],
        "label": 0,
        "labels": ["0", "1"],
        "header": True,
        "encoding": "utf-8",
        "examples": {"train": 4, "test": 1},
        "classifier": EASY,
    }
    return table(files(folder), "MRPC", **{**conf, **changed})


def write_table(folder: Path) -> str:
    """The files of `make_table`, and the training rows."""
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = '1\t7\t8\tHe said "yes\tHe  agreed .\n0\t7\t8\ta\tb\n1\t7\t8\tc d\tc\n0\t7\t8\tc\te f\n'
    write(folder, "MRPC/train.txt", header + rows)
    write(folder, "MRPC/test.txt", header + "1\t7\t8\tü\tv\n")
    return header + rows


def test_table_skips_header_with_byte_order_mark_and_keeps_quotes(tmp_path: Path) -> None:
    write_table(tmp_path)
    task = make_table(tmp_path)
    assert task.sets["train"][0] == (("a", "b"), 0)
    assert task.sets["train"][-1] == (('He said "yes', "He agreed ."), 1)
    assert task.sets["test"] == [(("ü", "v"), 1)]


def make_questions(folder: Path) -> TransferTask:
    return questions(
        files(folder),
        "TREC",
        sets={"train": "TREC/train.label", "test": "TREC/test.label"},
        labels=["ENTY", "NUM"],
        encoding="latin-1",
        examples={"train": 4, "test": 1},
        classifier=EASY,
    )


def test_questions_have_the_label_before_the_colon_and_are_latin_1(tmp_path: Path) -> None:
    write(tmp_path, "TREC/train.label", "NUM:dist How far : Aspen ?\nENTY:a b\nENTY:a b\nNUM:b a\n")
    write(tmp_path, "TREC/test.label", b"ENTY:sport What is pel\xf4ta ?\n")
    task = make_questions(tmp_path)
    assert task.sets["train"][-1] == (("How far : Aspen ?",), 1)
    assert task.sets["test"] == [(("What is pelôta ?",), 0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\t7\t8\tonly one", r"train\.txt, line 6: 4 fields, expected 5, separated by tabs\.\nFix the row"),
        ("yes\t7\t8\ta\tb", r"train\.txt, line 6: 'yes' is not a label, expected one of 0, 1\.\nFix the row"),
    ],
)
def test_a_malformed_row_names_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path, "MRPC/train.txt", write_table(tmp_path) + row + "\n")
    with pytest.raises(UserError, match=message):
        make_table(tmp_path)


@pytest.mark.parametrize("row", ["NUM dist How far ?", "NUM:dist", "", "NUM: "])
def test_a_malformed_question_names_file_and_line(tmp_path: Path, row: str) -> None:
    write(tmp_path, "TREC/train.label", f"NUM:dist How far ?\n{row}\n")
    with pytest.raises(UserError, match=r"train\.label, line 2: expected LABEL:finer, a space, and a question\.\nFix"):
        make_questions(tmp_path)


def test_missing_file_other_encoding_and_too_few_examples_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path)
    with pytest.raises(UserError, match=r"needs 3 training examples of each class .* but class .* has 2\."):
        make_table(tmp_path, classifier=CLASSIFIER)
    with pytest.raises(UserError, match=r"MRPC: `sets` names test, train, and `examples` names train, test\."):
        make_table(tmp_path, sets={"test": "MRPC/test.txt", "train": "MRPC/train.txt"})
    write(tmp_path, "MRPC/test.txt", b"header\n1\t7\t8\t\xe9\tv\n")
    with pytest.raises(UserError, match=r"test\.txt: not UTF-8"):
        make_table(tmp_path)
    (tmp_path / "MRPC" / "test.txt").unlink()
    with pytest.raises(UserError, match=r"test\.txt: there is no such file"):
        make_table(tmp_path)


def test_another_number_of_examples_than_the_protocols_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_table(tmp_path)
    make_table(tmp_path)
    assert not caplog.text
    make_table(tmp_path, examples={"train": 4076, "test": 1})
    assert "MRPC has 4 examples in train here, 4,076 in the paper's protocol" in caplog.text
    assert "not comparable" in caplog.text


def test_an_impossible_classifier_is_refused_by_its_task(tmp_path: Path) -> None:
    entry = evaluate_config("tasks=MR", "tasks.MR.classifier.folds=1").tasks["MR"]
    with pytest.raises(UserError, match=r"tasks\.MR: .*2 folds or more"):
        make_task("MR", entry, files(tmp_path))


def test_the_seven_tasks_of_table_e1_load_in_full(simcse_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = evaluate_config("tasks=transfer").tasks
    tasks = {name: make_task(name, entry, files(simcse_data)) for name, entry in entries.items()}
    assert list(tasks) == list(SIZES)
    assert not caplog.text
    for name, task in tasks.items():
        assert isinstance(task, TransferTask)
        assert [len(examples) for examples in task.sets.values()] == SIZES[name]
    trec, mrpc, mr = tasks["TREC"], tasks["MRPC"], tasks["MR"]
    assert isinstance(trec, TransferTask) and isinstance(mrpc, TransferTask) and isinstance(mr, TransferTask)
    assert (("How far is it from Denver to Aspen ?",), 5) in trec.sets["test"]
    assert sum(label for _, label in mrpc.sets["test"]) == 1147  # of 1725, as the corpus's own description says
    assert sum(label for _, label in mr.sets["train"]) == 5331
