"""Checks of `train.yaml` that need only the configuration, before torch is imported."""

import math
from importlib.util import find_spec

from omegaconf import DictConfig, OmegaConf

from simcse_lit.config import options
from simcse_lit.config.checks.positives import check_views
from simcse_lit.config.checks.rules import check_choices, check_positive, typed
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.roles import has_role, views_of
from simcse_lit.config.schema import AdapterConfig, TrainConfig
from simcse_lit.errors import UserError, did_you_mean

WITHOUT_PEFT = "adapter=lora: needs peft, which is not installed.\nInstall it with: pip install 'simcse-lit[lora]'"

POSITIVE = (
    "loss.temperature",
    "optimizer.lr",
    "data.batch_size",
    "trainer.val_check_interval",
    "trainer.log_every_n_steps",
    "evaluation.token_budget",
)
NOT_NEGATIVE = ("trainer.chunk_overhead", "loss.mlm_weight", "optimizer.weight_decay", "data.num_workers")
# Arguments of Lightning's Trainer that simcse-lit sets, and what to use instead.
OWN_ARGUMENTS = {
    "callbacks": "add a callback with +callbacks.mine._target_=package.Class, or remove one with callbacks.progress=null",
    "logger": "choose loggers with logger=csv, or add one with +logger.mine._target_=package.Class",
    "plugins": "a plugin of simcse-lit writes checkpoints so that a crash cannot damage them; trainer.precision and\n"
    "trainer.strategy choose the other plugins",
    "default_root_dir": "choose the run folder with hydra.run.dir=DIR",
    "enable_checkpointing": "switch checkpoints off with callbacks.checkpoint=null callbacks.last=null",
    "enable_progress_bar": "switch the bar off with callbacks.progress=null",
    "barebones": "switch parts off one by one: callbacks.NAME=null, logger.NAME=null",
    "use_distributed_sampler": "simcse-lit distributes the batches over the processes (data/order.py)",
    "check_val_every_n_epoch": "validation is timed in steps: trainer.val_check_interval=STEPS",
    "reload_dataloaders_every_n_epochs": "seed and epoch decide the order of an epoch; there is nothing to reload",
}
# Arguments that leave out sentences of the scored sets.
PARTIAL_SCORES = ("limit_val_batches", "limit_test_batches", "fast_dev_run", "overfit_batches", "num_sanity_val_steps")


