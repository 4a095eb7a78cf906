"""Semantic textual similarity: no regressor, Spearman and Pearson of cosine similarity with human scores, times 100.

The figure of the paper's tables is Spearman over all pairs of a set together ("all"); the mean over its subsets, plain and
weighted, stands beside it. SimCSE section 6.1 and appendix B. `conf/tasks/STS*.yaml` and `SICK-R.yaml` name the loaders.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import SAME_COSINE, collapsed, cosines
from simcse_lit.evaluation.senteval import SentEval, normalised
from simcse_lit.evaluation.task import Embed, Result
from simcse_lit.families import STS, Family
from simcse_lit.text.rows import Row, unusable
from simcse_lit.text.sources import open_sources

log = logging.getLogger(__name__)

BUNDLED = "pkg://simcse_lit/data/samples/pairs.tsv"


@dataclass(frozen=True)
class STSTask:
    """Sentence pairs with gold scores.

    Args:
        name: as in the paper's tables.
        pairs: the two sentences of each pair, all subsets one after the other.
        gold: human scores, (pairs,).
        subsets: name to the places of its pairs; empty for a set of one part.
        in_average: false for a development set.
        file: the first that it was read from, for messages.
    """

    name: str
    pairs: list[tuple[str, str]]
    gold: np.ndarray
    subsets: Mapping[str, slice] = field(default_factory=dict)
    in_average: bool = True
    file: str = "its files"
    family: ClassVar[Family] = STS

    def sentences(self) -> Iterator[str]:
        """Every sentence, repeated as it stands."""
        for pair in self.pairs:
            yield from pair

    def check(self) -> None:
        """Refuse gold scores with which nothing has a correlation.

        Raises:
            UserError: they are all the same.
        """
        if np.ptp(self.gold) == 0:
            raise UserError(
                f"tasks.{self.name}: {self.file}: every pair ({len(self.gold):,}) has the gold score {self.gold[0]:g}, "
                "with which\nnothing can correlate. Name a set whose scores differ, and the column that holds them."
            )

    def score(self, embed: Embed) -> Result:
        """Correlations of cosine similarity with the gold scores. SimCSE appendix B: "all", mean and weighted mean.

        Those of a subset are None if its scores or its cosines are all the same, and then so are the means.

        Raises:
            UserError: there is no correlation, since all gold scores are the same, or all cosines but for rounding.
        """
        self.check()
        first_PH, second_PH = (embed(column) for column in zip(*self.pairs, strict=True))
        cosine = cosines(first_PH, second_PH).numpy()
        if np.ptp(cosine) <= SAME_COSINE:
            raise UserError(self._explain(cosine, torch.cat([first_PH, second_PH])))
        metrics = _correlations(cosine, self.gold)
        subsets = {name: _correlations(cosine[places], self.gold[places]) for name, places in self.subsets.items()}
        sizes = [subset["n"] for subset in subsets.values()]
        for kind in ("spearman", "pearson") if subsets else ():
            values = [subset[kind] for subset in subsets.values()]
            defined = None not in values
            metrics[f"{kind}_mean"] = float(np.mean(values)) if defined else None
            metrics[f"{kind}_weighted_mean"] = float(np.average(values, weights=sizes)) if defined else None
        return Result(metrics["spearman"], metrics, subsets, cosine=cosine, gold=self.gold)

    def _explain(self, cosine: np.ndarray, vectors_NH: Tensor) -> str:
        """What is wrong with cosines that are all the same."""
        if collapsed(vectors_NH):
            why = (
                "The encoder gives every sentence the same vector. A decoder's first token sees no other: it needs\n"
                "pooler=last_token or avg. Another encoder has collapsed in training: lower optimizer.lr."
            )
        elif all(first == second for first, second in self.pairs):
            why = f"Both sentences of each pair are the same in {self.file}: name the columns that hold the two."
        else:
            why = "The vectors differ in length alone: choose another pooler, or lower optimizer.lr in training."
        return f"tasks.{self.name}: no score, since the cosine of every pair ({len(cosine):,}) is {cosine[0]:.4f}.\n{why}"


def _correlations(cosine: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    if np.ptp(gold) == 0 or np.ptp(cosine) <= SAME_COSINE:
        return {"spearman": None, "pearson": None, "n": len(gold)}
    return {
        "spearman": 100 * float(spearmanr(cosine, gold).statistic),
        "pearson": 100 * float(pearsonr(cosine, gold).statistic),
        "n": len(gold),
    }


def year(files: SentEval, name: str, *, folder: str, subsets: Sequence[str], pairs: int) -> STSTask:
    """STS12 to STS16: a file of sentences and a file of scores for each subset.

    Args:
        files: SentEval's files.
        name: name of the task.
        folder: below SentEval's root.
        subsets: STS.input.SUBSET.txt and STS.gs.SUBSET.txt.
        pairs: how many the paper's protocol has; another number is announced.

    Raises:
        UserError: a file is missing, or a row is malformed.
    """
    rows: list[_Pair] = []
    places: dict[str, slice] = {}
    for subset in subsets:
        sentences = list(files.rows(f"{folder}/STS.input.{subset}.txt"))
        golds = list(files.lines(f"{folder}/STS.gs.{subset}.txt"))
        if len(sentences) != len(golds):
            raise UserError(
                f"{files.root / folder}: {subset} has {len(sentences)} pairs and {len(golds)} gold scores; "
                "fetch its two files again (docs/how-to/offline.md)."
            )
        start = len(rows)
        for (line, fields), (_, gold) in zip(sentences, golds, strict=True):
            if not gold.strip():
                continue  # STS15 and STS16 have pairs that nobody scored; they are not part of the set
            if len(fields) < 2:
                path = files.root / folder / f"STS.input.{subset}.txt"
                raise UserError(f"{path}, line {line}: no second sentence; expected two, divided by a tab.")
            where = f"{files.root / folder / f'STS.gs.{subset}.txt'}, line {line}"
            rows.append(_Pair(fields[0], fields[1], gold, where))
        if start == len(rows):
            raise UserError(f"{files.root / folder / f'STS.gs.{subset}.txt'}: holds no gold score.")
        places[subset] = slice(start, len(rows))
    return _task(name, rows, pairs, subsets=places)


def table(
    files: SentEval,
    name: str,
    *,
    path: str | Sequence[str],
    first: int,
    second: int,
    score: int,
    header: bool,
    pairs: int,
    in_average: bool,
) -> STSTask:
    """STS-B and SICK-R: tables whose fields are divided by tabs.

    Args:
        files: SentEval's files.
        name: name of the task.
        path: one file or several, below SentEval's root.
        first: column of the first sentence, from 0.
        second: column of the second sentence.
        score: column of the gold score.
        header: whether the first line names the columns.
        pairs: how many the paper's protocol has; another number is announced.
        in_average: false for a development set.

    Raises:
        UserError: a file is missing, or a row is malformed.
    """
    rows = []
    for file in [path] if isinstance(path, str) else path:
        for line, fields in files.rows(file):
            if header and line == 1:
                continue
            where = f"{files.root / file}, line {line}"
            if len(fields) <= max(score, first, second):
                raise UserError(f"{where}: {len(fields)} fields, expected {max(score, first, second) + 1}, divided by tabs.")
            rows.append(_Pair(fields[first], fields[second], fields[score], where))
    return _task(name, rows, pairs, in_average=in_average)


def file(files: SentEval, name: str, *, path: str, columns: Sequence[str], in_average: bool = False) -> STSTask:
    """A set of your own: csv, tsv, jsonl or parquet with two sentences and a score, which may be on any scale.

    Args:
        files: not needed.
        name: name of the task.
        path: local file, pkg://PACKAGE/FILE, hf://datasets/OWNER/NAME/FILE or another URL.
        columns: first sentence, second sentence, score.
        in_average: whether the average of the STS sets takes it in.

    Raises:
        UserError: the file cannot be read, has no such columns, or a row is malformed.
    """
    if len(columns) != 3:
        raise UserError(f"tasks.{name}.columns=[{','.join(columns)}]: must name three: first sentence, second, score.")
    rows = []
    for source in open_sources(path, None, key=f"tasks.{name}.path"):
        if source.header is None:
            raise UserError(f"{source.where}: a .txt file has no columns. Name a csv, tsv, jsonl or parquet file.")
        for row in source.rows(columns):
            line, reason = (row.line, unusable(row.fields[:2], columns)) if isinstance(row, Row) else row
            where = f"{source.name}, line {line}"
            if not isinstance(row, Row) or reason:
                raise UserError(f"tasks.{name}.path: {where}: {reason}. Fix the row or leave it out.")
            rows.append(_Pair(row.fields[0], row.fields[1], str(row.fields[2]), where))
    return _task(name, rows, len(rows), in_average=in_average)


def bundled(files: SentEval | None, name: str, *, half: str) -> STSTask:
    """Half of the pairs that come with the package: they tell whether training works, and compare with nothing.

    Args:
        files: not needed.
        name: name of the task.
        half: `dev` for the first half, `test` for the second.
    """
    (source,) = open_sources(BUNDLED, None, key=f"tasks.{name}")
    rows = [row for row in source.rows(("sentence1", "sentence2", "score")) if isinstance(row, Row)]
    middle = len(rows) // 2
    chosen = rows[:middle] if half == "dev" else rows[middle:]
    pairs = [_Pair(row.fields[0], row.fields[1], row.fields[2], f"{BUNDLED}, line {row.line}") for row in chosen]
    return _task(name, pairs, len(pairs), in_average=half == "test")


@dataclass(frozen=True)
class _Pair:
    first: str
    second: str
    gold: str
    where: str


def _task(
    name: str,
    rows: Sequence[_Pair],
    expected: int,
    *,
    subsets: Mapping[str, slice] | None = None,
    in_average: bool = True,
) -> STSTask:
    golds = [_gold(row) for row in rows]
    if not rows:
        raise UserError(f"tasks.{name}: its files hold no pairs with a gold score.")
    if len(rows) != expected:
        log.warning(
            "%s has %s pairs here, %s in the paper's protocol: its score is not comparable.",
            name,
            f"{len(rows):,}",
            f"{expected:,}",
        )
    pairs = [(normalised(row.first), normalised(row.second)) for row in rows]
    return STSTask(name, pairs, np.array(golds), subsets or {}, in_average, rows[0].where.rpartition(", line ")[0])


def _gold(row: _Pair) -> float:
    try:
        gold = float(row.gold)
    except ValueError:
        gold = math.nan
    if math.isfinite(gold):
        return gold
    wrong = f"{row.gold!r} is no gold score" if row.gold.strip() and row.gold != "None" else "the gold score is missing"
    raise UserError(f"{row.where}: {wrong}; expected a number.")
