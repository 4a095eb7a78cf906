"""`python -m simcse_lit.evaluate` on the seven STS sets with all-MiniLM-L6-v2, from its start to its table, against a
loop that does what SentEval's code does, by which the paper scores SimCSE. The loop goes through the subsets in batches
of 128 pairs, sorts those of STS12 to STS16 by words, encodes both sides and remembers no sentence. It also scores the
training and development parts of STS-B and SICK-R, which no table shows; they are timed apart. `evaluate` encodes every
unique sentence of the seven sets once, sorted by length. Both are timed as processes. In float32 their scores must
agree.

Run: python benchmarks/evaluation.py [--rounds N] [--precision bf16-mixed]. Needs SIMCSE_DATA.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import MINILM, QUANTITIES, alternate, machine, precision_suffix, ratio, real_data, report, summary
from hydra import compose, initialize_config_dir
from scipy.stats import spearmanr
from torch import Tensor

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.errors import UserError
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.sts import STSTask, table
from simcse_lit.evaluation.suite import make_task
from simcse_lit.formats.loading import LoadedEncoder, load_encoder

BATCH = 128  # pairs
OURS, LOOP = "evaluate", "loop in float32"
STS_B = {"first": 5, "second": 6, "score": 4, "header": False}
SICK = {"first": 1, "second": 2, "score": 3, "header": True}
NOT_IN_TABLE = {  # parts that SentEval's code scores along with the test sets
    "STS-B train": {"path": "STS/STSBenchmark/sts-train.csv", "pairs": 5749, **STS_B},
    "STS-B dev": {"path": "STS/STSBenchmark/sts-dev.csv", "pairs": 1500, **STS_B},
    "SICK-R train": {"path": "SICK/SICK_train.txt", "pairs": 4500, **SICK},
    "SICK-R dev": {"path": "SICK/SICK_trial.txt", "pairs": 500, **SICK},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="ours")
    parser.add_argument("--loop", action="store_true", help="only run the loop and print its scores")
    chosen = parser.parse_args()
    if chosen.loop:
        try:
            print(json.dumps(looped()))
        except UserError as error:
            raise SystemExit(str(error)) from error
        return
    real_data("SentEval")
    scores: dict[str, dict[str, float]] = {}
    not_in_table: list[float] = []

    def loop() -> None:
        result = json.loads(finished(sys.executable, __file__, "--loop").splitlines()[-1])
        scores[LOOP] = result["scores"]
        not_in_table.append(result["not in a table, s"])

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = [
                f"checkpoint={MINILM}",
                "tasks=sts",
                f"precision={chosen.precision}",
                f"hydra.run.dir={folder}",
                "bootstrap.samples=0",
            ]
            finished(sys.executable, "-m", "simcse_lit.evaluate", *settings)
            (encoder,) = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))["encoders"]
            scores[OURS] = {name: task["score"] for name, task in encoder["tasks"].items()}

    seconds = alternate({LOOP: loop, OURS: ours}, chosen.rounds, warm_up=False)
    worst = max(abs(scores[LOOP][task] - scores[OURS][task]) for task in scores[LOOP])
    assert worst < 0.005 or chosen.precision != "32-true", f"the scores differ by {worst}"
    in_table = [whole - part for whole, part in zip(seconds[LOOP], not_in_table, strict=True)]
    needed, padded, unneeded = tokens()
    rows = [
        [LOOP, summary(seconds[LOOP]), "s"],
        [f"parts of the loop that no table shows: {', '.join(NOT_IN_TABLE)}", summary(not_in_table), "s"],
        [OURS, summary(seconds[OURS]), "s"],
        ["time of evaluate over the loop's", round(1 / ratio(seconds[LOOP], seconds[OURS]), 3), ""],
        ["time of evaluate over the loop's without those parts", round(1 / ratio(in_table, seconds[OURS]), 3), ""],
        ["tokens of the loop", padded + unneeded, "tokens"],
        ["tokens of the loop without those parts", padded, "tokens"],
        ["tokens of evaluate over the loop's", round(needed / (padded + unneeded), 3), ""],
        ["tokens of evaluate over the loop's without those parts", round(needed / padded, 3), ""],
        [f"scores of {' '.join(scores[OURS])}", [round(score, 2) for score in scores[OURS].values()], "Spearman x 100"],
        ["largest difference from the loop's scores", round(worst, 3), "Spearman x 100"],
    ]
    title = f"Seven STS sets, start to table, {chosen.precision}"
    name = f"evaluation{precision_suffix(chosen.precision)}"
    report(name, __doc__, title, QUANTITIES, rows, machine("transformers"))


def finished(*command: str) -> str:
    """Run a command and return what it prints; exit with its error message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def chosen_tasks() -> tuple[list[STSTask], list[STSTask]]:
    """Return the seven test sets, and the parts that no table shows."""
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = validate_evaluation(compose("evaluate", [f"checkpoint={MINILM}", "tasks=sts", "run_dir=unused"]))
    files = SentEval(config.senteval)
    tasks = [make_task(name, entry, files) for name, entry in config.tasks.items()]
    unneeded = [table(files, name, in_average=False, **entry) for name, entry in NOT_IN_TABLE.items()]  # type: ignore[arg-type]
    return [task for task in tasks if isinstance(task, STSTask)], unneeded


