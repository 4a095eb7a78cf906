"""The types of all keys in `conf/`. Values are only in `conf/`: a field without one there is an error.

Hydra merges the YAML files into these classes, so a wrong type or an unknown key fails while composing. The comments in
`conf/` explain the keys.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# What a key holds if its type does not tell, for `as_typed.py`.
HOLDS = "holds"
SENTENCE = "a sentence"  # quotes around it are part of it, and null is a word
TEXTS = "a text, a list of texts, or null"
TEMPLATES = "a text, commas included, or a list of texts in brackets, or null"
NUMBERS = "a number or a list of numbers"


@dataclass
class ModelConfig:
    name_or_path: str = MISSING
    revision: str | None = MISSING
    sha256: str | None = MISSING
    pretrained: bool = MISSING
    num_layers: int | None = MISSING
    dropout: float | None = MISSING
    gradient_checkpointing: bool = MISSING
    attention: str | None = MISSING
    trust_remote_code: bool = MISSING
    reinit_layers: int = MISSING


@dataclass
class AdapterConfig:
    name: str = MISSING
    r: int | None = MISSING
    alpha: int | None = MISSING
    dropout: float | None = MISSING
    target_modules: Any = field(default=MISSING, metadata={HOLDS: TEXTS})
    method: Any = MISSING  # a node with a _target_, or none


@dataclass
class LossConfig:
    name: str = MISSING
    columns: list[str] = MISSING
    temperature: float = MISSING
    similarity: str = MISSING
    encoders: int = MISSING
    fixed_dropout: bool = MISSING
    hard_negative_weight: float = MISSING
    mlm_weight: float = MISSING
    mlm_probability: float = MISSING
    mlm_tied: bool = MISSING
    beside: dict[str, Any] = MISSING
    terms: dict[str, Any] = MISSING


@dataclass
class ViewConfig:  # has defaults here, because a file of conf/ cannot hold defaults for the entries of a list
    column: str = MISSING
    role: str = MISSING
    template: str | None = None
    makers: list[Any] = field(default_factory=list)


@dataclass
class DataConfig:
    train_file: Any = field(default=MISSING, metadata={HOLDS: TEXTS})  # OmegaConf has no union of a list and a text
    revision: str | None = MISSING
    columns: list[str] = MISSING
    views: list[ViewConfig] | None = MISSING
    template: Any = field(default=MISSING, metadata={HOLDS: TEMPLATES})  # a text, a list of texts and nulls, or null
    template_in_length: bool = MISSING
    template_denoising: str = MISSING
    scores: str | None = MISSING
    labels: str | None = MISSING
    optional: list[str] | None = MISSING
    nli_labels: list[str] = MISSING
    next_sentences: int | None = MISSING
    on_bad_row: str = MISSING
    batch_size: int = MISSING
    max_length: int = MISSING
    drop_last: bool = MISSING
    num_workers: int = MISSING
    cache_dir: str = MISSING
    streaming: bool = MISSING
    shuffle_buffer: int | None = MISSING
    held_out: float = MISSING


@dataclass
class AugmentationConfig:
    name: str = MISSING
    rate: float | None = MISSING
    synonyms: str | None = MISSING
    model: str | None = MISSING
    makers: list[Any] = MISSING


@dataclass
class SentEvalConfig:
    dir: str | None = MISSING
    from_hub: bool = MISSING
    cache_dir: str = MISSING


@dataclass
class OptimizerConfig:
    _target_: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    extra: dict[str, Any] = MISSING
    schedule: Any = MISSING  # a name, or a node with a _target_
    warmup_ratio: float = MISSING


@dataclass
class TrainerConfig:
    accelerator: str = MISSING
    devices: int = MISSING
    num_nodes: int = MISSING
    strategy: Any = MISSING  # "auto", or a node whose _target_ is a Lightning strategy
    precision: str = MISSING
    max_epochs: int = MISSING
    max_steps: int = MISSING
    gradient_clip_val: float | None = MISSING
    val_check_interval: int = MISSING
    log_every_n_steps: int = MISSING
    deterministic: bool = MISSING
    micro_batch_size: int | None = MISSING
    length_chunks: str = MISSING
    chunk_overhead: int = MISSING
    compile: str = MISSING
    float32_matmul_precision: str = MISSING
    extra: dict[str, Any] = MISSING


@dataclass
class ScoringConfig:
    before: bool = MISSING
    test: bool = MISSING
    token_budget: int = MISSING


@dataclass
class DemoConfig:
    corpus: str | None = MISSING
    queries: list[str] = MISSING
    next: list[str] = MISSING


@dataclass
class TrainConfig:
    name: str = MISSING
    group: str | None = MISSING
    seed: int = MISSING
    run_dir: Any = MISSING  # str; None under --cfg job --resolve
    resume: str | None = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pooler: dict[str, Any] = field(default_factory=dict)
    projection: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: ScoringConfig = field(default_factory=ScoringConfig)
    senteval: SentEvalConfig = field(default_factory=SentEvalConfig)
    tasks: dict[str, Any] = field(default_factory=dict)
    dev: dict[str, Any] = field(default_factory=dict)
    analyses: dict[str, Any] = field(default_factory=dict)
    demo: DemoConfig = field(default_factory=DemoConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)


@dataclass
class PostprocessConfig:
    name: str = MISSING
    transform: dict[str, Any] = field(default_factory=dict)
    dim: int | None = MISSING
    fit_on: str | None = MISSING
    columns: list[str] = MISSING


@dataclass
class BootstrapConfig:
    samples: int = MISSING
    confidence: float = MISSING
    seed: int = MISSING


@dataclass
class EvaluateConfig:
    checkpoint: Any = field(default=MISSING, metadata={HOLDS: TEXTS})  # after validation, the list of checkpoints found
    compare: Any = field(default=MISSING, metadata={HOLDS: TEXTS})  # after validation, a list of none or two
    revision: str | None = MISSING
    trust_remote_code: bool = MISSING
    prompt: str | None = MISSING
    truncate_dim: int | None = MISSING
    name: str = MISSING
    max_length: int = MISSING
    token_budget: int = MISSING
    precision: str = MISSING
    device: str = MISSING
    embedding_cache: str | None = MISSING
    run_dir: Any = MISSING
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    senteval: SentEvalConfig = field(default_factory=SentEvalConfig)
    tasks: dict[str, Any] = field(default_factory=dict)
    analysed: dict[str, Any] = field(default_factory=dict)
    analyses: dict[str, Any] = field(default_factory=dict)
    pooler: dict[str, Any] | None = None
    projection: dict[str, Any] | None = None


@dataclass
class IndexConfig:
    kind: str = MISSING
    links: int | None = None  # keys that a kind does not use are null
    ef_construction: int | None = None
    ef_search: int | None = None
    cells: int | None = None
    bytes: int | None = None
    probes: int | None = None
    rerank: int | None = None
    recall_goal: float | None = None


@dataclass
class EncoderConfig:
    """Keys of every command that uses one encoder: `conf/encoder/default.yaml`."""

    checkpoint: str | None = MISSING
    revision: str | None = MISSING
    trust_remote_code: bool = MISSING
    prompt: str | None = MISSING
    truncate_dim: int | None = MISSING
    max_length: int = MISSING
    token_budget: int = MISSING
    precision: str = MISSING
    device: str = MISSING
    pooler: dict[str, Any] | None = None
    projection: dict[str, Any] | None = None


@dataclass
class EncodeConfig(EncoderConfig):
    input: str | None = MISSING
    column: str | None = MISSING
    output: str | None = MISSING
    normalize: bool = MISSING
    on_bad_row: str = MISSING
    block: int = MISSING


@dataclass
class SimilarityConfig(EncoderConfig):
    first: str | None = field(default=MISSING, metadata={HOLDS: SENTENCE})
    second: str | None = field(default=MISSING, metadata={HOLDS: SENTENCE})
    column: str | None = MISSING


@dataclass
class LimitsConfig:
    body_mb: float = MISSING
    upload_mb: float = MISSING
    sentences: int = MISSING
    characters: int = MISSING
    matrix: int = MISSING
    corpus: int = MISSING
    waiting: int = MISSING


@dataclass
class ServeConfig(EncoderConfig):
    folder: str | None = MISSING
    corpus: str | None = MISSING
    column: str | None = MISSING
    host: str = MISSING
    port: int = MISSING
    upload: bool = MISSING
    limits: LimitsConfig = field(default_factory=LimitsConfig)


@dataclass
class BuildIndexConfig(EncoderConfig):
    folder: str | None = MISSING
    input: str | None = MISSING
    column: str | None = MISSING
    vectors: str | None = MISSING
    add: str | None = MISSING
    delete: Any = field(default=MISSING, metadata={HOLDS: NUMBERS})  # after validation, a list
    on_bad_row: str = MISSING
    block: int = MISSING
    index: IndexConfig = field(default_factory=IndexConfig)


@dataclass
class SearchConfig(EncoderConfig):
    folder: str | None = MISSING
    query: str | None = field(default=MISSING, metadata={HOLDS: SENTENCE})
    input: str | None = MISSING
    column: str | None = MISSING
    top_k: int = MISSING
    threshold: float = MISSING
    output: str = MISSING


@dataclass
class ExportConfig:
    checkpoint: str | None = MISSING
    revision: str | None = MISSING
    trust_remote_code: bool = MISSING
    prompt: str | None = MISSING
    truncate_dim: int | None = MISSING
    format: dict[str, Any] = MISSING
    output: str | None = MISSING
    int8: bool = MISSING
    push_to_hub: str | None = MISSING
    private: bool = MISSING
    pooler: dict[str, Any] | None = None
    projection: dict[str, Any] | None = None


@dataclass
class ImportConfig:
    checkpoint: str | None = MISSING
    tokenizer: str | None = MISSING
    trust_remote_code: bool = MISSING
    output: str | None = MISSING
    pooler: dict[str, Any] | None = None
    projection: dict[str, Any] | None = None


SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "encode": EncodeConfig,
    "similarity": SimilarityConfig,
    "serve": ServeConfig,
    "index": BuildIndexConfig,
    "search": SearchConfig,
    "export": ExportConfig,
    "import_checkpoint": ImportConfig,
}


def register() -> None:
    """Register the schemas with Hydra under the names that each verb's file in `conf/` lists first."""
    for verb, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{verb}_schema", node=schema)
