"""The keys of the configuration that tell most about a run, and the numbers that training logs, with their titles."""

from collections.abc import Iterable
from dataclasses import dataclass

SETTINGS = (  # in the order in which a model card and a report list them
    "model.name_or_path",
    "model.num_layers",
    "adapter.name",
    "loss.name",
    "loss.temperature",
    "loss.similarity",
    "loss.encoders",
    "loss.fixed_dropout",
    "loss.hard_negative_weight",
    "loss.mlm_weight",
    "loss.mlm_tied",
    "pooler.name",
    "projection.name",
    "data.train_file",
    "data.next_sentences",
    "augmentation.name",
    "data.batch_size",
    "data.max_length",
    "optimizer.lr",
    "optimizer.schedule",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.precision",
    "seed",
)


@dataclass(frozen=True)
class Curve:
    """How to show a number that training logs.

    Args:
        title: what it is.
        unit: of its axis; "" if it has none.
        section: of the W&B dashboard; None to leave it out there, since most runs do not log it.
    """

    title: str
    unit: str
    section: str | None


CURVES = {
    "train/loss": Curve("Training loss", "nats", "Learning"),
    "val/sts": Curve("Development set", "Spearman × 100", "Learning"),
    "val/alignment": Curve("Alignment (lower is more aligned)", "", "Learning"),
    "val/uniformity": Curve("Uniformity (lower is more uniform)", "nats", "Learning"),
    "train/positive_cosine": Curve("Cosine of positives", "mean over the batch", "Optimisation"),
    "train/negative_cosine": Curve("Cosine of negatives", "mean over the batch", "Optimisation"),
    "train/loss/contrastive": Curve("Contrastive loss", "nats", None),
    "train/loss/mlm": Curve("Masked language modelling", "loss, nats", None),
    "train/gradient_norm": Curve("Gradient norm", "before clipping", "Optimisation"),
    "lr": Curve("Learning rate", "", "Optimisation"),  # logged as lr-OPTIMISER
    "train/sentences_per_second": Curve("Throughput", "sentences a second", "Speed"),
}

NO_CURVES = ("lr-", "before/", "test/")  # other groups of parameters; scores, which tables hold
PANELS = 5  # of one figure


def other_curves(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group the logged numbers that are not of CURVES, such as those of a term or an analysis of another package.

    Args:
        names: of numbers.

    Returns:
        Title of a figure to its numbers, each with its label: a figure for each term, with its loss first; then one for
        `val/`, where analyses log, and one for each other beginning. A figure has at most PANELS numbers.
    """
    grouped: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda name: (not name.startswith("train/loss/"), name)):
        if name in CURVES or name.startswith(NO_CURVES):
            continue
        first, slash, rest = name.partition("/")
        term, _, number = name.removeprefix("train/loss/").partition("/")
        if name.startswith("train/loss/"):
            title, label = f"Term {term}", number or "loss, nats"
        elif first == "val" and slash:
            title, label = "Analyses of the development set", rest
        else:
            title, label = (f"Other numbers of {first}", rest) if slash else ("Other numbers", name)
        grouped.setdefault(title, {})[name] = label
    found: dict[str, dict[str, str]] = {}
    for title, labels in grouped.items():
        for start in range(0, len(labels), PANELS):
            part = f"{title}, {1 + start // PANELS}" if len(labels) > PANELS else title
            found[part] = dict(list(labels.items())[start : start + PANELS])
    return found