def looped() -> dict[str, Any]:
    """Return the loop's scores of the test sets, and the seconds that the other parts took."""
    loaded = load_encoder(MINILM, revision=None, pooler=None, projection=None)
    tasks, unneeded = chosen_tasks()
    start = time.perf_counter()
    for task in unneeded:
        loop_score(loaded, task)
    seconds = time.perf_counter() - start
    return {"scores": {task.name: loop_score(loaded, task) for task in tasks}, "not in a table, s": seconds}


def batches(task: STSTask) -> Iterator[tuple[list[str], list[str], list[float]]]:
    """Yield the first sentences, second sentences and gold scores of the loop's batches, subset by subset."""
    for places in task.subsets.values() or [slice(0, len(task.pairs))]:
        rows = list(zip(task.pairs[places], task.gold[places], strict=True))
        if task.subsets:  # as SentEval's code does, so that batches need less padding; STS-B and SICK-R stay as they are
            rows.sort(key=lambda row: (*(len(sentence.split()) for sentence in row[0]), row[1]))
        for start in range(0, len(rows), BATCH):
            pairs, gold = zip(*rows[start : start + BATCH], strict=True)
            first, second = zip(*pairs, strict=True)
            yield list(first), list(second), list(gold)


def tokens() -> tuple[int, int, int]:
    """Count the tokens of the unique sentences of the test sets, those that the loop computes for these sets, padding
    included, and those that it computes for the other parts.
    """
    loaded = load_encoder(MINILM, revision=None, pooler=None, projection=None)
    lengths: dict[str, int] = {}

    def computed(tasks: Iterable[STSTask], seen: dict[str, int]) -> int:
        padded = 0
        for task in tasks:
            for *sides, _ in batches(task):
                for sentences in sides:
                    ids = loaded.tokenizer(sentences, truncation=True, max_length=loaded.max_length)["input_ids"]
                    padded += len(ids) * max(map(len, ids))
                    seen |= dict(zip(sentences, map(len, ids), strict=True))
        return padded

    tasks, unneeded = chosen_tasks()
    padded = computed(tasks, lengths)
    return sum(lengths.values()), padded, computed(unneeded, {})


@torch.inference_mode()
def loop_score(loaded: LoadedEncoder, task: STSTask) -> float:
    """Return Spearman x 100 of one task, its sentences encoded batch by batch, one side after the other."""
    cosines, golds = [], []
    for first, second, gold in batches(task):
        cosines += F.cosine_similarity(encode(loaded, first), encode(loaded, second)).tolist()
        golds += gold
    return 100 * float(spearmanr(cosines, golds).statistic)


def encode(loaded: LoadedEncoder, sentences: list[str]) -> Tensor:
    batch = loaded.tokenizer(sentences, padding=True, truncation=True, max_length=loaded.max_length, return_tensors="pt")
    return loaded.encoder.embed(batch["input_ids"], batch["attention_mask"])


if __name__ == "__main__":
    sys.exit(main())
