"""Semantic textual similarity under the paper's protocol: STS12-16, STS-B and SICK-R, no regressor, Spearman over the
concatenation of a year's subsets ("all"), times 100. SimCSE section 6.1 and appendix B.

`load_sts` finds the sets in SentEval's layout or on the Hub, and falls back to the pairs bundled with the package.
"""

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], Tensor]

YEARS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
# Pairs of each set in the paper's protocol, by which a wrong copy is recognised.
SIZES = {
    "STS12": 3108,
    "STS13": 1500,
    "STS14": 3750,
    "STS15": 3000,
    "STS16": 1186,
    "STS-B": 1379,
    "SICK-R": 4927,
    "STS-B dev": 1500,
}
HUB = {**{year: f"mteb/{year.lower()}-sts" for year in YEARS}, "STS-B": "mteb/stsbenchmark-sts"}
# mteb/sickr-sts has SICK's training, trial and test pairs in its test split, so SICK-R comes from the data set's own copy.
HUB_SICK, HUB_SICK_REVISION = "RobZamp/sick", "refs/convert/parquet"
BUNDLED = "pkg://simcse_lit/data/samples/pairs.tsv"


@dataclass(frozen=True)
class STSTask:
    """Sentence pairs with gold scores.

    Args:
        name: as in the paper's tables.
        pairs: the two sentences of each pair, all subsets one after the other.
        gold: human scores, (number of pairs,).
    """

    name: str
    pairs: list[tuple[str, str]]
    gold: np.ndarray

    def sentences(self) -> Iterator[str]:
        """Every sentence, repeated as it stands."""
        for pair in self.pairs:
            yield from pair

    def score(self, embed: Embed) -> float:
        """Spearman correlation of cosine similarity with the gold scores, times 100. SimCSE appendix B ("all")."""
        first_NH = F.normalize(embed([first for first, _ in self.pairs]), dim=-1)
        second_NH = F.normalize(embed([second for _, second in self.pairs]), dim=-1)
        cosine = (first_NH * second_NH).sum(-1).numpy()
        return 100 * float(spearmanr(cosine, self.gold).statistic)


@dataclass(frozen=True)
class STSSets:
    """What a run is validated and tested on.

    Args:
        dev: model selection; STS-B's development set, or bundled pairs.
        test: the seven sets of Table 5, or bundled pairs.
        origin: where they came from, for people.
    """

    dev: STSTask
    test: list[STSTask]
    origin: str


def load_sts(senteval_dir: str | None, *, from_hub: bool) -> STSSets:
    """The STS sets from SentEval's layout if a folder is given, else from the Hub if allowed, else the bundled pairs.

    Args:
        senteval_dir: the key `data.senteval_dir`: a folder that holds `STS/`, or `SentEval/STS/`.
        from_hub: the key `data.sts_from_hub`.

    Raises:
        UserError: a folder is given and a set is missing from it or malformed.
    """
    if senteval_dir is not None:
        return _checked(_from_senteval(Path(senteval_dir).expanduser()))
    if from_hub:
        from huggingface_hub.utils import httpx

        try:
            return _checked(_from_hub())
        except (OSError, ValueError, httpx.HTTPError) as error:
            log.warning("The STS sets could not be fetched from the Hub:\n  %s", (str(error).splitlines() or ["?"])[0])
    log.warning(
        "Scored on %d bundled sentence pairs, not on the paper's STS sets. For those,\n"
        "set SIMCSE_DATA (or data.senteval_dir) to a folder with SentEval's STS/.",
        len(_bundled().pairs),
    )
    pairs, half = _bundled(), len(_bundled().pairs) // 2
    dev = STSTask("Pairs-dev", pairs.pairs[:half], pairs.gold[:half])
    test = STSTask("Pairs", pairs.pairs[half:], pairs.gold[half:])
    return STSSets(dev, [test], "bundled pairs")


def _checked(sets: STSSets) -> STSSets:
    """Say so when a set is not of the size that the paper's protocol has."""
    for task in (sets.dev, *sets.test):
        if len(task.pairs) != SIZES[task.name]:
            log.warning(
                "%s has %s pairs here, %s in the paper's protocol: its score is not comparable.",
                task.name,
                f"{len(task.pairs):,}",
                f"{SIZES[task.name]:,}",
            )
    return sets


