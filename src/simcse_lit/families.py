"""Families of tasks. Tasks of a family share a table, a metric and an average. Packages may add to the paper's two."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What the scores of a family's tasks mean, and how tables show them.

    Run folders and results record the family, so that reports can name the metric without the family's package.

    Args:
        name: name in files. Tasks whose families have the same name belong to one family.
        metric: meaning of a score, for people: "nDCG@10 x 100", "accuracy in %".
        title: heading of tables; empty: the name.
        protocol: how the score is measured, for a model card; empty: the metric.
        average: name of the mean over the tasks; empty: there is none.
        columns: order of the table's columns. Other tasks follow by name, then the average unless it is listed.
        hub_task: the Hub's name of the task, for a model card; empty: the name.
        hub_metric: the Hub's name of the metric; empty: the metric.
        lower_is_better: whether a lower score is better, as of a loss.
    """

    name: str
    metric: str
    title: str = ""
    protocol: str = ""
    average: str = ""
    columns: tuple[str, ...] = ()
    hub_task: str = ""
    hub_metric: str = ""
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        """Heading of a table: title and metric."""
        return f"{self.title or self.name}: {self.metric}"

    def in_order(self, names: Collection[str]) -> list[str]:
        """Return the columns with these names in the order of the table."""
        others = sorted(set(names).difference(self.columns, (self.average,)))
        last = [self.average] if self.average in names and self.average not in self.columns else []
        return [*(name for name in self.columns if name in names), *others, *last]


STS = Family(
    "sts",
    "Spearman x 100",
    title="STS",
    protocol="Spearman correlation x 100, no regressor, all subsets of a set together",
    average="Avg.",
    columns=("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."),  # Table 5
    hub_task="sentence-similarity",
    hub_metric="cosine_spearman",
)
TRANSFER = Family(
    "transfer",
    "accuracy in %",
    title="Transfer",
    protocol="Accuracy in % of a logistic regression on the vectors",
    average="Avg. transfer",
    columns=("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC", "Avg. transfer"),  # Table E.1
    hub_task="text-classification",
    hub_metric="accuracy",
)
PAPER = (STS, TRANSFER)
# Scores of the held-out text in masked language modelling. The first selects the best checkpoint.
HELD_OUT = {
    "held-out loss": Family("mlm_loss", "nats per masked token", title="Held-out text", lower_is_better=True),
    "held-out accuracy": Family("mlm_accuracy", "% of the masked tokens", title="Held-out text"),
}
