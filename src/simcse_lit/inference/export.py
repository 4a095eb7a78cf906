"""Saves a trained encoder as a Hugging Face folder that says how its vectors are read, and loads it back.

The folder loads with plain AutoModel and AutoTokenizer. `config.json` holds a section `simcse` with pooler and projection,
so nobody passes them again. A projection that is kept at evaluation behind the first token is stored where BERT keeps its
pooler, as in the paper's checkpoints: AutoModel's `pooler_output` is then the embedding.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit import __version__
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.errors import UserError
from simcse_lit.model.adapter import merge_adapter
from simcse_lit.model.encoder import SentenceEncoder
from simcse_lit.reporting.tables import markdown_table, ordered

PROJECTION = "projection.safetensors"


@dataclass(frozen=True)
class Provenance:
    """What a model card says of a model's making.

    Args:
        base_model: where training started.
        loss: unsup or sup.
        settings: configuration keys and their values.
        scores: label ("before", "after") to task to score.
        scored_on: where the test sets came from.
    """

    base_model: str
    loss: str
    settings: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    scored_on: str


def export(
    encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast, folder: Path, *, max_length: int, provenance: Provenance
) -> None:
    """Write the encoder to `folder`; an older export there is replaced once the new one is whole.

    Args:
        encoder: the encoder, on any device; an adapter is merged into its weights.
        tokenizer: its tokenizer.
        folder: where to write.
        max_length: tokens to which training cut sentences; recorded.
        provenance: for the model card.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(encoder, tokenizer, partial, max_length)
        longest = min(EVALUATION_LENGTH, tokenizer.model_max_length)
        (partial / "README.md").write_text(_model_card(encoder, max_length, longest, provenance), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> None:
    merge_adapter(encoder.backbone)
    config = encoder.backbone.config
    config.simcse = {
        "pooler": encoder.pooler,
        "projection": encoder.projection_name,
        "max_length": max_length,
        "version": __version__,
    }
    config.architectures = [type(encoder.backbone).__name__]
    config.save_pretrained(folder)
    weights = _on_cpu(encoder.backbone)
    if encoder.projection is not None:
        projection = _on_cpu(encoder.projection)
        save_file(projection, folder / PROJECTION)
        if stored_as_pooler(encoder):
            weights |= {f"pooler.{name}": tensor.clone() for name, tensor in projection.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def stored_as_pooler(encoder: SentenceEncoder) -> bool:
    """Whether AutoModel's `pooler_output` is the embedding: first token, projection kept, and a pooler of BERT's kind."""
    return encoder.projection_name == "mlp" and encoder.pooler == "cls" and encoder.backbone_has_mlp_pooler


def _on_cpu(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def load_export(folder: str | Path) -> tuple[SentenceEncoder, PreTrainedTokenizerFast]:
    """The encoder and tokenizer of a folder that `export` wrote, with its pooler and projection, in evaluation mode.

    Raises:
        UserError: the folder is missing, damaged, or was not written by `export`.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: is no model folder (no config.json).")
    recorded = recorded_section(folder)
    if recorded is None:
        raise UserError(f"{folder}: config.json has no section simcse; it is no export of simcse-lit.")
    try:
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
        encoder = SentenceEncoder(backbone, recorded["pooler"], recorded["projection"])
        if encoder.projection is not None:
            encoder.projection.load_state_dict(load_file(folder / PROJECTION))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except KeyError as error:
        raise UserError(f"{folder}: section simcse of config.json has no {error}; it comes from another version.") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: the export is damaged: {str(error).splitlines()[0]}\nExport it again.") from error
    return encoder.eval(), cast(PreTrainedTokenizerFast, tokenizer)


def recorded_section(folder: Path) -> dict[str, str] | None:
    """What a model folder's `config.json` says of pooler and projection; None if it is no export of ours.

    Raises:
        UserError: `config.json` cannot be read.
    """
    try:
        return getattr(AutoConfig.from_pretrained(folder), "simcse", None)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: config.json cannot be used: {str(error).splitlines()[0]}") from error


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


def _model_card(encoder: SentenceEncoder, max_length: int, evaluation_length: int, made: Provenance) -> str:
    after = made.scores.get("after", {})
    results = [
        {"type": "cosine_spearman", "name": f"Spearman x 100 on {task}", "value": round(after[task], 2)}
        for task in ordered(set(after))
    ]
    index = {"name": "simcse-lit", "results": [{"task": {"type": "sentence-similarity"}, "metrics": results}]}
    settings = "\n".join(f"| `{key}` | `{value}` |" for key, value in made.settings.items())
    method = {"unsup": "unsupervised SimCSE (dropout as the only noise)", "sup": "supervised SimCSE (NLI entailment)"}
    return f"""---
pipeline_tag: sentence-similarity
library_name: transformers
tags: [sentence-similarity, simcse]
model-index: {json.dumps([index])}
---

# Sentence encoder trained with {method[made.loss]}

Trained with simcse-lit {__version__} from `{made.base_model}`.
Pooler `{encoder.pooler}`, projection `{encoder.projection_name}`, sentences cut at {max_length} tokens in training.

## Scores

Spearman correlation x 100, no regressor, all subsets of a set together; test sets from {made.scored_on}.

{markdown_table(made.scores)}

## Use

```python
{usage(encoder, evaluation_length)}
```

## Settings

| key | value |
|---|---|
{settings}

Method: Gao, Yao and Chen, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP 2021, arXiv 2104.08821.
"""
