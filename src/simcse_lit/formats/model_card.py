"""The model card of an export: metadata that the Hub reads, scores, code to use the encoder, settings."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from yaml import YAMLError

from simcse_lit import __version__
from simcse_lit.config.resolvers import is_local, means_file
from simcse_lit.errors import UserError
from simcse_lit.scores import Scores, by_task
from simcse_lit.tables import markdown_table, score_cells

NEWLINE = "\n"
CODE = re.compile(r"(?<=```python\n).*?(?=\n```)", re.DOTALL)
METHODS = {
    "unsup": " trained with unsupervised SimCSE (dropout as the only noise)",
    "sup": " trained with supervised SimCSE (NLI entailment)",
}


class Metric(NamedTuple):
    """What the tasks of a family measure.

    Args:
        task: the Hub's name of the task.
        type: the Hub's name of the metric.
        name: the metric's name for people.
        protocol: how it is measured.
        average: the name of the family's average among the scores.
    """

    task: str
    type: str
    name: str
    protocol: str
    average: str | None = None


METRICS = {
    "sts": Metric(
        task="sentence-similarity",
        type="cosine_spearman",
        name="Cosine Spearman x 100",
        protocol="Spearman correlation x 100, no regressor, all subsets of a set together",
        average="Avg.",
    ),
    "transfer": Metric(
        task="text-classification",
        type="accuracy",
        name="Accuracy in %",
        protocol="Accuracy in % of a logistic regression on the vectors",
        average="Avg. transfer",
    ),
}


@dataclass(frozen=True)
class Provenance:
    """How a model was made.

    Args:
        base_model: where training started: a Hub id, a `pkg://` location, or a folder or file.
        loss: unsup or sup; None if unknown.
        settings: configuration keys and their values.
        scores: before and after training.
        families: the family of each task in `scores`: sts, transfer, or another.
        scored_on: where the test sets came from.
    """

    base_model: str
    loss: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    scored_on: str = ""


def model_card(pooler: str, projection: str, max_length: int, made: Provenance, library: str, code: str) -> ModelCard:
    """The card of an export.

    Args:
        pooler: as in `conf/pooler/`.
        projection: as in `conf/projection/`.
        max_length: tokens to which training cut sentences.
        made: how the model was made.
        library: the Hub's name of the library that loads the export.
        code: Python that computes embeddings with that library.
    """
    results = _results(made)
    data = ModelCardData(
        base_model=_hub_id(made.base_model),
        pipeline_tag="sentence-similarity",
        library_name=library,
        tags=["sentence-similarity", "simcse"],
        model_name="simcse-lit" if results else None,
        eval_results=results or None,
    )
    scores = f"""
## Scores

{(NEWLINE * 2).join(_tables(made))}
"""
    shown = {key: _code_span(_shown(value)).replace("|", "\\|") for key, value in made.settings.items()}
    settings = f"""
## Settings

| key | value |
|---|---|
{NEWLINE.join(f"| `{key}` | {value} |" for key, value in shown.items())}
"""
    return ModelCard(f"""---
{data}
---

# Sentence encoder{METHODS.get(made.loss or "", "")}

Made with simcse-lit {__version__} from {_code_span(_shown(made.base_model))}.
Pooler `{pooler}`, projection `{projection}`, sentences cut at {max_length} tokens in training.
{scores if made.scores else ""}
## Use

```python
{code}
```
{settings if made.settings else ""}
Method: Gao, Yao and Chen, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP 2021, arXiv 2104.08821.
""")


def card_for_library(path: Path, library: str, code: str) -> ModelCard:
    """An export's card with another library and its code; everything else in it stays.

    Args:
        path: the card, a README.md.
        library: the Hub's name of the library.
        code: replaces the card's first block of Python.

    Raises:
        UserError: the card's metadata cannot be read.
    """
    try:
        # ignore_metadata_errors drops the results of version 0.1, which name no data set
        card: ModelCard = ModelCard.load(path, ignore_metadata_errors=True)
    except (OSError, TypeError, ValueError, YAMLError) as error:
        raise UserError(f"{path}: the metadata at its top cannot be read: {error}\nCorrect or remove the file.") from error
    card.data["library_name"] = library
    card.text = CODE.sub(lambda _: code, card.text, count=1)
    return card


def _metric(family: str) -> Metric:
    return METRICS.get(family) or Metric(family, family, family, family)


def _results(made: Provenance) -> list[EvalResult]:
    """One result a task after training. Averages belong to no data set, and a NaN or an infinity is no result."""
    results = []
    for task, score in by_task(made.scores).get("after", {}).items():
        if task not in made.families or not math.isfinite(score):
            continue
        metric = _metric(made.families[task])
        results.append(
            EvalResult(
                task_type=metric.task,
                dataset_type=task.removesuffix("-dev"),
                dataset_name=task,
                dataset_split="dev" if task.endswith("-dev") else None,
                metric_type=metric.type,
                metric_name=metric.name,
                metric_value=float(score),  # NumPy numbers are not for YAML
            )
        )
    return results


def _tables(made: Provenance) -> list[str]:
    """The scores before and after training, one table a family."""
    tables = []
    for family in dict.fromkeys(made.families.values()):
        metric = _metric(family)
        names = {task for task in made.families if made.families[task] == family} | {metric.average}
        rows = {
            stage: {task: score for task, score in row.items() if task in names}
            for stage, row in by_task(made.scores).items()
        }
        table = markdown_table(score_cells([(stage, row) for stage, row in rows.items() if row]))
        tables.append(f"{metric.protocol}; test sets from {made.scored_on}.\n\n{table}")
    return tables


def _is_path(name: str) -> bool:
    """Whether a name means a file or folder of this machine."""
    return "://" not in name and (is_local(name) or means_file(name))


def _hub_id(name: str) -> str | None:
    """A model's name if it is an id on the Hub."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if _is_path(name) else name


def _shown(value: object) -> str:
    """A value as text, without the folders of this machine that lead to a file."""
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    text = str(value)
    return Path(text).expanduser().absolute().name if _is_path(text) else text


def _code_span(text: str) -> str:
    """Text as Markdown code in one line, whatever it holds."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
