"""Reads the checkpoints of the paper's own training code (princeton-nlp/SimCSE): a backbone under `bert.` or `roberta.`,
the projection under `mlp.`, and sometimes a language-modelling head.
"""

import logging
import re
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.architecture import longest_input
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.pretrained import Pretrained
from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

TRAINED_LENGTH = 32  # tokens, in all recipes of the paper
# Weights that the encoder does not have: the MLM head, the pooler of BERT, which SimCSE never uses, and a constant.
DROPPED = re.compile(r"lm_head\.|(bert|roberta)\.pooler\.|.*\.position_ids$")
NAMED = re.compile(r"(?<![a-z])(unsup|sup)(ervised)?(?![a-z])")


class Imported(NamedTuple):
    """An encoder with its tokenizer, the loss that trained it if known, and the reason for its pooler and projection."""

    encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerFast
    loss: str | None
    why: str


def read_paper_checkpoint(
    folder: Path, *, tokenizer: str | None, pooler: str | None, projection: str | None, trust_remote_code: bool = False
) -> Imported:
    """Load the encoder of a checkpoint, in evaluation mode.

    Args:
        folder: a folder with config.json, and pytorch_model.bin or model.safetensors.
        tokenizer: a folder or Hub id, if this folder has no tokenizer.
        pooler: None means `cls` if the checkpoint has a projection, since the paper's code has one for `cls` only.
        projection: None decides by the name of the folder, since no file that can be read safely records whether the
            projection is for training only (`--mlp_only_train`).
        trust_remote_code: run the Python code that the checkpoint or the tokenizer brings.

    Raises:
        UserError: files are missing, are damaged or hold other weights, or pooler or projection has to be named.
    """
    weights = _weights(folder)
    prefix = next((name for name in ("bert.", "roberta.") if any(key.startswith(name) for key in weights)), None)
    if prefix is None:
        raise UserError(
            f"checkpoint: {folder}: has no weights named bert.… or roberta.…, so the paper's training code did not save it."
            f"\nA converted one needs no import: simcse-lit evaluate checkpoint={folder} pooler=cls"
        )
    trained = {key.removeprefix("mlp."): value for key, value in weights.items() if key.startswith("mlp.")}
    kept = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    kept = {key: value for key, value in kept.items() if not DROPPED.match(prefix + key)}
    strange = [key for key in weights if not (key.startswith((prefix, "mlp.")) or DROPPED.match(key))]
    if strange:
        raise UserError(f"checkpoint: {folder}: holds weights that the paper's code does not have, e.g. {strange[0]}.")
    pooler, projection, loss, why = _reads(folder, bool(trained), pooler, projection)
    try:
        given = Pretrained(str(folder), "checkpoint", trust_remote_code=trust_remote_code)
        backbone = given.untrained(given.config())
        encoder = SentenceEncoder(backbone, pooler, projection)
        encoder.backbone.load_state_dict(kept)
        if encoder.projection is not None:
            encoder.projection.load_state_dict(trained)
        key = "tokenizer" if tokenizer else "checkpoint"
        words = Pretrained(tokenizer or str(folder), key, trust_remote_code=trust_remote_code).tokenizer()
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"checkpoint: {folder}: cannot be used: {reason}\nIf only the tokenizer is missing, name one: tokenizer=HUB_ID"
        ) from error
    if len(words) > backbone.config.vocab_size:
        raise UserError(
            f"tokenizer: {tokenizer or folder}: does not fit the checkpoint. Name that of its training: tokenizer=HUB_ID"
        )
    words.model_max_length, words.padding_side = longest_input(backbone, words), "right"
    return Imported(encoder.eval(), words, loss, why)


def _weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / "config.json").is_file():
        raise UserError(f"checkpoint: {folder}: is not a model folder (no config.json).")
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    try:
        if safe.is_file():
            return load_file(safe)
        if pickled.is_file():
            loaded: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
            return loaded
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint: {folder}: the weights cannot be read: {error}") from error
    except Exception as error:  # torch raises many classes for a file that is not a checkpoint
        raise UserError(
            f"checkpoint: {pickled}: is not a file of weights that can be read safely: {str(error).splitlines()[0]}"
        ) from error
    raise UserError(f"checkpoint: {folder}: holds no weights (neither model.safetensors nor pytorch_model.bin).")


def _reads(folder: Path, projected: bool, pooler: str | None, projection: str | None) -> tuple[str, str, str | None, str]:
    """Return pooler, projection, loss, and the reason for them."""
    named = NAMED.search(folder.absolute().name.lower())
    loss = named[1] if named else None
    if not projected:
        if pooler is None:
            raise UserError(
                f"checkpoint: {folder}: has no mlp.dense, so it was trained without the MLP.\n"
                "Name its pooler: pooler=avg|avg_first_last|avg_top2|cls_before_pooler (its --pooler_type)"
            )
        if projection not in (None, "none"):
            raise UserError(f"projection={projection}: {folder} has no mlp.dense. Leave projection out.")
        return pooler, "none", loss, "there is no mlp.dense in it"
    if pooler == "cls_before_pooler" and projection is None:
        return pooler, "none", loss, "this pooler has no projection"
    if pooler not in (None, "cls") and projection != "none":
        raise UserError(
            f"pooler={pooler}: {folder} has mlp.dense, which was trained with pooler=cls.\n"
            "Leave pooler out, or add projection=none to leave out mlp.dense."
        )
    if projection is None and loss is None:
        raise UserError(
            f"checkpoint: {folder}: has mlp.dense, and its name does not tell whether evaluation uses it.\n"
            "Add projection=mlp_train_only if it was trained with --mlp_only_train (unsupervised), else projection=mlp"
        )
    if projection is not None:
        return pooler or "cls", projection, loss, "projection was given"
    assert loss is not None
    kept = {"unsup": ("mlp_train_only", "the MLP in training only"), "sup": ("mlp", "the MLP kept at evaluation")}[loss]
    return pooler or "cls", kept[0], loss, f"its name says {loss}: [CLS], and {kept[1]}"