def _bundled() -> STSTask:
    path = local_path(BUNDLED, "evaluation")
    rows = list(_rows(path))[1:]
    return _task("Pairs", [(row[1], row[2], row[0], f"{path}, line {line}") for line, row in rows])


def _from_senteval(given: Path) -> STSSets:
    root = next((folder for folder in (given / "SentEval", given) if (folder / "STS").is_dir()), None)
    if root is None:
        raise UserError(
            f"data.senteval_dir: {given}: holds neither STS/ nor SentEval/STS/.\n"
            "Name SentEval's data/downstream folder (docs/data.md says how to get it), or set it to null."
        )
    test = [_senteval_year(root / "STS" / f"{year}-en-test", year, subsets) for year, subsets in YEARS.items()]
    benchmark = root / "STS" / "STSBenchmark"
    test.append(_table(benchmark / "sts-test.csv", "STS-B", score=4, first=5, second=6))
    test.append(_table(root / "SICK" / "SICK_test_annotated.txt", "SICK-R", score=3, first=1, second=2, header=True))
    dev = _table(benchmark / "sts-dev.csv", "STS-B dev", score=4, first=5, second=6)
    log.info("STS sets from %s", root)
    return STSSets(dev, test, "SentEval's STS sets")


def _senteval_year(folder: Path, name: str, subsets: Sequence[str]) -> STSTask:
    """A year's subsets, concatenated; pairs without a gold score (STS15, STS16) are not part of the set."""
    rows: list[tuple[str, str, str, str]] = []
    for subset in subsets:
        inputs = _rows(folder / f"STS.input.{subset}.txt")
        scores = _rows(folder / f"STS.gs.{subset}.txt")
        sentences = list(inputs)
        golds = list(scores)
        if len(sentences) != len(golds):
            raise UserError(f"{folder}: {subset} has {len(sentences)} pairs and {len(golds)} gold scores.")
        for (line, fields), (_, gold) in zip(sentences, golds, strict=True):
            where = f"{folder / f'STS.gs.{subset}.txt'}, line {line}"
            if gold and gold[0].strip():
                if len(fields) < 2:
                    raise UserError(f"{folder / f'STS.input.{subset}.txt'}, line {line}: no second sentence.")
                rows.append((fields[0], fields[1], gold[0], where))
    return _task(name, rows)


def _table(path: Path, name: str, *, score: int, first: int, second: int, header: bool = False) -> STSTask:
    rows = []
    for line, fields in _rows(path):
        if header and line == 1:
            continue
        if len(fields) <= max(score, first, second):
            raise UserError(f"{path}, line {line}: {len(fields)} fields, expected {max(score, first, second) + 1}.")
        rows.append((fields[first], fields[second], fields[score], f"{path}, line {line}"))
    return _task(name, rows)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    if not path.is_file():
        raise UserError(f"data.senteval_dir: {path}: there is no such file; docs/data.md says how to get SentEval's data.")
    with path.open(encoding="utf-8", newline="\n") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            yield from ((line, fields) for line, fields in enumerate(reader, start=1))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8: {error.reason} at byte {error.start}.") from error


def _task(name: str, rows: Sequence[tuple[str, str, str, str]]) -> STSTask:
    """Pairs and gold scores of rows (first, second, score, where they stand)."""
    golds = []
    for _, _, gold, where in rows:
        try:
            golds.append(float(gold))
        except ValueError as error:
            raise UserError(f"{where}: {gold!r} is no gold score.") from error
    # As SentEval reads them: whitespace folded, and a full stop for an empty sentence.
    pairs = [(" ".join(first.split()) or ".", " ".join(second.split()) or ".") for first, second, _, _ in rows]
    return STSTask(name, pairs, np.array(golds))


def _from_hub() -> STSSets:
    from datasets import load_dataset

    def fetch(label: str, split: str) -> STSTask:
        rows = load_dataset(HUB[label.removesuffix(" dev")], split=split)
        return _task(label, [(row["sentence1"], row["sentence2"], str(row["score"]), label) for row in rows])

    sick = load_dataset(HUB_SICK, revision=HUB_SICK_REVISION, split="test")
    rows = [(row["sentence_A"], row["sentence_B"], str(row["relatedness_score"]), "SICK-R") for row in sick]
    test = [*(fetch(name, "test") for name in HUB), _task("SICK-R", rows)]
    return STSSets(fetch("STS-B dev", "validation"), test, "the STS sets of the Hub")
