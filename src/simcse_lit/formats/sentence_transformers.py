"""Folders of sentence-transformers: adds its files to an export, and runs such a folder as an encoder.

Shapes: N sentences, L length, H hidden.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.config.roles import PLACE
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import MLP, Head
from simcse_lit.encoder.kinds import is_own
from simcse_lit.encoder.pretrained import Pretrained, some
from simcse_lit.errors import UserError
from simcse_lit.text.prompts import Prompts
from simcse_lit.text.template import MASK

INSTALL = "Install it with: pip install 'simcse-lit[sentence-transformers]'"

SENTENCE_TRANSFORMERS_USAGE = """from sentence_transformers import SentenceTransformer

folder = "."  # this folder
sentences = ["A man is playing a guitar.", "Somebody makes music."]
vectors = SentenceTransformer(folder).encode(sentences)"""


class SentenceTransformerEncoder(nn.Module):
    """An encoder that runs all modules of a sentence-transformers folder, from token ids to vectors.

    Args:
        model: the folder as a `SentenceTransformer`. Its `truncate_dim` is used.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.truncate_dim: int | None = model.truncate_dim
        with model.truncate_embeddings(None):
            self.width: int | None = model.get_embedding_dimension()  # numbers of a vector before `truncate_dim`, if known

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """Encode (N, L) ids and mask as vectors, (N, H)."""
        output = self.model({"input_ids": input_ids_NL, "attention_mask": attention_mask_NL})
        return cast(Tensor, output["sentence_embedding"][:, : self.truncate_dim])


class UnitLength(nn.Module):
    """The module Normalize of sentence-transformers as a head."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, pooled_NH: Tensor) -> Tensor:
        """Divide vectors by their lengths, (N, H) to (N, H)."""
        return F.normalize(pooled_NH, dim=-1)


def as_sentence_encoder(encoder: SentenceTransformerEncoder, pooler: str) -> SentenceEncoder | None:
    """Return an encoder that computes the same with a pooler of ours, so that it can be used beside a trained one.

    Args:
        encoder: the encoder of a folder.
        pooler: name of the pooler that computes the same as its module Pooling.

    Returns:
        The encoder, with the same weights; None if there are other modules than a transformer, one of the poolings `cls`,
        `avg` and `last_token`, and Normalize.
    """
    transformer, *others = encoder.model
    names = [type(module).__name__ for module in others]
    if pooler not in ("cls", "avg", "last_token") or names not in (["Pooling"], ["Pooling", "Normalize"]):
        return None
    target = f"{__name__}.{UnitLength.__name__}"
    unit = Head("unit_length", "always", target, {}) if len(names) > 1 else "none"
    return SentenceEncoder(transformer.auto_model, pooler, unit).eval()


def own_classes(folder: Path) -> list[str]:
    """List the classes that a sentence-transformers folder brings or takes from other packages, as MODULE.CLASS."""
    modules = _modules(folder)
    found = [kind for kind, _ in modules if not kind.startswith("sentence_transformers.")]
    for _, path in modules:
        if (path / "config.json").is_file():
            found += Pretrained(str(path), "checkpoint").own_classes()
    return found


def check_weights(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuse a sentence-transformers folder whose transformer lacks weights. The library would draw them at random.

    Raises:
        UserError: weights are missing.
    """
    for kind, path in _modules(folder):
        if kind.endswith(".Transformer") and (path / "config.json").is_file():
            _, absent = Pretrained(str(path), "checkpoint", trust_remote_code=trust_remote_code).trained()
            if lost := [name for name in absent if "pooler." not in name]:
                raise UserError(f"checkpoint: {path}: {some(lost)}.\nThey would be random. Get the model again.")


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Return the class of each module of a folder, and the folder of its files."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    return [(str(module["type"]), folder / module["path"]) for module in modules]


def add_sentence_transformers(encoder: SentenceEncoder, folder: Path, max_length: int, prompts: Prompts) -> None:
    """Add modules.json and the files that it names to an export, so that sentence-transformers loads the folder too.

    A mean over two layers becomes WeightedLayerPooling with weights 0 and 1, a projection becomes Dense with tanh.

    Args:
        encoder: the encoder in the folder.
        folder: an export.
        max_length: tokens after which a sentence is cut.
        prompts: templates of the sentences. The sentence must come last in each.

    Raises:
        UserError: sentence-transformers is not installed, or has no modules that compute these vectors.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense, Transformer
    except ImportError as error:
        raise UserError(
            f"format=sentence-transformers: needs sentence-transformers, which is not installed.\n{INSTALL}"
        ) from error
    if encoder.denoised_in_use:
        raise UserError(
            "format=sentence-transformers: it cannot subtract the vector of the bare template.\n"
            "Use format=transformers, or train with data.template_denoising=training."
        )
    for template in prompts.templates.values():
        if not template.endswith(PLACE) or MASK in template:
            raise UserError(
                f"format=sentence-transformers: its prompts come before a sentence, and this template has more: {template}\n"
                "Use format=transformers or format=onnx."
            )
    before = {name: template.removesuffix(PLACE) for name, template in prompts.templates.items()}
    if encoder.projected and not isinstance(encoder.projection, MLP):
        raise UserError(
            f"format=sentence-transformers: it has no projection={encoder.head.name}, so the vectors would differ.\n"
            "Use format=transformers or format=onnx."
        )
    pooling = encoder.pooler.sentence_transformers(encoder.hidden, int(encoder.backbone.config.num_hidden_layers))
    if encoder.pooler.every_layer:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["output_hidden_states"] = True
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    trust = {"trust_remote_code": is_own(encoder.backbone)}  # the code that `write` copied has already run here
    transformer = Transformer(
        str(folder), max_seq_length=max_length, model_kwargs=trust, processor_kwargs=trust, config_kwargs=trust
    )
    if hasattr(transformer.auto_model, "decoder"):
        raise UserError(
            f"format=sentence-transformers: it uses the decoder of {type(transformer.auto_model).__name__}, and these\n"
            "vectors come from the encoder. Use format=transformers or format=onnx."
        )
    modules: list[nn.Module] = [transformer, *pooling]
    if encoder.projected and isinstance(encoder.projection, MLP):
        dense = Dense(encoder.hidden, encoder.hidden, activation_function=nn.Tanh())
        dense.linear.load_state_dict(encoder.projection.dense.state_dict())
        modules.append(dense)
    with TemporaryDirectory() as saved:
        model = SentenceTransformer(
            modules=modules,
            device="cpu",
            prompts=before,
            default_prompt_name=prompts.default,
            truncate_dim=encoder.truncate_dim,
        )
        model.save(saved, create_model_card=False)
        for path in Path(saved).iterdir():  # the export holds weights, configuration and tokenizer already
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif path.name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
                shutil.copy(path, folder / path.name)
