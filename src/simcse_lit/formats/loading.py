"""Loads any sentence encoder: exports (ONNX too) and checkpoints of simcse-lit, the paper's releases, raw transformers
models, and sentence-transformers folders.

A saved model's own pooler and projection are used; a caller who asks for others is warned. Only a raw model records none,
so the caller has to name them.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import is_local, local_path
from simcse_lit.config.schema import AdapterConfig, ModelConfig
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.encoder.adapter import add_adapter, merge_adapter
from simcse_lit.encoder.backbone import load_backbone, longest_input
from simcse_lit.encoder.encoder import CHECKPOINT_SECTION, Projection, SentenceEncoder
from simcse_lit.encoder.pooling import POOLERS
from simcse_lit.errors import UserError
from simcse_lit.formats.export import load_export, recorded_section
from simcse_lit.formats.onnx import MODEL, OnnxEncoder
from simcse_lit.formats.sentence_transformers import INSTALL, SentenceTransformerEncoder
from simcse_lit.formats.whole_folder import recover
from simcse_lit.text.hub import download_model

log = logging.getLogger(__name__)

# princeton-nlp/unsup-simcse-bert-base-uncased and its like: CLS without a projection, and CLS through `pooler.dense`.
RELEASED = re.compile(r"(unsup|sup)-simcse-(bert|roberta)-")
RELEASED_READS = {"unsup": ("cls_before_pooler", "none"), "sup": ("cls", "mlp")}


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder in evaluation mode, with its tokenizer, pooler and projection.

    Args:
        source: the folder, file or Hub id that the caller named.
        kind: the kind of model found there, for messages and results.json.
        encoder: the encoder.
        tokenizer: its tokenizer.
        pooler: as in `conf/pooler/`; for a sentence-transformers folder without such a pooler, its modules.
        projection: as in `conf/projection/`.
        max_length: tokens after which a sentence is cut.
        prepare: applied to every sentence before it is tokenised; some models put a prompt before it.
    """

    source: str
    kind: str
    encoder: SentenceEncoder | SentenceTransformerEncoder | OnnxEncoder
    tokenizer: PreTrainedTokenizerFast
    pooler: str
    projection: str
    max_length: int
    prepare: Callable[[str], str] = str


def load_encoder(
    source: str, *, revision: str | None, pooler: str | None, projection: str | None, precision: str = "32-true"
) -> LoadedEncoder:
    """Load the encoder of an export, of a Lightning checkpoint, or of a transformers or sentence-transformers model.

    Args:
        source: FOLDER, FILE.ckpt, pkg://PACKAGE/FOLDER or OWNER/NAME.
        revision: branch, tag or commit on the Hub.
        pooler: for a raw model; a saved model's own takes precedence.
        projection: for a raw model: `mlp` is the linear layer and tanh of its own pooler; a saved model's own takes
            precedence.
        precision: the precision to run in; an ONNX graph takes only `32-true`.

    Raises:
        UserError: there is no such model, it cannot be loaded, a raw model comes without a pooler, or the model cannot run
            in this precision.
    """
    if source.endswith(".ckpt"):
        return _checkpoint(source, pooler, projection)
    path = local_path(source, "checkpoint")
    if path.is_file():
        raise UserError(f"checkpoint: {source}: is a file, but no Lightning checkpoint (.ckpt); name a model's folder.")
    recover(path)
    if not path.is_dir():
        if is_local(source):
            raise UserError(f"checkpoint: {source}: there is no such folder (looked in {path.absolute().parent}).")
        path = download_model(source, revision, key="checkpoint")
    check_precision(source, path, precision)
    if _is_graph(path):
        loaded = _onnx(source, path)
        _warn_of_contradiction(source, (loaded.pooler, loaded.projection), (pooler, projection))
        return loaded
    is_model = (path / "config.json").is_file()
    if is_model and recorded_section(path) is not None:
        encoder, tokenizer = load_export(path)
        reads = (encoder.pooler, encoder.projection_name)
        _warn_of_contradiction(source, reads, (pooler, projection))
        length = longest_input(encoder.backbone, tokenizer)
        return LoadedEncoder(source, "simcse-lit export", encoder, tokenizer, *reads, length)
    if (path / "modules.json").is_file():
        return _sentence_transformers(source, path, pooler, projection)
    if not is_model:
        export = f"{source.rstrip('/')}/export"
        hint = f"Did you mean {export}?" if (path / "export").is_dir() else "Name a folder that holds config.json."
        raise UserError(f"checkpoint: {source}: is no model folder (no config.json). {hint}")
    return _transformers(source, path, pooler, projection)


def check_precision(source: str, path: Path, precision: str) -> None:
    """Refuse a precision that has no effect on the model in a folder.

    Raises:
        UserError: the folder holds an ONNX graph, and the precision is not `32-true`.
    """
    if precision != "32-true" and _is_graph(path):
        raise UserError(
            f"precision={precision}: {source} is an ONNX graph, which runs in the precision that it was exported in.\n"
            "Use precision=32-true; a smaller graph comes from python -m simcse_lit.export format=onnx int8=true."
        )


def _is_graph(path: Path) -> bool:
    return (path / MODEL).is_file() and not (path / "model.safetensors").is_file()


