"""Loads any sentence encoder: exports (ONNX too) and checkpoints of simcse-lit, the paper's releases, raw transformers
models, and sentence-transformers folders.

A saved model records its pooler and projection, and these are used; a caller who asks for others gets a warning. A raw model
records none, so the caller has to name them.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.registered import names, refuse_code
from simcse_lit.config.resolvers import is_local, local_path
from simcse_lit.config.roles import PLACE
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.encoder.architecture import check_pooler, longest_input
from simcse_lit.encoder.backbone import as_stored, load_backbone, of_run
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import MLP, head
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.encoder.pretrained import Pretrained, own_code
from simcse_lit.errors import UserError
from simcse_lit.formats.checkpoint import load_checkpoint
from simcse_lit.formats.export import NO_PROMPTS, load_export, recorded_section
from simcse_lit.formats.onnx import MODEL, OnnxEncoder
from simcse_lit.formats.sentence_transformers import INSTALL, SentenceTransformerEncoder, check_weights, own_classes
from simcse_lit.formats.truncation import recorded_truncation, truncate
from simcse_lit.formats.whole_folder import recover
from simcse_lit.text.hub import download_model
from simcse_lit.text.prompts import NAMES, Prompts, recorded_prompts
from simcse_lit.text.template import Template

log = logging.getLogger(__name__)

Node = str | Mapping[str, Any] | None  # a registered name, or a node of the configuration

# The paper's releases, and how they are read: CLS without a projection, and CLS through `pooler.dense`.
RELEASED = re.compile(r"princeton-nlp/(?P<loss>unsup|sup)-simcse-(bert|roberta)-[\w.-]+")
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
        prompts: the templates that it was made with, or the one that the caller asked for.
    """

    source: str
    kind: str
    encoder: SentenceEncoder | SentenceTransformerEncoder | OnnxEncoder
    tokenizer: PreTrainedTokenizerFast
    pooler: str
    projection: str
    max_length: int
    prompts: Prompts = NO_PROMPTS

    def template(self, use: str = "text") -> Template | None:
        """Return the template of a `text`, of a `query` or of a searched `document`; None for no template.

        Raises:
            UserError: the tokenizer lacks a token of the template.
        """
        text = self.prompts.of(use)
        return None if text is None else Template(text, self.tokenizer, "prompt")


def load_encoder(
    source: str,
    *,
    revision: str | None,
    pooler: Node,
    projection: Node,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    precision: str = "32-true",
    trust_remote_code: bool = False,
) -> LoadedEncoder:
    """Load the encoder of an export, of a Lightning checkpoint, or of a transformers or sentence-transformers model.

    Args:
        source: FOLDER, FILE.ckpt, pkg://PACKAGE/FOLDER or OWNER/NAME.
        revision: branch, tag or commit on the Hub.
        pooler: the pooler of a raw model; what a saved model records takes precedence. A registered name, or a node of the
            configuration, which may also name the class of a saved model's pooler that no package registers.
        projection: the projection of a raw model: `mlp` is the linear layer and tanh of its pooler. What a saved model
            records takes precedence. A name or a node, like `pooler`.
        prompt: the name of one of the model's prompts, or a template, for every text; None for what the model records.
        truncate_dim: keep only the first numbers of each vector, this many, before they are normalised and compared; None
            for as many as the model records, or all.
        precision: the precision to run in; an ONNX graph takes only `32-true`.
        trust_remote_code: run the Python code that a model brings. What a checkpoint or an export records about it is
            ignored.

    Raises:
        UserError: the model does not exist or cannot be loaded, no pooler is named for a raw model, its vectors have fewer
            numbers than `truncate_dim`, or the model cannot run in this precision.
    """
    loaded = _loaded(source, revision, pooler, projection, precision, trust_remote_code)
    loaded = replace(loaded, prompts=loaded.prompts.chosen(prompt))
    template = loaded.template()  # raises now if the tokenizer lacks a token of it
    if isinstance(loaded.encoder, SentenceEncoder):
        loaded.encoder.pooler.set_up(template.behind_mask if template else None)
        _check_denoising(loaded, loaded.encoder)
    truncate(loaded.encoder, truncate_dim, source)
    return loaded


def _check_denoising(loaded: LoadedEncoder, encoder: SentenceEncoder) -> None:
    """Refuse prompts whose bare templates cannot be read from the token ids as in training.

    Raises:
        UserError: the vector of the bare template is subtracted, and a template has another number of tokens, or is missing.
    """
    if encoder.denoising is None:
        return
    for use in ("text", *NAMES):
        template = loaded.template(use)
        if template is None or (len(template.prefix_ids), len(template.suffix_ids)) != encoder.denoising.around:
            before, after = encoder.denoising.around
            raise UserError(
                f"prompt: {loaded.source}: was trained with data.template_denoising=always and templates with\n"
                f"{before} tokens before the sentence and {after} after it, special tokens included. Use its own prompts."
            )


