"""Transfer: accuracy of a linear classifier on frozen sentence vectors. SimCSE appendix E, Table E.1; SentEval, Conneau and
Kiela 2018. The files of `conf/tasks/` name one of the three loaders below.

A task's sets say its protocol, as in SentEval: (train) is nested cross-validation, (train, test) chooses the penalty by
cross-validation on train, (train, dev, test) chooses it on dev. Its examples say the features: the vector u of a sentence,
or |u-v| and u*v of a pair. Shapes: N examples, H hidden, D features (H or 2H), P parts, F folds, R penalties.
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
Example = tuple[tuple[str, ...], int]  # a sentence or two, and the class
Places = np.ndarray  # rows of the features, as integers


class Part(NamedTuple):
    """What one classifier needs: `train`, (train, dev) pairs on which its penalty is chosen, and `test` for its score."""

    train: Places
    inner: list[tuple[Places, Places]]
    test: Places


@dataclass(frozen=True)
class Classifier:
    """Logistic regression with a squared penalty on the weights, and how the penalty is chosen.

    Args:
        l2: penalties to choose from, strongest first, on the scale of the mean loss: scikit-learn's C is 1 / (l2 N).
        folds: of each cross-validation, outer and inner.
        seed: shuffles the folds, and picks what is held out.
        held_out: share of the training examples that the last fit leaves out where there is no dev set.
        tol: steepest slope of the mean loss at which a fit is done.
        max_iter: steps after which it ends anyway.
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
        """(all other folds, fold) for each fold; every fold has the classes in equal shares."""
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        return list(folds.split(np.empty((len(y_N), 0)), y_N))

    def kept(self, train: Places) -> Places:
        """The examples that the last fit sees, the same as in SentEval, whose classifier stops early by the others."""
        shuffled = np.random.RandomState(self.seed).permutation(len(train))
        return train[shuffled[int(self.held_out * len(train)) :]]

    def choose(self, dev_R: np.ndarray) -> int:
        """Place of the best accuracy in % to two decimals; of equals the weakest penalty. SentEval's validation.py."""
        percent_R = np.round(100 * dev_R, 2)
        return max(range(len(self.l2)), key=lambda place: (percent_R[place], -self.l2[place]))

    def path(self, x_ND: np.ndarray, y_N: np.ndarray, l2: Sequence[float]) -> Iterator[LogisticRegression]:
        """The classifier of each penalty, one object fitted again and again, each time from where it stands."""
        model = LogisticRegression(tol=self.tol, max_iter=self.max_iter, warm_start=True)
        for penalty in l2:
            yield model.set_params(C=1 / (penalty * len(y_N))).fit(x_ND, y_N)


@dataclass(frozen=True)
class TransferTask:
    """A classification task.

    Args:
        name: as in the paper's Table E.1.
        sets: examples of train, or of train and test, or of train, dev and test.
        classifier: what is trained on the vectors.
    """

    name: str
    sets: Mapping[str, list[Example]]
    classifier: Classifier
    family: ClassVar[Family] = TRANSFER
    in_average: ClassVar[bool] = True

    def sentences(self) -> Iterator[str]:
        """Every sentence of every set, repeated as it stands."""
        for examples in self.sets.values():
            for texts, _ in examples:
                yield from texts

    def score(self, embed: Embed) -> Result:
        """Accuracy times 100, the mean over the outer folds if there are any; of pairs in two classes also F1 of the second.

        Raises:
            UserError: all examples have the same features, from which nothing can be learned.

        Source: SentEval's validation.py. Its default classifier is this regression too, but under Adam and stopped early.
        """
        examples = [example for part in self.sets.values() for example in part]
        features_ND = features([texts for texts, _ in examples], embed)
        if collapsed(features_ND):
            raise UserError(
                f"tasks.{self.name}: no score, since the encoder gives all {len(examples):,} examples the same features.\n"
                "A decoder's first token sees no other: it needs pooler=last_token or avg. Another encoder has collapsed\n"
                "in training: lower optimizer.lr."
            )
        x_ND = features_ND.numpy()
        x_ND = x_ND - x_ND.mean(0)  # changes no classifier, since the intercept is free, but fits are done in fewer steps
        y_N = np.array([label for _, label in examples])
        parts, l2 = self._parts(y_N), self.classifier.l2

        def accuracies(inner: tuple[Places, Places]) -> list[float]:
            train, dev = inner
            return [model.score(x_ND[dev], y_N[dev]) for model in self.classifier.path(x_ND[train], y_N[train], l2)]

        def predict(part: Part, penalty: float) -> np.ndarray:
            train = part.train if "dev" in self.sets else self.classifier.kept(part.train)
            (predicted,) = (m.predict(x_ND[part.test]) for m in self.classifier.path(x_ND[train], y_N[train], [penalty]))
            return np.asarray(predicted)

        # Threads share the features; each has one core, so that sums are the same on a machine with more of them. As many
        # as torch has: OMP_NUM_THREADS gives each of several processes its part of the cores.
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
    """What the classifier sees: (N, H), vectors of sentences, or (N, 2H), |u-v| and u*v of pairs. SentEval's mrpc.py."""
    u_NH, *other = (embed(column) for column in zip(*texts, strict=True))
    return torch.cat([(u_NH - other[0]).abs(), u_NH * other[0]], dim=1) if other else u_NH


