"""The bundled text: enough of it, well formed, and nothing shared between training and evaluation."""

import csv
import re
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from simcse_lit.config.resolvers import local_path

FOLDER = local_path("pkg://simcse_lit/data/samples", "test")


def normal(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()


def triplets() -> list[list[str]]:
    with (FOLDER / "triplets.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def pairs() -> list[list[str]]:
    return [line.split("\t") for line in (FOLDER / "pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]]


def wikipedia() -> list[str]:
    return (FOLDER / "wikipedia.txt").read_text(encoding="utf-8").splitlines()


def test_there_is_as_much_as_promised() -> None:
    assert len(wikipedia()) >= 1000 and len(triplets()) >= 600 and len(pairs()) >= 300
    assert all(len(row) == 3 and all(row) for row in triplets() + pairs())
    assert all(line.strip() == line and line for line in wikipedia())
    words = [len(line.split()) for line in wikipedia()]
    assert min(words) <= 3 and max(words) >= 30


def test_pair_scores_cover_the_whole_scale_evenly() -> None:
    scores = [float(row[0]) for row in pairs()]
    assert all(0 <= score <= 5 for score in scores)
    for bucket in range(5):
        assert sum(bucket <= score < bucket + 1 or score == 5 == bucket + 1 for score in scores) >= 40


def test_no_sentence_stands_twice_anywhere() -> None:
    texts = [text for row in triplets() for text in row] + [text for row in pairs() for text in row[1:]] + wikipedia()
    assert len({normal(text) for text in texts}) == len(texts)


def test_the_scored_pairs_are_the_first_triplets() -> None:
    with (FOLDER / "scored.csv").open(encoding="utf-8", newline="") as file:
        heads, *scored = csv.reader(file)
    assert heads == ["sentence1", "sentence2", "score"]
    expected = [[row[0], row[view], score] for row in triplets()[:300] for view, score in ((1, "1"), (2, "0"))]
    assert scored == expected


def test_hard_negatives_share_words_with_their_anchor() -> None:
    shares = []
    for anchor, _, negative in triplets():
        mine, theirs = set(normal(anchor).split()), set(normal(negative).split())
        shares.append(len(mine & theirs) / len(mine))
    assert sum(shares) / len(shares) > 0.4


def test_no_bundled_sentence_is_in_the_real_test_sets(simcse_data: Path) -> None:
    real: set[str] = set()
    for path in (simcse_data / "SentEval").rglob("*.*"):
        if path.is_file():
            for line in path.read_text(encoding="latin-1").splitlines():
                real.update(normal(field) for field in line.split("\t"))
    bundled = {normal(text) for row in triplets() for text in row} | {normal(text) for text in wikipedia()}
    assert not bundled & real


def test_the_tiny_tokenizer_knows_the_bundled_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "tiny")
    config = AutoConfig.from_pretrained(FOLDER / "tiny")
    assert len(tokenizer) == config.vocab_size == 2000
    for text in [*wikipedia()[:200], *(text for row in triplets()[:200] for text in row)]:
        plain = "".join(str(tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)).split())
        assert plain == "".join(tokenizer.backend_tokenizer.normalizer.normalize_str(text).split())
