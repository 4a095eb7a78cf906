"""Loads the encoder of a Lightning checkpoint. Only tensors and plain containers are unpickled."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import ModelConfig
from simcse_lit.disk import damage
from simcse_lit.encoder.adapter import add_adapter, merge_adapter, recorded_adapter
from simcse_lit.encoder.architecture import check_pooler
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.denoising import recorded_denoising
from simcse_lit.encoder.encoder import CHECKPOINT_SECTION, Nodes, SentenceEncoder, parts_of
from simcse_lit.errors import UserError
from simcse_lit.text.prompts import Prompts, recorded_prompts


def load_checkpoint(
    source: str, *, trust_remote_code: bool = False, own: Nodes | None = None
) -> tuple[SentenceEncoder, PreTrainedTokenizerFast, Prompts]:
    """Load the encoder, in evaluation mode, with its tokenizer and prompts.

    Architecture and tokenizer come from the model that training started from.

    Args:
        source: FILE.ckpt.
        trust_remote_code: run the Python code that this model brings, whatever the checkpoint records.
        own: the nodes `pooler` and `projection` that the user typed. They may name classes that no package registers.

    Raises:
        UserError: the file is missing or damaged or is not a checkpoint of simcse-lit, the model no longer exists, or a
            pooler or head is not installed here.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint: {source}: there is no such file (looked in {path.absolute().parent}).")
    saved = _read(source, path)
    recorded = saved.get(CHECKPOINT_SECTION)
    if recorded is None:
        raise UserError(f"checkpoint: {source}: does not describe its encoder, so it is not a checkpoint of simcse-lit.")
    if recorded.get("language_model"):
        run = path.parent.parent
        done = (run / "export" / "config.json").is_file()
        way = f"Use the export of the run: checkpoint={run / 'export'}" if done else f"Finish the run: resume={run}"
        raise UserError(f"checkpoint: {source}: holds a masked language model, and no sentence encoder.\n{way}")
    try:
        here = {"pretrained": False, "sha256": None, "gradient_checkpointing": False}  # the weights come from the checkpoint
        model = ModelConfig(**recorded["model"] | here | {"attention": None, "trust_remote_code": trust_remote_code})
        pooler, head = parts_of(recorded, source, own)
        adapter = recorded_adapter(recorded.get("adapter", {"name": "none"}), source)
        prompts, denoising = recorded_prompts(recorded), recorded_denoising(recorded)
        weights = {
            name.removeprefix("encoder."): value
            for name, value in saved["state_dict"].items()
            if name.startswith(("encoder.backbone.", "encoder.projection.", "encoder.pooler."))
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint: {source}: comes from another version of simcse-lit, or is damaged: {error}") from error
    try:
        backbone, tokenizer = load_backbone(model, mlm=False, key="checkpoint")
    except UserError as error:
        raise UserError(
            f"{error}\n{source} holds weights; architecture and tokenizer come from the model that\n"
            f"it was trained from, {model.name_or_path}.{_instead(path)}"
        ) from error
    try:
        encoder = SentenceEncoder(backbone, pooler, head)
        encoder.denoising = denoising
        add_adapter(encoder.backbone, adapter)
        if encoder.projection is None and head.when == "training":  # its package is not installed, and is not needed
            weights = {name: value for name, value in weights.items() if not name.startswith("projection.")}
        encoder.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"checkpoint: {source}: does not fit {model.name_or_path}: {reason}{_instead(path)}") from error
    merge_adapter(encoder.backbone)
    check_pooler(pooler, encoder.backbone, tokenizer, source, saved=True)
    return encoder.eval(), tokenizer, prompts


def _read(source: str, path: Path) -> dict[str, Any]:
    if damaged := damage(path):
        raise UserError(f"checkpoint: {source}: is not a checkpoint that can be read safely: it {damaged}.{_instead(path)}")
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a file that is not a checkpoint
        reason = str(error).splitlines()[0]
        raise UserError(f"checkpoint: {source}: is not a checkpoint that can be read safely: {reason}") from error
    return saved if isinstance(saved, dict) else {}


def _instead(path: Path) -> str:
    """Suggest what to name instead of a checkpoint that cannot be loaded: the export of its run, or another checkpoint."""
    folders = path.parents if len(path.parents) > 1 else path.absolute().parents
    for export in (folder / "export" for folder in folders[:2]):
        if (export / "config.json").is_file():
            return f"\nThe export of the run is complete: checkpoint={export}"
    whole = [other for other in sorted(path.parent.glob("*.ckpt")) if other != path and not damage(other)]
    return f"\nAnother checkpoint of the run: checkpoint={whole[0]}" if whole else ""
