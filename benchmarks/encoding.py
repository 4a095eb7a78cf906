"""6,000 STS sentences through our encoder, sentence-transformers and the reference's tool.

Run: python benchmarks/encoding.py [--rounds N] [--precision bf16-mixed]

Each peer with its defaults and with ours on the same weights: sentence-transformers against mean pooling, `simcse` (which
only reads the first token) against `cls_before_pooler`; how far the vectors are apart is printed. A random sample of the
unique sentences of the seven STS sets, tokenising included, A B A B in one run, medians. The bound is what leaving a peer's
padding out can give at most: its batches, sorted by characters or not, against the sentences' own tokens. Needs `pip install
--no-deps simcse==0.4`, which pins a numpy and a scipy of years ago.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from harness import MINILM, alternate, machine, precision_option, ratio, real_data, report, summary, train_config
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="ours")
    chosen = parser.parse_args()
    from sentence_transformers import SentenceTransformer

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
            rows.append([peer, summary(seconds[peer]), summary(seconds[ours]), f"{ratio(seconds[peer], seconds[ours]):.2f}x",
                         f"{bound(tokenizer, order, size):.2f}x", f"{SENTENCES / statistics.median(seconds[ours]):.0f}",
                         f"{worst:.0e}"])  # fmt: skip
    report(
        "encoding",
        f"Encode {SENTENCES:,} STS sentences, all-MiniLM-L6-v2, {chosen.precision}",
        [
            "peer, its defaults (float32)",
            "s",
            "ours, s",
            "faster",
            "bound of its padding",
            "ours, sentences/s",
            "largest distance of unit vectors",
        ],
        rows,
        machine("transformers", "sentence-transformers", "simcse"),
        options=precision_option(chosen.precision),
    )


def bound(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[str], size: int) -> float:
    """Tokens of batches that are padded to their longest sentence, over the tokens of the sentences."""
    lengths = list(map(len, tokenizer(list(sentences), truncation=True, max_length=EVALUATION_LENGTH)["input_ids"]))
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in batches) / sum(lengths)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