def one_file_a_class(
    files: SentEval, name: str, *, classes: Sequence[str], encoding: str, examples: Mapping[str, int], classifier: Classifier
) -> TransferTask:
    """MR, CR, SUBJ, MPQA: a single set, a file for each class, a sentence a line.

    Args:
        files: SentEval's files.
        name: name of the task.
        classes: the file of each class, below SentEval's root.
        encoding: of the files.
        examples: how many each set has in the paper's protocol; another number is announced.
        classifier: what is trained on the vectors.

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
    """SST2, MRPC: a file for each set, fields divided by tabs.

    Args:
        files: SentEval's files.
        name: name of the task.
        sets: the file of each set, below SentEval's root.
        sentences: column of the sentence, from 0, or columns of the two sentences.
        label: column of the label.
        labels: every label, in the order of the classes.
        header: whether the first line names the columns.
        encoding: of the files.
        examples: how many each set has in the paper's protocol; another number is announced.
        classifier: what is trained on the vectors.

    Raises:
        UserError: a file is missing or in another encoding, a row is malformed, or there are too few examples.
    """
    needed = max(label, *sentences) + 1

    def parse(line: str) -> tuple[str, ...]:
        fields = line.split("\t")
        if len(fields) < needed:
            raise ValueError(f"{len(fields)} fields, expected {needed}, divided by tabs")
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
    """TREC: a file for each set; in a line LABEL:finer, a space, and the question. Arguments and errors as for `table`."""

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
    """The examples of each file; `parse` gives label and sentences of a line, or a ValueError that says what is wrong."""
    classes = {label: place for place, label in enumerate(labels)}

    def example(path: str, number: int, line: str) -> Example:
        try:
            label, *texts = parse(line)
            if label not in classes:
                raise ValueError(f"{label!r} is no label, expected one of {', '.join(labels)}")
        except ValueError as error:
            fix = "Fix the row, or fetch SentEval's file again (docs/how-to/offline.md says how)."
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
    """The task of these examples, each set sorted as by SentEval, by number of words and class: the folds depend on it."""
    if tuple(sets) not in PROTOCOLS or set(sets) != set(expected):
        raise UserError(
            f"tasks.{name}: has the sets {', '.join(sets)}, and examples of {', '.join(expected)}.\n"
            "Both must be train, or train, test, or train, dev, test."
        )
    for part, read in sets.items():
        if len(read) != expected[part]:
            log.warning(
                "%s has %s examples in %s here, %s in the paper's protocol: its score is not comparable.",
                *(name, f"{len(read):,}", part, f"{expected[part]:,}"),
            )
    if len(classes) < 2:
        raise UserError(f"tasks.{name}: there is one class only, {', '.join(classes)}, so nothing to tell apart. Name two.")
    counts = np.bincount([label for _, label in sets["train"]], minlength=len(classes))
    rarest, needed = int(counts.argmin()), 1 if "dev" in sets else classifier.folds
    if counts[rarest] < needed or not all(sets.values()):
        raise UserError(
            f"tasks.{name}: needs {needed} training examples of each class and no empty set; "
            f"one class has {counts[rarest]}. It is {classes[rarest]}.\n"
            f"Fetch SentEval's files again (docs/how-to/offline.md says how), or lower tasks.{name}.classifier.folds."
        )

    def ordered(read: list[Example]) -> list[Example]:
        read = sorted(read, key=lambda example: ([len(text.split()) for text in example[0]], example[1]))
        return [(tuple(map(normalised, texts)), label) for texts, label in read]

    return TransferTask(name, {part: ordered(read) for part, read in sets.items()}, classifier)
