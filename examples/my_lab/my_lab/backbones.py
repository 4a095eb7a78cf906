"""A row for a model type that simcse-lit has none for: the encoders of BertGeneration (Rothe et al. 2020)."""

from simcse_lit.encoder.kinds import Kind, zero

BERT_GENERATION = Kind(
    dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob"),  # what model.dropout sets
    first_position=zero,  # several sentences may share a row: positions count from 0
    layers="encoder.layer",
    after_attention="attention.output",  # after it, no token reads another: pooler=cls continues with the first token
    masked_lm=False,  # AutoModelForMaskedLM has no head for this type
)
