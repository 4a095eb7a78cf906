"""The table of backbone kinds: what packing, the first token, MLM and dropout need to know of a model type, one row a type.

A type without a row works too: it is not packed, and its last layer sees all tokens. A package adds the row of its own
architecture by the entry point `simcse_lit.backbones`, named for the model type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simcse_lit.config.installed import installed
from simcse_lit.errors import UserError

BACKBONES = "simcse_lit.backbones"  # the entry points

# The settings in which architectures keep the dropout of hidden states and of attention.
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # RoBERTa, ALBERT, ELECTRA, DeBERTa, too
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
    """What is known of a model type.

    Args:
        dropouts: the settings of its configuration that `model.dropout` sets, as far as it has them.
        first_position: from the configuration, the position id of a sentence's first token. It says that a row may hold
            several sentences (`packing.py`): under PyTorch's own attention the model takes `position_ids` and a boolean mask
            of (R, 1, W, W), and nothing else tells where in the row a token is. None: it cannot be packed.
        after_attention: the module of a layer that takes attention's output and the residual, or their sum. It says that
            nothing after it reads another token, so that the last layer may go on with the first token alone
            (`first_token.py`). None: there is no such module.
        layers: where the backbone keeps its layers, if `after_attention` is given.
        masked_lm: whether `AutoModelForMaskedLM` has a head for it and its tokens see both sides; None: ask transformers.
        unreached: the ends of the names of parameters that no sentence reaches; several devices would wait for them.
        calls_its_pooler: it does not ask whether it has one.
        padding_counts: padding changes the states of a sentence's tokens, so it is refused.
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
    """BERT counts positions from 0."""
    return 0


def after_padding(config: Any) -> int:
    """RoBERTa counts positions from the one behind the id of padding."""
    return int(config.pad_token_id) + 1


BERT = Kind(BERT_DROPOUTS, zero, "attention.output", masked_lm=True)
ROBERTA = Kind(BERT_DROPOUTS, after_padding, "attention.output", masked_lm=True)
UNKNOWN = Kind()
KINDS = {
    "albert": Kind(BERT_DROPOUTS, zero, masked_lm=True),  # one layer's weights serve all
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
    """Whether a model's code came with it; transformers imports such code below a package of this name."""
    return type(model).__module__.startswith("transformers_modules.")


def kind_of_model(model: Any) -> Kind:
    """The row of a model. Ours are of the classes of transformers: a model that brings its own may differ, whatever type its
    configuration names.

    Raises:
        UserError: as `kind_of`.
    """
    model_type = model.config.model_type
    return UNKNOWN if is_own(model) and model_type in KINDS else kind_of(model_type)


def kind_of(model_type: str) -> Kind:
    """The row of a model type: ours, that of an installed package, or the one of unknown types.

    Raises:
        UserError: a package's row cannot be imported, or is none.
    """
    kind = KINDS.get(model_type) or installed(BACKBONES, model_type) or UNKNOWN
    if not isinstance(kind, Kind):
        raise UserError(f"The entry point {BACKBONES}.{model_type}: is no simcse_lit.encoder.kinds.Kind, but {kind!r}.")
    return kind
