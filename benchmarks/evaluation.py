"""`evaluate` on the seven STS sets, from its start to its table, against a loop in SentEval's manner.

Run: python benchmarks/evaluation.py [--rounds N] [--precision bf16-mixed]. The loop goes subset by subset, in batches of 128
pairs as they stand, encodes both sides and remembers no sentence; it is a process too, timed from its start to its last
score. Ours encodes every unique sentence of all sets once, sorted by length, under a token budget. Same weights; in float32,
which the loop always has, the scores must agree. all-MiniLM-L6-v2, SIMCSE_DATA; A B A B in one run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import MINILM, alternate, machine, ratio, real_data, report, summary
from hydra import compose, initialize_config_dir
from scipy.stats import spearmanr
from torch import Tensor

from simcse_lit.config import resolvers, schema
from simcse_lit.config.cli import CONF_DIR
from simcse_lit.config.evaluation import validate_evaluation
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import make_task
from simcse_lit.inference.loading import LoadedEncoder, load_encoder

BATCH = 128  # pairs
OURS, LOOP = "evaluate", "loop in float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="ours")
    parser.add_argument("--loop", action="store_true", help="score by the loop and print the scores; what is compared with")
    chosen = parser.parse_args()
    if chosen.loop:
        print(json.dumps(loop_scores()))
        return
    real_data("SentEval")
    scores: dict[str, dict[str, float]] = {}

    def loop() -> None:
        done = subprocess.run([sys.executable, __file__, "--loop"], check=True, capture_output=True, text=True)
        scores[LOOP] = json.loads(done.stdout.splitlines()[-1])

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = [
                f"checkpoint={MINILM}",
                "tasks=sts",
                f"precision={chosen.precision}",
                f"hydra.run.dir={folder}",
                "bootstrap.samples=0",
            ]
            subprocess.run([sys.executable, "-m", "simcse_lit.evaluate", *settings], check=True, capture_output=True)
            (encoder,) = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))["encoders"]
            scores[OURS] = {name: task["score"] for name, task in encoder["tasks"].items()}

    seconds = alternate({LOOP: loop, OURS: ours}, chosen.rounds, warm_up=False)
    worst = max(abs(scores[LOOP][task] - scores[OURS][task]) for task in scores[LOOP])
    assert worst < 0.005 or chosen.precision != "32-true", f"the scores differ by {worst}"
    share = 1 / ratio(seconds[LOOP], seconds[OURS])
    needed, padded = tokens()
    rows = [[name, summary(times)] for name, times in seconds.items()] + [["evaluate takes of it", f"{share:.3f}"]]
    rows.append([f"tokens that are neither padding nor repeated, of the loop's {padded:,}", f"{needed / padded:.3f}"])
    rows.append(["scores", " ".join(f"{score:.2f}" for score in scores[OURS].values())])
    rows.append(["largest difference from the loop's", f"{worst:.3f}"])
    title = f"Seven STS sets, start to table, all-MiniLM-L6-v2, {chosen.precision}"
    report("evaluation", title, ["", "s"], rows, machine("transformers"), precision=chosen.precision)


def chosen_tasks() -> list[STSTask]:
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = validate_evaluation(compose("evaluate", [f"checkpoint={MINILM}", "tasks=sts", "run_dir=unused"]))
    files = SentEval(config.senteval)
    tasks = [make_task(name, entry, files) for name, entry in config.tasks.items()]
    return [task for task in tasks if isinstance(task, STSTask)]


def loop_scores() -> dict[str, float]:
    loaded = load_encoder(MINILM, revision=None, pooler=None, projection=None)
    return {task.name: loop_score(loaded, task) for task in chosen_tasks()}


def batches(task: STSTask) -> Iterator[tuple[list[str], list[str], list[float]]]:
    """The loop's batches: first sentences, second sentences and gold scores, of one subset after the other."""
    for places in (task.subsets or {"all": slice(0, len(task.pairs))}).values():
        pairs, gold = task.pairs[places], task.gold[places]
        for start in range(0, len(pairs), BATCH):
            first, second = zip(*pairs[start : start + BATCH], strict=True)
            yield list(first), list(second), list(gold[start : start + BATCH])


def tokens() -> tuple[int, int]:
    """Tokens of all different sentences, and those that the loop computes: the bound of removing padding and repetition."""
    loaded = load_encoder(MINILM, revision=None, pooler=None, projection=None)
    padded, lengths = 0, {}
    for task in chosen_tasks():
        for *sides, _ in batches(task):
            for sentences in sides:
                ids = loaded.tokenizer(sentences, truncation=True, max_length=loaded.max_length)["input_ids"]
                padded += len(ids) * max(map(len, ids))
                lengths |= dict(zip(sentences, map(len, ids), strict=True))
    return sum(lengths.values()), padded


@torch.inference_mode()
def loop_score(loaded: LoadedEncoder, task: STSTask) -> float:
    """Spearman x 100 of one task, its sentences encoded batch by batch and side by side."""
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
