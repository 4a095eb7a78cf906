"""Transfer tasks: accuracy of a linear classifier on frozen sentence vectors. The files of `conf/tasks/` name the loaders.

The sets of a task decide its protocol, as in SentEval:

- train: nested cross-validation;
- train, test: cross-validation on train chooses the penalty;
- train, dev, test: dev chooses the penalty.

The examples decide the features: the vector u of a sentence, or `|u - v|` and `u * v` of a pair.

Shapes: N examples, H hidden, D features (H or 2H), P parts, F folds, R penalties.

Source: SimCSE, appendix E and Table E.1; Conneau and Kiela 2018, SentEval.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import collapsed
from simcse_lit.evaluation.senteval import SentEval, normalised
from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import TRANSFER, Family

log = logging.getLogger(__name__)
PROTOCOLS = (("train",), ("train", "test"), ("train", "dev", "test"))
Example = tuple[tuple[str, ...], int]  # one or two sentences, and the class
Places = np.ndarray  # rows of the features, as integers


class Part(NamedTuple):
    """The rows for one classifier: `train`, (train, dev) pairs that choose its penalty, and `test` for its score."""

    train: Places
    inner: list[tuple[Places, Places]]
    test: Places


@dataclass(frozen=True)
class Classifier:
    """Logistic regression with an l2 penalty, and how the penalty is chosen.

    Args:
        l2: penalties to choose from, strongest first, on the scale of the mean loss: scikit-learn's C is 1 / (l2 N).
        folds: number of folds of each cross-validation, outer and inner.
        seed: shuffles the folds and chooses the examples that are held out.
        held_out: share of the training examples that the last fit leaves out if there is no dev set.
        tol: largest gradient of the mean loss at which a fit stops.
        max_iter: largest number of steps of a fit.
    """

    l2: Sequence[float]
    folds: int
    seed: int
    held_out: float
    tol: float
    max_iter: int

    def __post_init__(self) -> None:
        if self.folds < 2 or not self.l2 or min(self.l2) <= 0 or not 0 <= self.held_out < 1:
            raise ValueError("classifier: needs 2 folds or more, penalties l2 above 0, and held_out from 0 to below 1.")

    def split(self, y_N: np.ndarray) -> list[tuple[Places, Places]]:
        """Split into folds with equal shares of the classes.

        Args:
            y_N: classes, (N,).

        Returns:
            (rows of all other folds, rows of the fold) for each fold.
        """
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        return list(folds.split(np.empty((len(y_N), 0)), y_N))

    def kept(self, train: Places) -> Places:
        """Select the examples of the last fit, as SentEval does. Its classifier stops early by means of the others."""
        shuffled = np.random.RandomState(self.seed).permutation(len(train))
        return train[shuffled[int(self.held_out * len(train)) :]]

    def choose(self, dev_R: np.ndarray) -> int:
        """Choose the penalty with the best accuracy.

        Accuracies are compared in percent with two decimals. Of equal ones the weakest penalty wins, as in SentEval's
        `validation.py`.

        Args:
            dev_R: accuracy of each penalty, (R,).

        Returns:
            The place of the penalty in `l2`.
        """
        percent_R = np.round(100 * dev_R, 2)
        return max(range(len(self.l2)), key=lambda place: (percent_R[place], -self.l2[place]))

    def path(self, x_ND: np.ndarray, y_N: np.ndarray, l2: Sequence[float]) -> Iterator[LogisticRegression]:
        """Yield the fitted classifier of each penalty: the same object each time, fitted from where it stands."""
        model = LogisticRegression(tol=self.tol, max_iter=self.max_iter, warm_start=True)
        for penalty in l2:
            yield model.set_params(C=1 / (penalty * len(y_N))).fit(x_ND, y_N)


@dataclass(frozen=True)
class TransferTask:
    """A classification task.

    Args:
        name: the column in tables.
        sets: examples of train, of train and test, or of train, dev and test.
        classifier: the classifier that is trained on the vectors.
    """

    name: str
    sets: Mapping[str, list[Example]]
    classifier: Classifier
    family: ClassVar[Family] = TRANSFER
    in_average: ClassVar[bool] = True

    def sentences(self) -> Iterator[str]:
        """Yield every sentence of every set. Duplicates may occur."""
        for examples in self.sets.values():
            for texts, _ in examples:
                yield from texts

    def score(self, embed: Embed) -> Result:
        """Compute the accuracy times 100, the mean over the outer folds if there are any.

        For pairs in two classes, the F1 score of the second class is added.

        Args:
            embed: maps N sentences to their vectors, (N, H) float32.

        Raises:
            UserError: all examples have the same features.

        Source: SentEval's `validation.py`. Its classifier is the same regression, trained by Adam and stopped early.
        """
        examples = [example for part in self.sets.values() for example in part]
        features_ND = features([texts for texts, _ in examples], embed)
        if collapsed(features_ND):
            raise UserError(
                f"tasks.{self.name}: no score: the encoder gives all {len(examples):,} examples the same features.\n"
                "For a decoder, use pooler=last_token or avg: its first token sees no other token. Any other encoder has\n"
                "collapsed in training: lower optimizer.lr."
            )
        x_ND = features_ND.numpy()
        x_ND = x_ND - x_ND.mean(0)  # the intercept is free, so classifiers stay the same; fits need fewer steps
        y_N = np.array([label for _, label in examples])
        parts, l2 = self._parts(y_N), self.classifier.l2

        def accuracies(inner: tuple[Places, Places]) -> list[float]:
            train, dev = inner
            return [model.score(x_ND[dev], y_N[dev]) for model in self.classifier.path(x_ND[train], y_N[train], l2)]

        def predict(part: Part, penalty: float) -> np.ndarray:
            train = part.train if "dev" in self.sets else self.classifier.kept(part.train)
            (predicted,) = (m.predict(x_ND[part.test]) for m in self.classifier.path(x_ND[train], y_N[train], [penalty]))
            return np.asarray(predicted)

        # Threads share the features. Each has one core, so that sums do not depend on the number of cores. There are as many
        # threads as torch has: OMP_NUM_THREADS gives each of several processes its part of the cores.
        with threadpool_limits(1), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            dev = list(pool.map(accuracies, (inner for part in parts for inner in part.inner)))
            dev_PR = np.array(dev).reshape(len(parts), -1, len(l2)).mean(1)
            places = [self.classifier.choose(dev_R) for dev_R in dev_PR]
            predicted = list(pool.map(predict, parts, [l2[place] for place in places]))
        truth = [y_N[part.test] for part in parts]
        accuracy = 100 * float(np.mean([(p == t).mean() for p, t in zip(predicted, truth, strict=True)]))
        metrics = {
            "accuracy": accuracy,
            "dev_accuracy": 100 * float(dev_PR[range(len(parts)), places].mean()),
            "l2": [l2[place] for place in places] if len(parts) > 1 else l2[places[0]],
            "n": sum(map(len, truth)),
        }
        if len(examples[0][0]) == 2 and y_N.max() == 1:
            metrics["f1"] = 100 * float(np.mean([f1_score(t, p) for p, t in zip(predicted, truth, strict=True)]))
        return Result(accuracy, metrics)

    def _parts(self, y_N: np.ndarray) -> list[Part]:
        ends = np.cumsum([len(examples) for examples in self.sets.values()])
        place = dict(zip(self.sets, np.split(np.arange(len(y_N)), ends[:-1]), strict=True))
        train, split = place["train"], self.classifier.split
        if "dev" in place:
            return [Part(train, [(train, place["dev"])], place["test"])]
        outer = [(train, place["test"])] if "test" in place else split(y_N)
        return [Part(train, [(train[a], train[b]) for a, b in split(y_N[train])], test) for train, test in outer]


def features(texts: Sequence[tuple[str, ...]], embed: Embed) -> Tensor:
    """Compute the features of the classifier.

    Args:
        texts: N examples of one or two sentences each.
        embed: maps sentences to their vectors.

    Returns:
        The vectors u of single sentences, (N, H), or `|u - v|` and `u * v` of pairs, (N, 2H).

    Source: SentEval's `mrpc.py`.
    """
    u_NH, *other = (embed(column) for column in zip(*texts, strict=True))
    return torch.cat([(u_NH - other[0]).abs(), u_NH * other[0]], dim=1) if other else u_NH


def one_file_a_class(
    files: SentEval, name: str, *, classes: Sequence[str], encoding: str, examples: Mapping[str, int], classifier: Classifier
) -> TransferTask:
    """Load MR, CR, SUBJ or MPQA: one set, with a file for each class and a sentence on each line.

    Args:
        files: SentEval's files.
        name: name of the task.
        classes: the file of each class, below SentEval's root.
        encoding: of the files.
        examples: number of examples of each set in the paper's protocol; another number gives a warning.
        classifier: the classifier that is trained on the vectors.

    Raises:
        UserError: a file is missing or in another encoding, or there are too few examples.
    """
    read: list[Example] = [((line,), label) for label, path in enumerate(classes) for _, line in files.lines(path, encoding)]
    return _task(name, {"train": read}, classes, examples, classifier)


def table(
    files: SentEval,
    name: str,
    *,
    sets: Mapping[str, str],
    sentences: Sequence[int],
    label: int,
    labels: Sequence[str],
    header: bool,
    encoding: str,
    examples: Mapping[str, int],
    classifier: Classifier,
) -> TransferTask:
    """Load SST2 or MRPC: a file for each set, with fields separated by tabs.

    Args:
        files: SentEval's files.
        name: name of the task.
        sets: the file of each set, below SentEval's root.
        sentences: column of the sentence, from 0, or of the two sentences.
        label: column of the label.
        labels: every label, in the order of the classes.
        header: whether the first line names the columns.
        encoding: of the files.
        examples: number of examples of each set in the paper's protocol; another number gives a warning.
        classifier: the classifier that is trained on the vectors.

    Raises:
        UserError: a file is missing or in another encoding, a row is malformed, or there are too few examples.
    """
    needed = max(label, *sentences) + 1

    def parse(line: str) -> tuple[str, ...]:
        fields = line.split("\t")
        if len(fields) < needed:
            raise ValueError(f"{len(fields)} fields, expected {needed}, separated by tabs")
        return fields[label].strip(), *(fields[column] for column in sentences)

    return _task(name, _labelled(files, sets, parse, labels, encoding, header), labels, examples, classifier)


def questions(
    files: SentEval,
    name: str,
    *,
    sets: Mapping[str, str],
    labels: Sequence[str],
    encoding: str,
    examples: Mapping[str, int],
    classifier: Classifier,
) -> TransferTask:
    """Load TREC: a file for each set. A line is `LABEL:finer`, a space, and the question. For the arguments see `table`."""

    def parse(line: str) -> tuple[str, ...]:
        head, _, question = line.partition(" ")
        if ":" not in head or not question.strip():
            raise ValueError("expected LABEL:finer, a space, and a question")
        return head.partition(":")[0], question

    return _task(name, _labelled(files, sets, parse, labels, encoding, header=False), labels, examples, classifier)


def _labelled(
    files: SentEval,
    sets: Mapping[str, str],
    parse: Callable[[str], tuple[str, ...]],
    labels: Sequence[str],
    encoding: str,
    header: bool,
) -> dict[str, list[Example]]:
    """Read the examples of each file. `parse` returns label and sentences of a line; its ValueError becomes a message."""
    classes = {label: place for place, label in enumerate(labels)}

    def example(path: str, number: int, line: str) -> Example:
        try:
            label, *texts = parse(line)
            if label not in classes:
                raise ValueError(f"{label!r} is not a label, expected one of {', '.join(labels)}")
        except ValueError as error:
            fix = "Fix the row, or download SentEval's file again (docs/how-to/offline.md)."
            raise UserError(f"{files.file(path)}, line {number}: {error}.\n{fix}") from error
        return tuple(texts), classes[label]

    first = 2 if header else 1
    return {
        name: [example(path, number, line) for number, line in files.lines(path, encoding) if number >= first]
        for name, path in sets.items()
    }


def _task(
    name: str,
    sets: Mapping[str, list[Example]],
    classes: Sequence[str],
    expected: Mapping[str, int],
    classifier: Classifier,
) -> TransferTask:
    """Make the task. Sort each set by words and class, as SentEval does: the folds depend on the order."""
    if tuple(sets) not in PROTOCOLS or set(sets) != set(expected):
        raise UserError(
            f"tasks.{name}: `sets` names {', '.join(sets)}, and `examples` names {', '.join(expected)}.\n"
            "Both must be train; train, test; or train, dev, test."
        )
    for part, read in sets.items():
        if len(read) != expected[part]:
            log.warning(
                "%s has %s examples in %s here, %s in the paper's protocol: its score is not comparable.",
                *(name, f"{len(read):,}", part, f"{expected[part]:,}"),
            )
    if len(classes) < 2:
        raise UserError(f"tasks.{name}: there is one class only, {', '.join(classes)}. Name at least two.")
    counts = np.bincount([label for _, label in sets["train"]], minlength=len(classes))
    rarest, needed = int(counts.argmin()), 1 if "dev" in sets else classifier.folds
    if counts[rarest] < needed or not all(sets.values()):
        raise UserError(
            f"tasks.{name}: needs {needed} training examples of each class and no empty set, "
            f"but class {classes[rarest]} has {counts[rarest]}.\n"
            f"Download SentEval's files again (docs/how-to/offline.md), or lower tasks.{name}.classifier.folds."
        )

    def ordered(read: list[Example]) -> list[Example]:
        read = sorted(read, key=lambda example: ([len(text.split()) for text in example[0]], example[1]))
        return [(tuple(map(normalised, texts)), label) for texts, label in read]

    return TransferTask(name, {part: ordered(read) for part, read in sets.items()}, classifier)
