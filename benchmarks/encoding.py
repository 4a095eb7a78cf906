"""Encode a random sample of the unique sentences of the seven STS sets with all-MiniLM-L6-v2, tokenising included,
against sentence-transformers with mean pooling and against the paper's own tool, `simcse`, with the first token. Both
peers run with their defaults, in float32, on the same weights. The bound is what leaving out a peer's padding can give
at most: the tokens of its batches, padding included, over the tokens of the sentences.

Run: python benchmarks/encoding.py [--rounds N] [--precision bf16-mixed]. Needs SIMCSE_DATA. `simcse` is measured if it
is installed: `pip install --no-deps simcse==0.4`, since it pins numpy and scipy to releases of 2021.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from harness import (
    MINILM,
    Column,
    alternate,
    machine,
    precision_suffix,
    ratio,
    real_data,
    report,
    summary,
    train_config,
)
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.passes import encode
from simcse_lit.evaluation.suite import load_suite, unique_sentences

SENTENCES = 6000


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="ours")
    chosen = parser.parse_args()
    config = train_config("loss=unsup", "tasks=sts", f"senteval.dir={real_data('SentEval')}")
    sentences = random.Random(0).sample(unique_sentences(load_suite(config).test), SENTENCES)
    folder = str(local_path(MINILM, "model"))
    backbone, tokenizer = load_backbone(config.model, mlm=False)
    mean = SentenceEncoder(backbone, "avg", "none").eval()
    first = SentenceEncoder(backbone, "cls_before_pooler", "none").eval()
    theirs = SentenceTransformer(folder, device="cpu")
    theirs.max_seq_length = EVALUATION_LENGTH
    vectors: dict[str, Tensor] = {}

    def keep(name: str, made: Tensor) -> None:
        vectors[name] = F.normalize(made.float(), dim=-1)

    ways = {
        "ours, mean": lambda: keep("ours, mean", encode(mean, tokenizer, sentences, precision=chosen.precision)),
        "sentence-transformers": lambda: keep(
            "sentence-transformers", theirs.encode(sentences, convert_to_tensor=True, show_progress_bar=False)
        ),
        "ours, CLS": lambda: keep("ours, CLS", encode(first, tokenizer, sentences, precision=chosen.precision)),
    }
    if find_spec("simcse"):
        import simcse.tool

        simcse.tool.tqdm = lambda steps: tqdm(steps, disable=True)
        tool = simcse.SimCSE(folder, device="cpu", pooler="cls_before_pooler")
        ways["simcse"] = lambda: keep("simcse", tool.encode(sentences))
    encode(mean, tokenizer, sentences[:100], precision=chosen.precision)  # warms up
    seconds = alternate(ways, chosen.rounds, warm_up=False)
    by_characters = sorted(sentences, key=len, reverse=True)
    rows = []
    for peer, ours, order, size in (
        ("sentence-transformers", "ours, mean", by_characters, 32),
        ("simcse", "ours, CLS", sentences, 64),
    ):
        if peer in vectors:
            worst = float((vectors[peer] - vectors[ours]).norm(dim=-1).max())
            row = [
                peer,
                summary(seconds[peer]),
                summary(seconds[ours]),
                ratio(seconds[peer], seconds[ours]),
                bound(tokenizer, order, size),
                SENTENCES / statistics.median(seconds[ours]),
                worst,
            ]
            rows.append(row)
    columns = [
        Column("peer"),
        Column("peer", "s", ".3f"),
        Column("simcse-lit", "s", ".3f"),
        Column("times faster", "", ".2f"),
        Column("bound of the peer's padding", "", ".2f"),
        Column("simcse-lit", "sentences/s", ".0f"),
        Column("largest distance of unit vectors", "", ".0e"),
    ]
    title = f"Encode {SENTENCES:,} STS sentences, {chosen.precision}"
    about = machine("transformers", "sentence-transformers", "simcse")
    report(f"encoding{precision_suffix(chosen.precision)}", __doc__, title, columns, rows, about)


def bound(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[str], size: int) -> float:
    """Return the tokens of batches that are padded to their longest sentence, over the tokens of the sentences."""
    lengths = list(map(len, tokenizer(list(sentences), truncation=True, max_length=EVALUATION_LENGTH)["input_ids"]))
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in batches) / sum(lengths)


if __name__ == "__main__":
    main()
