"""Folders of sentence-transformers: adds its files to an export, and runs such a folder as an encoder.

Shapes: N sentences, L length, H hidden.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError

INSTALL = "Install it with: pip install 'simcse-lit[sentence-transformers]'"

SENTENCE_TRANSFORMERS_USAGE = """from sentence_transformers import SentenceTransformer

folder = "."  # this folder
sentences = ["A man is playing a guitar.", "Somebody makes music."]
vectors = SentenceTransformer(folder).encode(sentences)"""


class SentenceTransformerEncoder(nn.Module):
    """All modules of a sentence-transformers folder as an encoder: token ids to vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """(N, L) ids and mask to (N, H)."""
        output = self.model({"input_ids": input_ids_NL, "attention_mask": attention_mask_NL})
        return cast(Tensor, output["sentence_embedding"])


def add_sentence_transformers(encoder: SentenceEncoder, folder: Path, max_length: int) -> None:
    """Add modules.json and the files that it names to an export, so that sentence-transformers loads the folder too.

    A mean over two layers becomes WeightedLayerPooling with weights 0 and 1, a projection becomes Dense with tanh.

    Args:
        encoder: the encoder in the folder.
        folder: an export.
        max_length: tokens after which a sentence is cut.

    Raises:
        UserError: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer, WeightedLayerPooling
    except ImportError as error:
        raise UserError(
            f"format=sentence-transformers: needs sentence-transformers, which is not installed.\n{INSTALL}"
        ) from error
    hidden, layers = encoder.hidden, int(encoder.backbone.config.num_hidden_layers)
    averaged = {"avg_first_last": (1, layers), "avg_top2": (layers - 1, layers)}.get(encoder.pooler)
    if averaged:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["output_hidden_states"] = True
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    modules: list[nn.Module] = [Transformer(str(folder), max_seq_length=max_length)]
    if averaged:
        weights = torch.zeros(layers + 1)
        for layer in averaged:
            weights[layer] += 1
        modules.append(WeightedLayerPooling(hidden, layers, layer_start=0, layer_weights=nn.Parameter(weights)))
    mode = {"cls": "cls", "cls_before_pooler": "cls", "last_token": "lasttoken"}.get(encoder.pooler, "mean")
    modules.append(Pooling(hidden, pooling_mode=mode))
    if encoder.projection_name == "mlp" and encoder.projection is not None:
        dense = Dense(hidden, hidden, activation_function=nn.Tanh())
        dense.linear.load_state_dict(encoder.projection.dense.state_dict())
        modules.append(dense)
    with TemporaryDirectory() as saved:
        SentenceTransformer(modules=modules, device="cpu").save(saved, create_model_card=False)
        for path in Path(saved).iterdir():  # the export holds weights, configuration and tokenizer already
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif path.name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
                shutil.copy(path, folder / path.name)
