"""Saves a trained encoder as a Hugging Face folder that says how its vectors are read, and loads it back.

The folder loads with plain AutoModel and AutoTokenizer. `config.json` holds a section `simcse` with pooler and projection,
so nobody passes them again. A projection that is kept at evaluation behind the first token is stored where BERT keeps its
pooler, as in the paper's checkpoints: AutoModel's `pooler_output` is then the embedding.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit import __version__
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.encoder.adapter import merge_adapter
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.model_card import PROJECTION, Provenance, model_card, stored_as_pooler, usage


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
    with replacing(folder) as partial:
        write(encoder, tokenizer, partial, max_length)
        longest = min(EVALUATION_LENGTH, tokenizer.model_max_length)
        card = model_card(encoder.pooler, encoder.projection_name, max_length, provenance, usage(encoder, longest))
        (partial / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` once it is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> None:
    """Write weights, configuration and tokenizer to a folder that is there; what the arguments are, `export` says."""
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