def validate(composed: DictConfig) -> TrainConfig:
    """Check a composed `train.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = typed(composed, TrainConfig)
    check_choices(composed)
    check_positive(composed, POSITIVE)
    for key in NOT_NEGATIVE:
        value = OmegaConf.select(composed, key)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{key}={value}: must be 0 or greater.")
    _check_ranges(config)
    _check_adapter(config.adapter)
    _check_stream(config)
    _check_combinations(config)
    return config


def _check_ranges(config: TrainConfig) -> None:
    if config.data.max_length < 3:
        raise UserError(f"data.max_length={config.data.max_length}: must be 3 or more, since two tokens are special tokens.")
    for key, share in (
        ("loss.mlm_probability", config.loss.mlm_probability),
        ("model.dropout", config.model.dropout or 0.0),
        ("optimizer.warmup_ratio", config.optimizer.warmup_ratio),
    ):
        if not 0 <= share < 1:
            raise UserError(f"{key}={share}: must be at least 0 and below 1.")
    if config.model.num_layers is not None and config.model.num_layers < 1:
        raise UserError(f"model.num_layers={config.model.num_layers}: must be 1 or more, or null for all layers.")
    if config.model.reinit_layers < 0:
        raise UserError(f"model.reinit_layers={config.model.reinit_layers}: must be 0 or more.")
    if not math.isfinite(config.loss.hard_negative_weight):
        raise UserError(f"loss.hard_negative_weight={config.loss.hard_negative_weight}: must be finite (ln of alpha).")
    epochs = config.trainer.max_epochs
    if epochs < 1 and not (epochs == -1 and config.trainer.max_steps > 0):
        raise UserError(f"trainer.max_epochs={epochs}: must be 1 or more, or -1 with trainer.max_steps=N.")
    if config.trainer.max_steps == 0 or config.trainer.max_steps < -1:
        raise UserError(f"trainer.max_steps={config.trainer.max_steps}: must be 1 or more, or -1 for no limit.")
    clip = config.trainer.gradient_clip_val
    if clip is not None and not (math.isfinite(clip) and clip >= 0):
        raise UserError(f"trainer.gradient_clip_val={clip}: must be 0 or greater, or null for no clipping.")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: must be between 0 and 2^32 - 1.")


def _check_adapter(config: AdapterConfig) -> None:
    given = {key: value for key, value in vars(config).items() if key != "name" and value is not None}
    if config.name == "none":
        if given:
            key, value = next(iter(given.items()))
            raise UserError(f"adapter.{key}={value}: there is no adapter. Add adapter=lora.")
        return
    if config.method is None:
        known = options("adapter")
        raise UserError(f"adapter.name={config.name}: not one of {', '.join(known)}.{did_you_mean(config.name, known)}")
    if not isinstance(config.method, dict):
        raise UserError(f"adapter.method={config.method}: must be a group with a _target_; adapter=NAME sets it.")
    if config.name != "lora":  # its class checks its arguments
        return
    for key in ("r", "alpha"):
        value = getattr(config, key)
        if value is None or value < 1:
            raise UserError(f"adapter.{key}={value}: must be 1 or more.")
    if config.dropout is None or not 0 <= config.dropout < 1:
        raise UserError(f"adapter.dropout={config.dropout}: must be at least 0 and below 1.")
    modules = config.target_modules if isinstance(config.target_modules, list) else [config.target_modules or "all-linear"]
    if not modules or not all(isinstance(module, str) for module in modules):
        raise UserError(f"adapter.target_modules={config.target_modules}: must be null, all-linear, or a list of names.")
    if find_spec("peft") is None:
        raise UserError(WITHOUT_PEFT)


def _check_stream(config: TrainConfig) -> None:
    data = config.data
    if not data.streaming:
        if data.shuffle_buffer is not None:
            raise UserError(
                f"data.shuffle_buffer={data.shuffle_buffer}: only a stream has a buffer; otherwise all examples are "
                "permuted.\n"
                "Set it to null, or stream: data=stream."
            )
        return
    if data.shuffle_buffer is None or data.shuffle_buffer < 1:
        raise UserError(f"data.shuffle_buffer={data.shuffle_buffer}: must be 1 or more; 1 keeps the order of the files.")
    if config.trainer.max_steps < 1:
        raise UserError(
            "trainer.max_steps: a stream has no length, so set when training ends, e.g. trainer.max_steps=10000.\n"
            "One epoch of N rows is N / data.batch_size steps."
        )
    if not data.drop_last:
        raise UserError("data.drop_last=false: a stream always drops an incomplete last batch. Set it to true.")
    if data.num_workers > 1:
        raise UserError(
            f"data.num_workers={data.num_workers}: a stream is read in order by at most one worker. Set it to 1 or 0."
        )
    if "limit_train_batches" in config.trainer.extra:
        raise UserError("trainer.extra.limit_train_batches: a stream has no epochs. Use trainer.max_steps.")


def _check_combinations(config: TrainConfig) -> None:
    check_views(config)
    contrasted = has_role(config.data, "positive")
    if config.data.batch_size < 2 and contrasted and not has_role(config.data, "hard_negative"):
        raise UserError(
            f"data.batch_size={config.data.batch_size}: the other examples of a batch are the negatives, and there are "
            "none,\nso the loss would be 0. Set it to 2 or more."
        )
    if config.pooler.get("name") == "cls_before_pooler" and config.projection.get("name") == "mlp":
        raise UserError(
            "pooler=cls_before_pooler projection=mlp: this pooler reads the first token without the projection, but that "
            "projection is kept at evaluation.\nUse pooler=cls projection=mlp, or projection=mlp_train_only or none."
        )
    _check_devices(config)
    for group, node in (("trainer", config.trainer), ("optimizer", config.optimizer)):
        for key in node.extra:
            if hasattr(node, key):
                raise UserError(f"{group}.extra.{key}: set {group}.{key} instead.")
    for key, instead in OWN_ARGUMENTS.items():
        if key in config.trainer.extra:
            raise UserError(f"trainer.extra.{key}: simcse-lit sets this argument. Instead: {instead}.")
    if "accumulate_grad_batches" in config.trainer.extra:
        raise UserError(
            "trainer.extra.accumulate_grad_batches: does not enlarge the batch of a contrastive loss, since each part "
            "sees only its own in-batch negatives.\n"
            "Use the gradient cache, which computes the large batch's gradient in little memory: trainer.micro_batch_size=N."
        )
    for key in PARTIAL_SCORES:
        if key in config.trainer.extra:
            raise UserError(
                f"trainer.extra.{key}: leaves out sentences of the scored sets, but a score needs its whole set.\n"
                "For a short run: trainer.max_steps=N; for few sentences to score: tasks=samples tasks@dev=samples-dev, or "
                "evaluation.test=false."
            )
    _check_held_out(config)
    if len(config.dev) != 1 and not config.data.held_out:
        raise UserError(
            f"tasks@dev: one task selects the best checkpoint, not {len(config.dev)}. Use e.g. tasks@dev=STS-B-dev."
        )
    if config.demo.queries and config.demo.corpus is None:
        raise UserError("demo.queries: there is nothing to search. Set demo.corpus=FILE.")
    if config.demo.corpus is not None and not local_path(config.demo.corpus, "demo.corpus").is_file():
        raise UserError(f"demo.corpus: {config.demo.corpus}: there is no such file.")


def _check_held_out(config: TrainConfig) -> None:
    held_out = config.data.held_out
    given = f"data.held_out={held_out:g}"
    if not 0 <= held_out < math.inf or (held_out > 1 and not held_out.is_integer()):
        raise UserError(f"{given}: must be a share of the rows below 1, a number of rows, or 0.")
    if config.loss.name == "mlm" and not held_out:
        raise UserError(
            f"{given}: loss=mlm selects the best checkpoint on held-out text. Hold out a share of the rows, e.g.\n"
            "data.held_out=0.05, or a number of them, e.g. data.held_out=1000"
        )
    if not held_out:
        return
    if has_role(config.data, "positive") or not config.loss.mlm_weight:
        raise UserError(f"{given}: only masked language modelling alone has a held-out loss. Use loss=mlm, or set it to 0.")
    if config.data.streaming:
        raise UserError(f"{given}: a stream has no last rows to hold out. Use data=file.")
    if any(view.makers for view in views_of(config.data)):
        raise UserError(f"{given}: needs a view without makers. Remove them from data.views.")
    if config.dev:
        raise UserError(
            f"tasks@dev={next(iter(config.dev))}: the held-out text selects the best checkpoint. Remove tasks@dev."
        )


def _check_devices(config: TrainConfig) -> None:
    trainer = config.trainer
    for key in ("devices", "num_nodes", "micro_batch_size"):
        value = getattr(trainer, key)
        if value is not None and value < 1:
            raise UserError(f"trainer.{key}={value}: must be 1 or more.")
    processes = trainer.devices * trainer.num_nodes
    if processes > 1 and trainer.strategy == "auto":
        raise UserError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}: trainer.strategy=auto supports "
            "one device.\n"
            "Choose a trainer for several: trainer=ddp (GPUs), trainer=fsdp (GPUs, large encoders) or trainer=ddp_cpu."
        )
    fsdp = isinstance(trainer.strategy, dict) and str(trainer.strategy.get("_target_", "")).endswith("FSDPStrategy")
    if fsdp and config.callbacks.get("checkpoint") is None:
        raise UserError(
            "callbacks.checkpoint=null trainer=fsdp: the export needs the best checkpoint. Remove callbacks.checkpoint=null."
        )
    if config.data.batch_size % processes:
        raise UserError(
            f"data.batch_size={config.data.batch_size}: all {processes} devices share this batch, so it must be a "
            f"multiple of {processes}."
        )
