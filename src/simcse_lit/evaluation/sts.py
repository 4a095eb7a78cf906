"""Semantic textual similarity: Spearman and Pearson correlation of cosine with human scores, times 100, without a regressor.

A set's score is Spearman over all of its pairs together ("all", as in the paper's tables). The plain and the weighted mean
over its subsets are reported too: SimCSE, section 6.1 and appendix B. `conf/tasks/STS*.yaml` and `SICK-R.yaml` name the
loaders below; the bootstrap is in `statistics.py`.
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
        name: the column in tables.
        pairs: the two sentences of each pair, subset after subset.
        gold: human scores, (pairs,).
        subsets: the places of each subset's pairs, by name; empty for a set with one part.
        in_average: false for a development set.
        file: the first file that the pairs were read from, for messages.
    """

    name: str
    pairs: list[tuple[str, str]]
    gold: np.ndarray
    subsets: Mapping[str, slice] = field(default_factory=dict)
    in_average: bool = True
    file: str = "its files"
    family: ClassVar[Family] = STS

    def sentences(self) -> Iterator[str]:
        """Yield every sentence of every pair. Duplicates occur."""
        for pair in self.pairs:
            yield from pair

    def check(self) -> None:
        """Check that the gold scores differ, since constant scores have no correlation.

        Raises:
            UserError: all gold scores are equal.
        """
        if np.ptp(self.gold) == 0:
            raise UserError(
                f"tasks.{self.name}: {self.file}: every pair ({len(self.gold):,}) has the gold score {self.gold[0]:g}.\n"
                "Constant scores have no correlation. Name a set whose scores differ, and the column that holds them."
            )

    def score(self, embed: Embed) -> Result:
        """Correlate the cosine similarities with the gold scores.

        If the scores or the cosines of a subset are all equal, its correlations and the means over subsets are None.

        Args:
            embed: maps N sentences to their vectors, (N, H) float32.

        Returns:
            Correlations times 100: over all pairs ("all"), of each subset, and the plain and weighted mean over subsets.

        Raises:
            UserError: all gold scores are equal, or all cosines are equal apart from rounding.

        Source: SimCSE, appendix B.
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
        """Explain why all cosines are equal."""
        if collapsed(vectors_NH):
            why = (
                "The encoder gives every sentence the same vector. For a decoder, use pooler=last_token or avg: its first\n"
                "token sees no other token. Any other encoder has collapsed in training: lower optimizer.lr."
            )
        elif all(first == second for first, second in self.pairs):
            why = f"Both sentences of each pair are the same in {self.file}. Name the columns that hold the two sentences."
        else:
            why = "The vectors differ only in length. Choose another pooler, or lower optimizer.lr in training."
        return f"tasks.{self.name}: no score: the cosine of every pair ({len(cosine):,}) is {cosine[0]:.4f}.\n{why}"


def _correlations(cosine: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    if np.ptp(gold) == 0 or np.ptp(cosine) <= SAME_COSINE:
        return {"spearman": None, "pearson": None, "n": len(gold)}
    return {
        "spearman": 100 * float(spearmanr(cosine, gold).statistic),
        "pearson": 100 * float(pearsonr(cosine, gold).statistic),
        "n": len(gold),
    }


def year(files: SentEval, name: str, *, folder: str, subsets: Sequence[str], pairs: int) -> STSTask:
    """Load one of STS12 to STS16: each subset has a file of sentences and a file of scores.

    Args:
        files: SentEval's files.
        name: name of the task.
        folder: below SentEval's root.
        subsets: names; the files are `STS.input.NAME.txt` and `STS.gs.NAME.txt`.
        pairs: number of pairs in the paper's protocol; another number gives a warning.

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
                f"{files.root / folder}: {subset} has {len(sentences)} pairs and {len(golds)} gold scores. "
                "Download its two files again (docs/how-to/offline.md)."
            )
        start = len(rows)
        for (line, fields), (_, gold) in zip(sentences, golds, strict=True):
            if not gold.strip():
                continue  # STS15 and STS16 hold pairs without a score; they are not part of the set
            if len(fields) < 2:
                path = files.root / folder / f"STS.input.{subset}.txt"
                raise UserError(f"{path}, line {line}: no second sentence. Expected two sentences, separated by a tab.")
            where = f"{files.root / folder / f'STS.gs.{subset}.txt'}, line {line}"
            rows.append(_Pair(fields[0], fields[1], gold, where))
        if start == len(rows):
            path = files.root / folder / f"STS.gs.{subset}.txt"
            raise UserError(f"{path}: holds no gold score. Download it again (docs/how-to/offline.md).")
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
    """Load STS-B or SICK-R: tables whose fields are separated by tabs.

    Args:
        files: SentEval's files.
        name: name of the task.
        path: one or more files below SentEval's root.
        first: column of the first sentence, from 0.
        second: column of the second sentence.
        score: column of the gold score.
        header: whether the first line names the columns.
        pairs: number of pairs in the paper's protocol; another number gives a warning.
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
                needed = max(score, first, second) + 1
                raise UserError(f"{where}: {len(fields)} fields, expected {needed}, separated by tabs.")
            rows.append(_Pair(fields[first], fields[second], fields[score], where))
    return _task(name, rows, pairs, in_average=in_average)


def file(files: SentEval, name: str, *, path: str, columns: Sequence[str], in_average: bool = False) -> STSTask:
    """Load your own set: a csv, tsv, jsonl or parquet file with two sentences and a score. The score may have any scale.

    Args:
        files: not used.
        name: name of the task.
        path: a local file, `pkg://PACKAGE/FILE`, `hf://datasets/OWNER/NAME/FILE` or another URL.
        columns: names of the first sentence, the second sentence and the score.
        in_average: whether the average of the STS sets includes it.

    Raises:
        UserError: the file cannot be read, has no such columns, or a row is malformed.
    """
    if len(columns) != 3:
        raise UserError(f"tasks.{name}.columns=[{','.join(columns)}]: must name the columns of two sentences and a score.")
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
    """Load half of the bundled pairs. They show whether training works; their scores compare with no published score.

    Args:
        files: not used.
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
        raise UserError(f"tasks.{name}: the files hold no pair with a gold score.")
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
    wrong = f"{row.gold!r} is not a gold score" if row.gold.strip() and row.gold != "None" else "the gold score is missing"
    raise UserError(f"{row.where}: {wrong}. Expected a number.")
