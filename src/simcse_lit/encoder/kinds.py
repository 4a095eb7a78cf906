"""The table of model types: one row for each type, with what packing, the first token, MLM and dropout must know about it.

A type without a row also works, but it is not packed, and its last layer computes all tokens. A package adds a row with the
entry point `simcse_lit.backbones`, whose name is the model type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simcse_lit.config.installed import installed
from simcse_lit.errors import UserError

BACKBONES = "simcse_lit.backbones"  # the entry points

# The settings where architectures keep the dropout of hidden states and of attention.
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # also RoBERTa, ALBERT, ELECTRA, DeBERTa
KNOWN_DROPOUTS = (
    *BERT_DROPOUTS,
    *("resid_pdrop", "embd_pdrop", "attn_pdrop"),  # GPT-2
    *("attention_dropout", "hidden_dropout", "dropout"),  # Llama, Qwen, Mistral; Falcon, GPT-NeoX; OPT, DistilBERT
    *("resid_dropout", "embed_dropout"),  # GPT-Neo
    *("mlp_dropout", "embedding_dropout"),  # ModernBERT
    "dropout_rate",  # T5
)


@dataclass(frozen=True)
class Kind:
    """What is known about a model type.

    Args:
        dropouts: the settings of the configuration that `model.dropout` sets, if the model has them.
        first_position: function that returns the position id of a sentence's first token, from the configuration. It claims
            that a row may hold several sentences (`packing.py`): with PyTorch's own attention, the model takes
            `position_ids` and a boolean mask (R, 1, W, W), and nothing else depends on a token's place in the row. None: the
            type cannot be packed.
        after_attention: the module of a layer that takes the output of attention and the residual, or their sum. It claims
            that nothing after this module reads another token, so the last layer may continue with the first token alone
            (`first_token.py`). None: there is no such module.
        layers: where the backbone keeps its layers, if there is `after_attention`.
        masked_lm: whether `AutoModelForMaskedLM` has a head for the type and its tokens see both sides. None: ask
            transformers.
        unreached: how the names of parameters end that no sentence uses. Several devices would wait for their gradients.
        calls_its_pooler: the model calls its pooler without checking that it has one.
        padding_counts: padding changes the states of real tokens, so the type is refused.
    """

    dropouts: tuple[str, ...] = KNOWN_DROPOUTS
    first_position: Callable[[Any], int] | None = None
    after_attention: str | None = None
    layers: str = "encoder.layer"
    masked_lm: bool | None = None
    unreached: tuple[str, ...] = ()
    calls_its_pooler: bool = False
    padding_counts: bool = False


def zero(config: Any) -> int:
    """Return 0, where BERT starts to count positions."""
    return 0


def after_padding(config: Any) -> int:
    """Return the number after the id of the padding token, where RoBERTa starts to count positions."""
    return int(config.pad_token_id) + 1


BERT = Kind(BERT_DROPOUTS, zero, "attention.output", masked_lm=True)
ROBERTA = Kind(BERT_DROPOUTS, after_padding, "attention.output", masked_lm=True)
UNKNOWN = Kind()
KINDS = {
    "albert": Kind(BERT_DROPOUTS, zero, masked_lm=True),  # all layers share their weights
    "bert": BERT,
    "camembert": ROBERTA,
    "canine": Kind(BERT_DROPOUTS, masked_lm=False, padding_counts=True),
    "data2vec-text": ROBERTA,
    "distilbert": Kind(("dropout", "attention_dropout"), zero, "sa_layer_norm", "transformer.layer", masked_lm=True),
    "electra": BERT,
    "ernie": BERT,
    "esm": Kind(BERT_DROPOUTS, masked_lm=True, unreached=("contact_head.regression.weight", "contact_head.regression.bias")),
    "fnet": Kind(("hidden_dropout_prob",), masked_lm=True, padding_counts=True),
    "layoutlm": Kind(BERT_DROPOUTS, masked_lm=True, calls_its_pooler=True),
    "led": Kind(("dropout", "attention_dropout"), masked_lm=False, unreached=("_global.weight", "_global.bias")),
    "longformer": Kind(BERT_DROPOUTS, masked_lm=True, unreached=("_global.weight", "_global.bias")),
    "mpnet": Kind(BERT_DROPOUTS, None, "attention.LayerNorm", masked_lm=True),  # its positions are relative
    "pegasus": Kind(("dropout", "attention_dropout"), masked_lm=False, unreached=("embed_positions.weight",)),
    "reformer": Kind(("hidden_dropout_prob",), masked_lm=True, padding_counts=True),
    "roberta": ROBERTA,
    "roberta-prelayernorm": ROBERTA,
    "roformer": Kind(BERT_DROPOUTS, masked_lm=True, unreached=("embed_positions.weight",)),
    "squeezebert": Kind(BERT_DROPOUTS, masked_lm=True, calls_its_pooler=True),
    "xlm-roberta": ROBERTA,
    "xlm-roberta-xl": ROBERTA,
    "xlnet": Kind(("dropout",), masked_lm=False, unreached=("mask_emb", "seg_embed", "r_s_bias")),
    "yoso": Kind(BERT_DROPOUTS, masked_lm=True, padding_counts=True),
}


def is_own(model: Any) -> bool:
    """Tell whether a model brought its own code. transformers imports such code into a package with this name."""
    return type(model).__module__.startswith("transformers_modules.")


def kind_of_model(model: Any) -> Kind:
    """Return the row of a model.

    Our rows describe the classes of transformers. A model with its own code may differ, whatever type its configuration
    names, so it gets no row of ours.

    Raises:
        UserError: see `kind_of`.
    """
    model_type = model.config.model_type
    return UNKNOWN if is_own(model) and model_type in KINDS else kind_of(model_type)


def counts_from(model: Any) -> int:
    """Return the position id of a sentence's first token in a model.

    Raises:
        UserError: it is not known whether the model takes position ids, and from where it counts them.
    """
    first_position = kind_of_model(model).first_position
    if first_position is None:
        known = ", ".join(name for name, kind in KINDS.items() if kind.first_position)
        raise UserError(
            f"data.template_denoising: the position ids of {model.config.model_type} are not known. Set it to never,\n"
            f"or use one of {known}."
        )
    return first_position(model.config)


def kind_of(model_type: str) -> Kind:
    """Return the row of a model type: ours, that of an installed package, or the row for unknown types.

    Raises:
        UserError: the row of a package cannot be imported, or is not a `Kind`.
    """
    kind = KINDS.get(model_type) or installed(BACKBONES, model_type) or UNKNOWN
    if not isinstance(kind, Kind):
        raise UserError(f"The entry point {BACKBONES}.{model_type}: is not a simcse_lit.encoder.kinds.Kind, but {kind!r}.")
    return kind