def _loaded(
    source: str, revision: str | None, pooler: Node, projection: Node, precision: str, trust_remote_code: bool
) -> LoadedEncoder:
    """Load the encoder with the prompts that the model records; see `load_encoder`."""
    own = {"pooler": _node(pooler), "projection": _node(projection)}
    if source.endswith(".ckpt"):
        of_training = load_checkpoint(source, trust_remote_code=trust_remote_code, own=own)
        return _saved(source, "Lightning checkpoint", *of_training, pooler, projection)
    path = local_path(source, "checkpoint")
    if path.is_file():
        hint = of_run(path, "checkpoint")
        raise UserError(f"checkpoint: {source}: is a file, but not a Lightning checkpoint (.ckpt). Name a folder.{hint}")
    recover(path)
    if not path.is_dir():
        if is_local(source):
            raise UserError(f"checkpoint: {source}: there is no such folder (looked in {path.absolute().parent}).")
        path = download_model(source, revision, key="checkpoint", code=trust_remote_code)
    check_precision(source, path, precision)
    if _is_graph(path):
        loaded = _onnx(source, path, trust_remote_code)
        _warn_of_contradiction(source, (loaded.pooler, loaded.projection), pooler, projection)
        return loaded
    is_model = (path / "config.json").is_file()
    if is_model and recorded_section(path) is not None:
        exported = load_export(path, trust_remote_code=trust_remote_code, own=own)
        return _saved(source, "simcse-lit export", *exported, _prompts_of(path), pooler, projection)
    if (path / "modules.json").is_file():
        return _sentence_transformers(source, path, pooler, projection, trust_remote_code)
    if not is_model:
        hint = of_run(path, "checkpoint") or " Name a folder that holds config.json."
        raise UserError(f"checkpoint: {source}: is not a model folder (no config.json).{hint}")
    return _transformers(source, path, pooler, projection, trust_remote_code)


def check_precision(source: str, path: Path, precision: str) -> None:
    """Refuse a precision that has no effect on the model in a folder.

    Raises:
        UserError: the folder holds an ONNX graph, and the precision is not `32-true`.
    """
    if precision != "32-true" and _is_graph(path):
        raise UserError(
            f"precision={precision}: {source} is an ONNX graph, which runs in the precision that it was exported in.\n"
            "Use precision=32-true. For a smaller graph: simcse-lit export format=onnx int8=true"
        )


def _is_graph(path: Path) -> bool:
    return (path / MODEL).is_file() and not (path / "model.safetensors").is_file()


def _saved(
    source: str,
    kind: str,
    encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Prompts,
    pooler: Node,
    projection: Node,
) -> LoadedEncoder:
    reads = (encoder.pooler.name, encoder.head.name)
    _warn_of_contradiction(source, reads, pooler, projection)
    return LoadedEncoder(source, kind, encoder, tokenizer, *reads, longest_input(encoder.backbone, tokenizer), prompts)


def _transformers(source: str, path: Path, pooler: Node, projection: Node, trusted: bool) -> LoadedEncoder:
    """Load a raw model, or one of the paper's releases."""
    released = _released(source, path)
    if released:
        own = RELEASED_READS[released]
        for key, trained, asked in _contradictions(own, pooler, projection):
            log.warning("%s=%s: %s was trained with %s=%s.", key, asked, source, key, trained)
        projection = projection or (own[1] if _name(pooler) in (None, own[0]) else "none")
        pooler = pooler or own[0]
    if pooler is None:
        of_paper = RELEASED.fullmatch(f"princeton-nlp/{path.resolve().name}")
        theirs = RELEASED_READS[of_paper["loss"]] if of_paper else None
        hint = f"\nThe paper's release of this name needs pooler={theirs[0]} projection={theirs[1]}." if theirs else ""
        raise UserError(
            f"checkpoint: {source}: a raw model, which does not record its pooler.\n"
            f"Choose one: pooler={'|'.join(names('pooler'))}\n"
            f"(projection=mlp adds the linear layer and tanh of the model after pooler=cls).{hint}"
        )
    reader, projected = make_pooler(pooler), head(projection or "none")
    if projected.target and projected.name not in ("mlp", "mlp_train_only"):
        raise UserError(
            f"projection={projected.name}: {source} is a raw model without weights for it. Leave projection out."
        )
    model = as_stored(str(path), trust_remote_code=trusted)
    backbone, tokenizer = load_backbone(model, mlm=False, own_pooler=projected.name == "mlp", key="checkpoint")
    check_pooler(reader, backbone, tokenizer, source)
    own_pooler = getattr(backbone, "pooler", None)
    encoder = SentenceEncoder(backbone, reader, projected)
    if encoder.projected:
        if own_pooler is None or not encoder.backbone_has_mlp_pooler:
            raise UserError(f"projection=mlp: {source} has no linear layer and tanh (pooler.dense).")
        cast(MLP, encoder.projection).dense.load_state_dict(own_pooler.dense.state_dict())
    kind = f"SimCSE release ({released}ervised)" if released else "transformers"
    length = longest_input(encoder.backbone, tokenizer)
    return LoadedEncoder(source, kind, encoder.eval(), tokenizer, reader.name, projected.name, length)


