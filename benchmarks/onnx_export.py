"""all-MiniLM-L6-v2 run by torch, by onnxruntime in float32 and by onnxruntime in int8: size on disk, speed with
everything that `evaluate` does around the encoder, score on the development set of STS-B, and largest difference from
torch's vectors. Same sentences, batches and threads, A B C A B C in one run.

Run: python benchmarks/onnx_export.py [--rounds N]. STS-B's development set if SIMCSE_DATA is set, else the bundled
pairs.
"""

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from harness import MINILM, Column, machine, report
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.encoding.passes import encode_into
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.suite import make_task, unique_sentences
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.onnx import write_onnx
from simcse_lit.reporting.run import console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    schema.register()
    resolvers.register()
    console.quiet_libraries()
    option = "STS-B-dev" if "SIMCSE_DATA" in os.environ else "samples"
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = validate_evaluation(compose("evaluate", [f"checkpoint={MINILM}", f"tasks={option}", "run_dir=unused"]))
    ((name, entry),) = config.tasks.items()
    task = make_task(name, entry, SentEval(config.senteval))
    sentences = unique_sentences([task])
    with tempfile.TemporaryDirectory() as folder:
        ways = {"torch": load(MINILM)}
        for way, int8 in (("ONNX, float32", False), ("ONNX, int8", True)):
            export_as(ways["torch"], Path(folder) / way, partial(write_onnx, int8=int8))
            ways[way] = load(str(Path(folder) / way))
        sizes = {way: (Path(folder) / way / "model.onnx").stat().st_size for way in ways if way != "torch"}
        sizes["torch"] = sum(weights.numel() * weights.element_size() for weights in ways["torch"].encoder.parameters())
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        found: dict[str, Embeddings] = {}
        for _ in range(rounds):
            for way, loaded in ways.items():
                start = time.perf_counter()
                found[way] = encode(loaded, sentences, config.token_budget)
                seconds[way].append(time.perf_counter() - start)
    rows = []
    for way, embeddings in found.items():
        apart = float((embeddings(sentences) - found["torch"](sentences)).abs().max())
        speed = len(sentences) / statistics.median(seconds[way])
        rows.append([way, sizes[way] / 2**20, speed, task.score(embeddings).score, apart if way != "torch" else None])
    columns = [
        Column("run by"),
        Column("size", "MiB", ".1f"),
        Column("speed", "sentences/s", ".0f"),
        Column(name, "Spearman x 100", ".2f"),
        Column("largest difference from torch", "", ".1e"),
    ]
    title = f"ONNX and torch on {len(sentences):,} sentences"
    report("onnx_export", __doc__, title, columns, rows, machine("transformers", "onnxruntime"))


def load(source: str) -> LoadedEncoder:
    return load_encoder(source, revision=None, pooler=None, projection=None)


def encode(loaded: LoadedEncoder, sentences: list[str], token_budget: int) -> Embeddings:
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
    return embeddings


if __name__ == "__main__":
    main()