def _transformers(source: str, path: Path, pooler: str | None, projection: str | None) -> LoadedEncoder:
    """Load a raw model, or one of the paper's releases, which are recognised by their names."""
    released = RELEASED.search(source)
    if released:
        reads = RELEASED_READS[released[1]]
        _warn_of_contradiction(source, reads, (pooler, projection))
        pooler, projection = reads
    if pooler is None:
        raise UserError(
            f"checkpoint: {source}: a raw model, which does not say how its vectors are read.\n"
            f"Choose it: pooler={'|'.join(POOLERS)}\n"
            "(projection=mlp adds the model's own linear layer and tanh behind pooler=cls)."
        )
    model = ModelConfig(
        str(path),
        revision=None,
        sha256=None,
        pretrained=True,
        num_layers=None,
        dropout=None,
        attention=None,
        gradient_checkpointing=False,
    )
    backbone, tokenizer = load_backbone(model, mlm=False, own_pooler=projection == "mlp", key="checkpoint")
    own = getattr(backbone, "pooler", None)
    encoder = SentenceEncoder(backbone, pooler, projection or "none")
    if encoder.projection_name == "mlp":
        if own is None or not encoder.backbone_has_mlp_pooler:
            raise UserError(f"projection=mlp: {source} has no linear layer and tanh of its own (pooler.dense).")
        cast(Projection, encoder.projection).dense.load_state_dict(own.dense.state_dict())
    kind = f"SimCSE release ({released[1]}ervised)" if released else "transformers"
    length = longest_input(encoder.backbone, tokenizer)
    return LoadedEncoder(source, kind, encoder.eval(), tokenizer, pooler, encoder.projection_name, length)


def _checkpoint(source: str, pooler: str | None, projection: str | None) -> LoadedEncoder:
    """Load a checkpoint of training. It records the model that training started from, whose architecture is used."""
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint: {source}: there is no such file (looked in {path.absolute().parent}).")
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a file that is no checkpoint
        reason = str(error).splitlines()[0]
        raise UserError(f"checkpoint: {source}: is no checkpoint that can be read safely: {reason}") from error
    recorded = saved.get(CHECKPOINT_SECTION)
    if recorded is None:
        raise UserError(f"checkpoint: {source}: says nothing of its encoder, so it is no checkpoint of simcse-lit.")
    model = ModelConfig(**recorded["model"] | {"attention": None})
    model.pretrained, model.sha256, model.gradient_checkpointing = False, None, False  # the weights come from here
    backbone, tokenizer = load_backbone(model, mlm=False, key="checkpoint")
    reads = (recorded["pooler"], recorded["projection"])
    _warn_of_contradiction(source, reads, (pooler, projection))
    encoder = SentenceEncoder(backbone, *reads)
    add_adapter(encoder.backbone, AdapterConfig(**recorded.get("adapter", {"name": "none"})))
    weights = {
        name.removeprefix("encoder."): value
        for name, value in saved["state_dict"].items()
        if name.startswith(("encoder.backbone.", "encoder.projection."))
    }
    encoder.load_state_dict(weights)
    merge_adapter(encoder.backbone)
    length = longest_input(encoder.backbone, tokenizer)
    return LoadedEncoder(source, "Lightning checkpoint", encoder.eval(), tokenizer, *reads, length)


def _onnx(source: str, path: Path) -> LoadedEncoder:
    """Load a folder that `write_onnx` wrote."""
    try:
        recorded = json.loads((path / "config.json").read_text(encoding="utf-8"))["simcse"]
        reads = (recorded["pooler"], recorded["projection"])
        kind, length = f"ONNX {recorded['onnx']}", int(recorded["longest_input"])
        tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(path))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"checkpoint: {source}: is no ONNX export of simcse-lit, or damaged: {reason}") from error
    return LoadedEncoder(source, kind, OnnxEncoder(path / MODEL).eval(), tokenizer, *reads, length)


def _sentence_transformers(source: str, path: Path, pooler: str | None, projection: str | None) -> LoadedEncoder:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"checkpoint: {source}: is a folder of sentence-transformers, which is not installed.\n{INSTALL}"
        ) from error
    try:
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(f"checkpoint: {source}: sentence-transformers cannot load it: {error}") from error
    if not isinstance(model.tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"checkpoint: {source}: has no fast tokenizer (tokenizer.json).")
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    prompt = model.prompts.get(model.default_prompt_name or "", "") or ""
    names = [type(module).__name__ for module in model]
    pooling = [module for module in model if type(module).__name__ == "Pooling"]
    modes = pooling[0].pooling_mode if pooling else " + ".join(names)
    if prompt and pooling and not pooling[0].include_prompt:
        raise UserError(f"checkpoint: {source}: leaves its prompt out of the pooling, which evaluation does not do.")
    ours = {"mean": "avg", "cls": "cls", "lasttoken": "last_token"}.get(str(modes), str(modes))
    _warn_of_contradiction(source, (ours, "none"), (pooler, projection))
    return LoadedEncoder(
        source,
        "sentence-transformers",
        SentenceTransformerEncoder(model.float()).eval(),
        model.tokenizer,
        ours,
        "none",
        min(EVALUATION_LENGTH, model.max_seq_length or EVALUATION_LENGTH),
        prepare=lambda sentence: prompt + sentence,
    )


def _warn_of_contradiction(source: str, recorded: tuple[str, str], asked: tuple[str | None, str | None]) -> None:
    """Warn of each override that is not used.

    `cls` and `cls_before_pooler` read the same token, and `mlp_train_only` projects no more than `none` does here.
    """
    for key, own, other in zip(("pooler", "projection"), recorded, asked, strict=True):
        alike = {own, other} == {"cls", "cls_before_pooler"} and recorded[1] != "mlp"
        alike |= {own, other} == {"none", "mlp_train_only"}
        if other is not None and other != own and not alike:
            log.warning("%s=%s is not used: %s says %s=%s.", key, other, source, key, own)
