"""`evaluate` on the seven transfer tasks, from its start to its table, beside the least that its arithmetic takes here.

Run: python benchmarks/transfer.py [--precision bf16-mixed]. The least time is that of the products of the encoder's linear
layers for every token of every different sentence, at the rate that this machine does them in batches of 4,096 tokens,
measured before and after. SentEval's own code gives, on the same files and weights, TREC 90.00, MRPC 72.35 (F1 81.4) and
SST2 81.27. all-MiniLM-L6-v2, SIMCSE_DATA.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from harness import MINILM, machine, precision_option, real_data, report
from torch import nn

from simcse_lit.encoding.passes import AUTOCAST
from simcse_lit.formats.loading import LoadedEncoder, load_encoder

SENTEVAL = {"TREC": 90.00, "MRPC": 72.35, "SST2": 81.27}
TOKENS = 4096
ROUNDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    precision = parser.parse_args().precision
    real_data("SentEval")
    loaded = load_encoder(MINILM, revision=None, pooler=None, projection=None)
    rates = [products_per_second(loaded, precision)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"checkpoint={MINILM}", "tasks=transfer", f"precision={precision}", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "simcse_lit.evaluate", *settings], check=True, capture_output=True)
        (encoder,) = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))["encoders"]
    seconds = time.perf_counter() - start
    rates.append(products_per_second(loaded, precision))
    encoding, tasks = encoder["encoding"], encoder["tasks"]
    products = 2 * encoding["tokens"] * sum(layer.weight.numel() for layer in linear_layers(loaded))
    rate = statistics.mean(rates)
    apart = {name: tasks[name]["score"] - score for name, score in SENTEVAL.items()}
    rows = [
        ["start to table, s", f"{seconds:.0f}"],
        ["of it the encoder's pass, s", f"{encoding['seconds']:.0f}"],
        ["sentences/s of the pass", f"{encoding['sentences_per_second']:.0f}"],
        ["different sentences, tokens", f"{encoding['unique_sentences']:,}, {encoding['tokens']:,}"],
        ["products of its linear layers, TFLOP", f"{products / 1e12:.1f}"],
        ["rate of such products here, before and after, GFLOP/s", " ".join(f"{each / 1e9:.0f}" for each in rates)],
        ["the least that the pass takes at that rate, s", f"{products / rate:.0f}"],
        ["everything but the pass: start, reading, classifiers, s", f"{seconds - encoding['seconds']:.0f}"],
        ["accuracy of " + " ".join(tasks), " ".join(f"{task['score']:.2f}" for task in tasks.values())],
        ["F1 of MRPC", f"{tasks['MRPC']['f1']:.2f}"],
        ["from SentEval's own: " + " ".join(apart), " ".join(f"{each:+.2f}" for each in apart.values())],
    ]
    title = f"Seven transfer tasks, start to table, all-MiniLM-L6-v2, {precision}"
    report("transfer", title, ["", ""], rows, machine("transformers", "scikit-learn"), options=precision_option(precision))


def linear_layers(loaded: LoadedEncoder) -> list[nn.Linear]:
    """Those that every token goes through."""
    named = loaded.encoder.named_modules()  # type: ignore[attr-defined]
    return [layer for name, layer in named if isinstance(layer, nn.Linear) and not name.endswith("pooler.dense")]


@torch.inference_mode()
def products_per_second(loaded: LoadedEncoder, precision: str) -> float:
    """Floating-point operations of the linear layers a second, one after the other, median of ROUNDS rounds."""
    layers, dtype, seconds = linear_layers(loaded), AUTOCAST[precision], []
    inputs = {width: torch.randn(TOKENS, width) for width in {layer.in_features for layer in layers}}
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for layer in layers:
                layer(inputs[layer.in_features])
            seconds.append(time.perf_counter() - start)
    return 2 * TOKENS * sum(layer.weight.numel() for layer in layers) / statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
