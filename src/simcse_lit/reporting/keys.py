"""Lists of what reports show: the configuration keys that describe a run, and titles and units of logged numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

SETTINGS = (  # in the order of model cards and reports
    "model.name_or_path",
    "model.num_layers",
    "model.reinit_layers",
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
        title: of the figure.
        unit: label of the axis; "" without a unit.
        section: of the W&B dashboard; None to leave it out there, since most runs do not log the number.
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
    "val/mlm_loss": Curve("Held-out loss", "nats per masked token", None),
    "val/mlm_accuracy": Curve("Held-out accuracy", "% of the masked tokens", None),
    "train/gradient_norm": Curve("Gradient norm", "before clipping", "Optimisation"),
    "lr": Curve("Learning rate", "", "Optimisation"),  # logged as lr-OPTIMISER
    "train/sentences_per_second": Curve("Throughput", "sentences a second", "Speed"),
}

NO_CURVES = ("lr-", "before/", "test/")  # learning rates of other parameter groups; scores, which tables show
PANELS = 5  # at most in one figure


def other_curves(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group logged numbers that are not in CURVES into figures, such as those of your own term or analysis.

    Args:
        names: of the logged numbers.

    Returns:
        By the title of a figure, the label of each of its numbers by name. There is a figure for each term, with its loss
        first, then one for `val/`, where analyses log, and one for each other prefix. A figure has at most PANELS numbers.
    """
    grouped: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda name: (not name.startswith("train/loss/"), name)):
        if name in CURVES or name.startswith(NO_CURVES):
            continue
        first, slash, rest = name.partition("/")
        term, _, number = name.removeprefix("train/loss/").partition("/")
        if name.startswith("train/loss/"):
            title, label = f"Term {term}", number or "loss"
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
