"""The card of an exported model: scores, how to use it, settings. Written by `export.py`, changed by `interop.py`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simcse_lit import __version__
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.scores import Scores, by_task
from simcse_lit.tables import markdown_table, ordered, score_cells

PROJECTION = "projection.safetensors"
NEWLINE = "\n"


@dataclass(frozen=True)
class Provenance:
    """What a model card says of a model's making.

    Args:
        base_model: where training started.
        loss: unsup or sup; None if that is not known.
        settings: configuration keys and their values.
        scores: of the development set and the test sets, before and after training.
        scored_on: where the test sets came from.
    """

    base_model: str
    loss: str | None
    settings: Mapping[str, Any]
    scores: Scores
    scored_on: str


def stored_as_pooler(encoder: SentenceEncoder) -> bool:
    """Whether AutoModel's `pooler_output` is the embedding: first token, projection kept, and a pooler of BERT's kind."""
    return encoder.projection_name == "mlp" and encoder.pooler == "cls" and encoder.backbone_has_mlp_pooler


_SNIPPETS = {
    "pooler_output": "vectors = output.pooler_output",
    "cls": "vectors = output.last_hidden_state[:, 0]",
    "avg": 'mask = batch["attention_mask"].unsqueeze(-1)\nvectors = (output.last_hidden_state * mask).sum(1) / mask.sum(1)',
    "avg_first_last": (
        'mask = batch["attention_mask"].unsqueeze(-1)\n'
        "vectors = ((output.hidden_states[1] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    ),
    "avg_top2": (
        'mask = batch["attention_mask"].unsqueeze(-1)\n'
        "vectors = ((output.hidden_states[-2] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    ),
    "last_token": (
        'mask = batch["attention_mask"]\n'
        "last = (mask * torch.arange(mask.shape[1])).amax(1)\n"
        "vectors = output.last_hidden_state[torch.arange(len(last)), last]"
    ),
}


def usage(encoder: SentenceEncoder, max_length: int) -> str:
    """Python code that computes the embeddings with transformers alone, for the model card."""
    pooler = "cls" if encoder.pooler == "cls_before_pooler" else encoder.pooler
    lines = [
        "import torch",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        "tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()",
        'sentences = ["A man is playing a guitar.", "Somebody makes music."]',
        'batch = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")'.replace(
            "MAX_LENGTH", str(max_length)
        ),
        "with torch.no_grad():",
        "    output = model(**batch, output_hidden_states=True)",
        _SNIPPETS["pooler_output" if stored_as_pooler(encoder) else pooler],
    ]
    if encoder.projection_name == "mlp" and not stored_as_pooler(encoder):
        lines[1:1] = ["from safetensors.torch import load_file"]
        lines += [
            f'mlp = load_file(f"{{folder}}/{PROJECTION}")',
            'vectors = torch.tanh(vectors @ mlp["dense.weight"].T + mlp["dense.bias"])',
        ]
    return "\n".join(lines)


def model_card(pooler: str, projection: str, max_length: int, made: Provenance, code: str) -> str:
    """The README.md of an export.

    Args:
        pooler: as in `conf/pooler/`.
        projection: as in `conf/projection/`.
        max_length: tokens to which training cut sentences.
        made: what is known of its making.
        code: Python that computes embeddings.
    """
    by_stage = by_task(made.scores)
    after = by_stage.get("after", {})
    results = [
        {"type": "cosine_spearman", "name": f"Spearman x 100 on {task}", "value": round(after[task], 2)}
        for task in ordered(set(after))
    ]
    index = {"name": "simcse-lit", "results": [{"task": {"type": "sentence-similarity"}, "metrics": results}]}
    method = {
        "unsup": " trained with unsupervised SimCSE (dropout as the only noise)",
        "sup": " trained with supervised SimCSE (NLI entailment)",
    }
    scores = f"""
## Scores

Spearman correlation x 100, no regressor, all subsets of a set together; test sets from {made.scored_on}.

{markdown_table(score_cells(by_stage.items()))}
"""
    settings = f"""
## Settings

| key | value |
|---|---|
{NEWLINE.join(f"| `{key}` | `{value}` |" for key, value in made.settings.items())}
"""
    return f"""---
pipeline_tag: sentence-similarity
library_name: transformers
tags: [sentence-similarity, simcse]
model-index: {json.dumps([index])}
---

# Sentence encoder{method.get(made.loss or "", "")}

Made with simcse-lit {__version__} from `{made.base_model}`.
Pooler `{pooler}`, projection `{projection}`, sentences cut at {max_length} tokens in training.
{scores if made.scores else ""}
## Use

```python
{code}
```
{settings if made.settings else ""}
Method: Gao, Yao and Chen, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP 2021, arXiv 2104.08821.
"""


def card_with(code: str, library: str, card: str) -> str:
    """An export's card with other code to use it, for another library."""
    card = re.sub(r"```python\n.*?```", lambda _: f"```python\n{code}\n```", card, count=1, flags=re.DOTALL)
    return card.replace("library_name: transformers\n", f"library_name: {library}\n", 1)
