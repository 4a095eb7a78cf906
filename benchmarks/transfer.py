"""`python -m simcse_lit.evaluate` on the seven transfer tasks with all-MiniLM-L6-v2, from its start to its table,
beside the least time that its arithmetic takes on the machine: that of the products of the encoder's linear layers for
every token of every unique sentence, at the rate that the machine does them in batches of 4,096 tokens, measured before
and after. Scores are compared with those of SentEval's own code on the same files and weights.

Run: python benchmarks/transfer.py [--precision bf16-mixed]. Needs SIMCSE_DATA.
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
from harness import MINILM, QUANTITIES, machine, precision_suffix, real_data, report
from torch import nn

from simcse_lit.encoding.passes import AUTOCAST
from simcse_lit.formats.loading import LoadedEncoder, load_encoder

SENTEVAL = {"TREC": 90.00, "MRPC": 72.35, "SST2": 81.27}  # accuracy by SentEval's code, whose F1 on MRPC is 81.4
TOKENS = 4096
ROUNDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
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
        ["start to table", round(seconds), "s"],
        ["of it the encoder's pass", round(encoding["seconds"]), "s"],
        ["rate of the pass", round(encoding["sentences_per_second"]), "sentences/s"],
        ["unique sentences", encoding["unique_sentences"], "sentences"],
        ["their tokens", encoding["tokens"], "tokens"],
        ["products of the encoder's linear layers", round(products / 1e12, 1), "TFLOP"],
        ["rate of such products, before and after", [round(each / 1e9) for each in rates], "GFLOP/s"],
        ["least time of the pass at that rate", round(products / rate), "s"],
        ["everything but the pass: start, reading, classifiers", round(seconds - encoding["seconds"]), "s"],
        [f"scores of {' '.join(tasks)}", [round(task["score"], 2) for task in tasks.values()], "accuracy x 100"],
        ["F1 of MRPC", round(tasks["MRPC"]["f1"], 2), "F1 x 100"],
        [f"difference from SentEval's {' '.join(apart)}", [round(each, 2) for each in apart.values()], "accuracy x 100"],
    ]
    title = f"Seven transfer tasks, start to table, {precision}"
    name = f"transfer{precision_suffix(precision)}"
    report(name, __doc__, title, QUANTITIES, rows, machine("transformers", "scikit-learn"))


def linear_layers(loaded: LoadedEncoder) -> list[nn.Linear]:
    """Return the linear layers that every token goes through."""
    named = loaded.encoder.named_modules()  # type: ignore[attr-defined]
    return [layer for name, layer in named if isinstance(layer, nn.Linear) and not name.endswith("pooler.dense")]


@torch.inference_mode()
def products_per_second(loaded: LoadedEncoder, precision: str) -> float:
    """Measure the floating-point operations of the linear layers in a second, median of ROUNDS rounds."""
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
