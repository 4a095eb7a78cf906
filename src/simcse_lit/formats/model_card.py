"""The model card of an export: metadata that the Hub reads, scores, code to use the encoder, settings."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from yaml import YAMLError

from simcse_lit import __version__
from simcse_lit.config.resolvers import is_local, means_file
from simcse_lit.errors import UserError
from simcse_lit.families import PAPER, Family
from simcse_lit.scores import Scores, by_task
from simcse_lit.tables import by_family, markdown_table, score_cells

NEWLINE = "\n"
CODE = re.compile(r"(?<=```python\n).*?(?=\n```)", re.DOTALL)
TRUNCATED = "Vectors are the first"
METHODS = {
    "unsup": " trained with unsupervised SimCSE (dropout as the only noise)",
    "sup": " trained with supervised SimCSE (NLI entailment)",
}
SIMCSE = "Gao, Yao and Chen, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP 2021, arXiv 2104.08821."
MASKED_LM = "Gururangan et al., Don't Stop Pretraining: Adapt Language Models to Domains and Tasks, ACL 2020."


@dataclass(frozen=True)
class Provenance:
    """How a model was made.

    Args:
        base_model: where training started: a Hub id, a `pkg://` location, or a folder or file.
        loss: unsup or sup; None if unknown.
        settings: configuration keys and their values.
        scores: before and after training.
        families: the family of each task in `scores`.
        scored_on: where the test sets of the paper's families came from.
    """

    base_model: str
    loss: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    families: Mapping[str, Family] = field(default_factory=dict)
    scored_on: str = ""


def model_card(
    pooler: str,
    projection: str,
    max_length: int,
    made: Provenance,
    library: str,
    code: str,
    *,
    truncate_dim: int | None = None,
) -> ModelCard:
    """Make the card of an export.

    Args:
        pooler: as in `conf/pooler/`.
        projection: as in `conf/projection/`.
        max_length: tokens to which training cut sentences.
        made: how the model was made.
        library: the name on the Hub of the library that loads the export.
        code: Python that computes embeddings with that library.
        truncate_dim: numbers of a vector that the export keeps; None for all.
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
    title = f"Sentence encoder{METHODS.get(made.loss or '', '')}"
    how = f"Pooler `{pooler}`, projection `{projection}`, sentences cut at {max_length} tokens in training."
    how += "" if truncate_dim is None else f"\n{_truncation(truncate_dim)}"
    return _card(data, title, how, made, code, SIMCSE)


def masked_lm_card(max_length: int, made: Provenance, code: str) -> ModelCard:
    """Make the card of a masked language model; see `model_card` for the arguments."""
    data = ModelCardData(
        base_model=_hub_id(made.base_model), pipeline_tag="fill-mask", library_name="transformers", tags=["fill-mask"]
    )
    how = f"Texts cut at {max_length} tokens in training."
    return _card(data, "Masked language model, pre-training continued", how, made, code, MASKED_LM)


def _card(data: ModelCardData, title: str, how: str, made: Provenance, code: str, method: str) -> ModelCard:
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

# {title}

Made with simcse-lit {__version__} from {_code_span(_shown(made.base_model))}.
{how}
{scores if made.scores else ""}
## Use

```python
{code}
```
{settings if made.settings else ""}
Method: {method}
""")


def _truncation(size: int) -> str:
    return f"{TRUNCATED} {size} numbers of the encoder's vectors (`truncate_dim`). Scores are those of whole vectors."


def card_for_library(path: Path, library: str, code: str, *, truncate_dim: int | None = None) -> ModelCard:
    """Return the card of an export with another library and its code. Everything else stays.

    Args:
        path: the card, a README.md.
        library: the name of the library on the Hub.
        code: replaces the first block of Python in the card.
        truncate_dim: numbers of a vector that the new export keeps; None for all.

    Raises:
        UserError: the metadata of the card cannot be read.
    """
    try:
        # ignore_metadata_errors drops the results of version 0.1, which name no data set
        card: ModelCard = ModelCard.load(path, ignore_metadata_errors=True)
    except (OSError, TypeError, ValueError, YAMLError) as error:
        raise UserError(f"{path}: the metadata at its top cannot be read: {error}\nCorrect or remove the file.") from error
    card.data["library_name"] = library
    card.text = CODE.sub(lambda _: code, card.text, count=1)
    card.text = re.sub(rf"^{TRUNCATED} .*\n", "", card.text, flags=re.MULTILINE)
    if truncate_dim is not None:
        top, heading, rest = card.text.partition("\n## ")
        card.text = f"{top.rstrip()}\n{_truncation(truncate_dim)}\n{heading}{rest}"
    return card


def _results(made: Provenance) -> list[EvalResult]:
    """Return a result for each task after training, without averages and scores that are not finite."""
    results = []
    for task, score in by_task(made.scores).get("after", {}).items():
        if task not in made.families or not math.isfinite(score):
            continue
        family = made.families[task]
        results.append(
            EvalResult(
                task_type=family.hub_task or family.name,
                dataset_type=task.removesuffix("-dev"),
                dataset_name=task,
                dataset_split="dev" if task.endswith("-dev") else None,
                metric_type=family.hub_metric or family.metric,
                metric_name=family.metric,
                metric_value=float(score),  # YAML cannot hold NumPy numbers
            )
        )
    return results


def _tables(made: Provenance) -> list[str]:
    """Return the scores before and after training, a table for each family."""
    tables = []
    for family, rows in by_family(by_task(made.scores).items(), made.families).items():
        origin = f"; test sets from {made.scored_on}" if family in PAPER else ""
        cells = markdown_table(score_cells(rows, made.families))
        tables.append(f"{family.protocol or family.heading}{origin}.\n\n{cells}")
    return tables


def _is_path(name: str) -> bool:
    """Tell whether a name means a file or folder of this machine."""
    return "://" not in name and (is_local(name) or means_file(name))


def _hub_id(name: str) -> str | None:
    """Return the name of a model if it is an id on the Hub, else None."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if _is_path(name) else name


def _shown(value: object) -> str:
    """Return a value as text, without the folders of this machine in a path."""
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    text = str(value)
    return Path(text).expanduser().absolute().name if _is_path(text) else text


def _code_span(text: str) -> str:
    """Return any text as Markdown code in one line."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