def _prompts_of(export: Path) -> Prompts:
    try:
        return recorded_prompts(recorded_section(export) or {})
    except ValueError as error:
        raise UserError(f"checkpoint: {export}: the export is damaged: {error}.\nExport it again.") from error


def _released(source: str, path: Path) -> str | None:
    """Return the loss of one of the paper's releases, by its Hub id; None for any other model.

    The name of a folder is not enough, since any folder may have it. A folder of that name with the card of the release is.
    """
    if not Path(source).expanduser().is_dir():
        found = RELEASED.fullmatch(source)
        return found["loss"] if found else None
    found, card = RELEASED.fullmatch(f"princeton-nlp/{path.resolve().name}"), path / "README.md"
    named = found is not None and card.is_file() and found[0] in card.read_text(encoding="utf-8", errors="replace")
    return found["loss"] if found and named else None


def _onnx(source: str, path: Path, trusted: bool) -> LoadedEncoder:
    """Load a folder that `write_onnx` wrote."""
    try:
        recorded = json.loads((path / "config.json").read_text(encoding="utf-8"))["simcse"]
        refuse_code(recorded, source)
        reads = (recorded["pooler"], recorded["projection"])
        kind, length = f"ONNX {recorded['onnx']}", int(recorded["longest_input"])
        prompts = recorded_prompts(recorded)
        tokenizer = Pretrained(str(path), "checkpoint", trust_remote_code=trusted).tokenizer()
        encoder = OnnxEncoder(path / MODEL)
        encoder.truncate_dim = recorded_truncation(recorded, encoder.width)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"checkpoint: {source}: is not an ONNX export of simcse-lit, or is damaged: {reason}") from error
    return LoadedEncoder(source, kind, encoder.eval(), tokenizer, *reads, length, prompts)


def _sentence_transformers(source: str, path: Path, pooler: Node, projection: Node, trusted: bool) -> LoadedEncoder:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"checkpoint: {source}: is a folder of sentence-transformers, which is not installed.\n{INSTALL}"
        ) from error
    try:
        check_weights(path, trust_remote_code=trusted)
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True, trust_remote_code=trusted)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        if "trust_remote_code" in str(error) and not trusted:
            raise UserError(own_code(source, "checkpoint", own_classes(path))) from error
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"checkpoint: {source}: sentence-transformers cannot load it: {reason}") from error
    if not isinstance(model.tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"checkpoint: {source}: has no fast tokenizer (tokenizer.json).")
    if model.tokenizer.pad_token is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    prompts = Prompts({name: f"{text}{PLACE}" for name, text in model.prompts.items()}, model.default_prompt_name)
    names = [type(module).__name__ for module in model]
    pooling = [module for module in model if type(module).__name__ == "Pooling"]
    modes = pooling[0].pooling_mode if pooling else " + ".join(names)
    if any(prompts.of(use) for use in ("text", *NAMES)) and pooling and not pooling[0].include_prompt:
        raise UserError(f"checkpoint: {source}: leaves its prompt out of the pooling, which simcse-lit cannot do.")
    ours = {"mean": "avg", "cls": "cls", "lasttoken": "last_token"}.get(str(modes), str(modes))
    _warn_of_contradiction(source, (ours, "none"), pooler, projection)
    return LoadedEncoder(
        source,
        "sentence-transformers",
        SentenceTransformerEncoder(model.float()).eval(),
        model.tokenizer,
        ours,
        "none",
        min(EVALUATION_LENGTH, model.max_seq_length or EVALUATION_LENGTH),
        prompts,
    )


def _node(given: Node) -> Mapping[str, Any] | None:
    return {"name": given} if isinstance(given, str) else given


def _name(given: Node) -> str | None:
    return given if given is None or isinstance(given, str) else str(given.get("name"))


def _warn_of_contradiction(source: str, recorded: tuple[str, str], pooler: Node, projection: Node) -> None:
    """Warn of each override that is not used."""
    for key, own, other in _contradictions(recorded, pooler, projection):
        log.warning("%s=%s is not used: %s records %s=%s.", key, other, source, key, own)


def _contradictions(recorded: tuple[str, str], pooler: Node, projection: Node) -> Iterator[tuple[str, str, str]]:
    """Yield key, recorded value and requested value where they differ.

    `cls` and `cls_before_pooler` read the same token, and at evaluation `mlp_train_only` is the same as `none`.
    """
    for key, own, other in zip(("pooler", "projection"), recorded, (_name(pooler), _name(projection)), strict=True):
        alike = {own, other} == {"cls", "cls_before_pooler"} and recorded[1] != "mlp"
        alike |= {own, other} == {"none", "mlp_train_only"}
        if other is not None and other != own and not alike:
            yield key, own, other
