"""What a wrong configuration is told: each rule's message names the key and what to do about it."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.train import validate
from simcse_lit.config.hydra_words import explain
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError
from tests.conftest import evaluate_config

Values = dict[str, Any]

positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
not_positive = st.floats(max_value=0) | st.just(math.nan) | st.just(math.inf)


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=["run_dir=run", *overrides])


def told(*overrides: str) -> str:
    """The message for overrides of the command line."""
    try:
        validate(composed(*overrides))
    except UserError as error:
        return str(error)
    except HydraException as error:  # found while composing
        message = explain(error, "train")
        assert message is not None, error
        return message
    pytest.fail(f"{overrides}: passed as valid")


@cache
def whole(loss: str) -> DictConfig:
    return composed(f"loss={loss}")


def changed(loss: str, values: Values) -> TrainConfig:
    """Validate the recipe of a loss with some keys set anew."""
    config = whole(loss).copy()
    for key, value in values.items():
        OmegaConf.update(config, key, value, force_add=True)
    return validate(config)


def told_after(loss: str, key: str, value: Any) -> str:
    with pytest.raises(UserError) as caught:
        changed(loss, {key: value})
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "wrong", "remedy"),
    [
        # Found while Hydra composes.
        ("loss.temprature=1", "loss.temprature", "Did you mean loss.temperature?"),
        ("data.bach_size=4", "data.bach_size", "Did you mean data.batch_size?"),
        ("sed=1", "sed", "Did you mean seed?"),
        ("modle=tiny", "modle", "Did you mean model?"),
        ("temperature=0.1", "temperature", "Did you mean loss.temperature?"),
        ("lr=1e-5", "lr", "Did you mean optimizer.lr?"),
        ("callbacks.progess=null", "callbacks.progess", "Did you mean callbacks.progress?"),
        ("model.name=bert", "model.name", "Did you mean model.name_or_path?"),
        ("trainer.limit_train_batches=10", "trainer.limit_train_batches", "+trainer.extra.limit_train_batches"),
        # Added with + or ++, so that Hydra lets it pass.
        ("+trainer.foo=1", "trainer.foo", "trainer.extra"),
        ("++loss.temprature=1", "loss.temprature", "Did you mean loss.temperature?"),
        ("+tempereture=1", "tempereture", "--cfg job"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_one(override: str, wrong: str, remedy: str) -> None:
    message = told(override)
    assert message.startswith(f"{wrong}: there is no such key.")
    assert remedy in message


@pytest.mark.parametrize(
    ("override", "key", "kind"),
    [
        ("trainer.devices=two", "trainer.devices", "integer"),
        ("seed=1.5", "seed", "integer"),
        ("loss.temperature=warm", "loss.temperature", "float"),
        ("model.pretrained=maybe", "model.pretrained", "bool"),
        ("data.columns=sent0", "data.columns", "list"),
    ],
)
def test_a_wrong_type_is_named_with_the_right_one(override: str, key: str, kind: str) -> None:
    message = told(override)
    assert message.startswith(f"{key}: ")
    assert kind in message.lower()
    assert not message.endswith("..")


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    message = told("model=bert-bse")
    assert message.startswith("model=bert-bse: there is no such option. Did you mean bert-base?")
    assert "roberta-large" in message  # and all others


def test_a_hub_id_as_an_option_is_sent_to_the_key_where_it_belongs() -> None:
    assert "model.name_or_path=BAAI/bge-base" in told("model=BAAI/bge-base")


def test_a_mandatory_value_that_is_missing_is_named() -> None:
    message = told("data=file")
    assert message.startswith("data.train_file: ") and "data.train_file=" in message


@pytest.mark.parametrize("experiment", ["miniature-sup", "miniature-unsup"])
def test_the_miniatures_ask_for_simcse_data(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMCSE_DATA", raising=False)
    message = told(f"experiment={experiment}")
    assert message.startswith("model.name_or_path: ")
    assert "SIMCSE_DATA is not set" in message and "model.name_or_path=MODEL" in message
    message = told(f"experiment={experiment}", "model=minilm")
    assert message.startswith("data.train_file: ")
    assert "SIMCSE_DATA is not set" in message and "data.train_file=FILE" in message


def test_another_variable_that_is_not_set_is_named() -> None:
    message = told("name=${oc.env:SIMCSE_NO_SUCH_VARIABLE}")
    assert message.startswith("name: ") and "SIMCSE_NO_SUCH_VARIABLE" in message


NUMBERS = [
    ("loss.temperature", 0.0, "greater than 0"),
    ("loss.temperature", -0.05, "greater than 0"),
    ("loss.temperature", math.nan, "finite"),
    ("loss.temperature", math.inf, "finite"),
    ("optimizer.lr", 0.0, "greater than 0"),
    ("optimizer.lr", math.nan, "finite"),
    ("data.batch_size", 0, "greater than 0"),
    ("trainer.max_epochs", 0, "1 or more"),
    ("trainer.val_check_interval", 0, "greater than 0"),
    ("trainer.log_every_n_steps", 0, "greater than 0"),
    ("evaluation.token_budget", -1, "greater than 0"),
    ("loss.mlm_weight", -0.1, "0 or greater"),
    ("loss.mlm_weight", math.nan, "0 or greater"),
    ("optimizer.weight_decay", -0.01, "0 or greater"),
    ("data.num_workers", -1, "0 or greater"),
    ("data.max_length", 2, "3 or more"),
    ("loss.mlm_probability", 1.0, "below 1"),
    ("model.dropout", 1.0, "below 1"),
    ("model.dropout", -0.1, "at least 0"),
    ("model.dropout", math.nan, "below 1"),
    ("optimizer.warmup_ratio", 1.0, "below 1"),
    ("model.num_layers", 0, "1 or more"),
    ("loss.hard_negative_weight", math.nan, "finite"),
    ("loss.hard_negative_weight", -math.inf, "finite"),
    ("trainer.max_steps", 0, "1 or more"),
    ("trainer.max_steps", -2, "1 or more"),
    ("trainer.gradient_clip_val", -1.0, "0 or greater"),
    ("trainer.gradient_clip_val", math.nan, "0 or greater"),
    ("seed", -1, "between 0"),
    ("seed", 2**32, "2^32 - 1"),
]


@pytest.mark.parametrize(("key", "value", "right"), NUMBERS)
def test_a_number_out_of_range_is_named_with_the_range(key: str, value: float, right: str) -> None:
    message = told_after("sup", key, value)
    assert message.startswith(f"{key}={value}: ")
    assert right in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.max_length", 3),
        ("model.dropout", 0.0),
        ("model.dropout", None),
        ("model.num_layers", 1),
        ("trainer.max_steps", 1),
        ("trainer.gradient_clip_val", None),
        ("optimizer.warmup_ratio", 0.999),
        ("loss.hard_negative_weight", -3.0),
        ("seed", 0),
        ("seed", 2**32 - 1),
    ],
)
def test_the_last_value_within_a_range_is_valid(key: str, value: float | None) -> None:
    config = changed("sup", {key: value})
    group, _, name = key.rpartition(".")
    assert getattr(getattr(config, group) if group else config, name) == value


@settings(deadline=None)  # the first example composes
@given(temperature=positive, lr=positive, batch_size=st.integers(min_value=2), loss=st.sampled_from(["unsup", "sup"]))
def test_any_finite_positive_temperature_rate_and_batch_size_are_valid(
    temperature: float, lr: float, batch_size: int, loss: str
) -> None:
    config = changed(loss, {"loss.temperature": temperature, "optimizer.lr": lr, "data.batch_size": batch_size})
    assert (config.loss.temperature, config.optimizer.lr, config.data.batch_size) == (temperature, lr, batch_size)


@settings(deadline=None)  # the first example composes
@given(value=not_positive, key=st.sampled_from(["loss.temperature", "optimizer.lr"]))
def test_no_other_temperature_or_rate_is_valid(value: float, key: str) -> None:
    assert told_after("unsup", key, value).startswith(f"{key}=")


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("pooler.name", "averag", "avg"),
        ("pooler.name", "lasttoken", "last_token"),
        ("adapter.name", "lore", "lora"),
        ("projection.name", "mpl", "mlp"),
        ("loss.similarity", "dots", "dot"),
        ("optimizer.schedule", "linar", "linear"),
        ("trainer.length_chunks", "allways", "always"),
        ("trainer.precision", "bf16", "bf16-mixed"),
        ("trainer.accelerator", "cpus", "cpu"),
        ("data.on_bad_row", "skipp", "skip"),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_nearest(key: str, value: str, nearest: str) -> None:
    message = told_after("unsup", key, value)
    assert message.startswith(f"{key}={value}: not one of ")
    assert message.endswith(f" Did you mean {nearest}?")


COMBINATIONS: list[tuple[str, Values, list[str]]] = [
    ("sup", {"data.columns": ["sent0"]}, ["loss=sup", "data.columns=[sent0]", "data.columns=[sent0,sent1", "loss=unsup"]),
    ("sup", {"data.columns": []}, ["loss=sup", "data.columns=[]", "two columns"]),
    ("unsup", {"data.columns": ["a", "b"]}, ["loss=unsup", "data.columns=[a,b]", "one column", "loss=sup"]),
    ("unsup", {"loss.hard_negative_weight": 1.0}, ["loss.hard_negative_weight=1.0", "Set it to 0", "third column"]),
    (
        "sup",
        {"loss.hard_negative_weight": -1.0, "data.columns": ["a", "b"]},
        ["loss.hard_negative_weight=-1.0", "data.columns=[a,b]", "third column"],
    ),
    ("sup", {"data.train_file": "text.txt"}, ["data.train_file", "loss=sup", ".txt", "csv", "loss=unsup"]),
    ("sup", {"data.train_file": "s3://bucket/text.txt.gz"}, ["data.train_file", "loss=sup", ".txt", "csv", "loss=unsup"]),
    ("sup", {"data.train_file": ["pairs.csv", "text.txt"]}, ["data.train_file", ".txt", "loss=unsup"]),
    ("unsup", {"data.train_file": 3}, ["data.train_file=3", "path"]),
    ("unsup", {"data.train_file": []}, ["data.train_file=[]", "path"]),
    (
        "sup",
        {"pooler.name": "cls_before_pooler"},
        ["pooler=cls_before_pooler", "projection=mlp:", "pooler=cls", "projection=mlp_train_only", "none"],
    ),
    ("unsup", {"trainer.devices": 2}, ["trainer.devices=2", "trainer=ddp"]),
    ("unsup", {"trainer.num_nodes": 2}, ["trainer.num_nodes=2", "trainer=ddp"]),
    ("unsup", {"trainer.devices": -1}, ["trainer.devices=-1", "1 or more"]),
    ("unsup", {"trainer.micro_batch_size": 0}, ["trainer.micro_batch_size=0", "1 or more"]),
    (
        "unsup",
        {"data.batch_size": 65, "trainer.devices": 2, "trainer.strategy": "ddp"},
        ["data.batch_size=65", "multiple of 2"],
    ),
    ("unsup", {"trainer.extra.num_nodes": 2}, ["trainer.extra.num_nodes", "trainer.num_nodes"]),
    (
        "unsup",
        {"trainer.extra.accumulate_grad_batches": 2},
        ["trainer.extra.accumulate_grad_batches", "in-batch negatives", "trainer.micro_batch_size"],
    ),
    *[
        (
            "unsup",
            {f"trainer.extra.{key}": 1},
            [f"trainer.extra.{key}", "needs its whole set", "trainer.max_steps", "tasks=samples"],
        )
        for key in ("limit_val_batches", "limit_test_batches", "fast_dev_run", "overfit_batches", "num_sanity_val_steps")
    ],
    ("unsup", {"trainer.extra.max_epochs": 2}, ["trainer.extra.max_epochs", "trainer.max_epochs"]),
    *[
        ("unsup", {f"trainer.extra.{key}": value}, [f"trainer.extra.{key}: simcse-lit sets this argument", instead])
        for key, value, instead in (
            ("callbacks", [], "+callbacks.mine._target_="),
            ("logger", False, "logger=csv"),
            ("plugins", ["x"], "so that a crash cannot damage them"),
            ("default_root_dir", "elsewhere", "hydra.run.dir=DIR"),
            ("enable_checkpointing", False, "callbacks.checkpoint=null"),
            ("enable_progress_bar", False, "callbacks.progress=null"),
            ("barebones", True, "callbacks.NAME=null"),
            ("use_distributed_sampler", True, "distributes the batches"),
            ("check_val_every_n_epoch", 1, "trainer.val_check_interval=STEPS"),
            ("reload_dataloaders_every_n_epochs", 1, "nothing to reload"),
        )
    ],
    ("unsup", {"optimizer.extra.lr": 1.0}, ["optimizer.extra.lr", "optimizer.lr"]),
    ("unsup", {"demo.queries": ["a man"]}, ["demo.queries", "demo.corpus=FILE"]),
    ("unsup", {"loss.encoders": 3}, ["loss.encoders=3", "1", "2"]),
    ("unsup", {"loss.encoders": 2, "loss.mlm_weight": 0.1}, ["loss.encoders=2", "loss.mlm_weight"]),
    ("unsup", {"loss.mlm_tied": False}, ["loss.mlm_tied=false", "loss.mlm_weight=0.1"]),
    ("sup", {"loss.fixed_dropout": True}, ["loss.fixed_dropout=true", "loss=unsup"]),
    ("unsup", {"loss.fixed_dropout": True, "loss.encoders": 2}, ["loss.fixed_dropout=true", "loss.encoders=1"]),
    ("unsup", {"loss.fixed_dropout": True, "augmentation.name": "delete_one_word"}, ["fixed_dropout", "augmentation=none"]),
    ("sup", {"augmentation.name": "delete_one_word"}, ["augmentation=delete_one_word", "loss=sup", "loss=unsup"]),
    ("unsup", {"augmentation.name": "crop"}, ["augmentation.rate=None", "below 1"]),
    ("unsup", {"augmentation.name": "word_deletion", "augmentation.rate": 1.0}, ["augmentation.rate=1.0", "below 1"]),
    ("unsup", {"augmentation.rate": 0.1}, ["augmentation.rate=0.1", "augmentation=crop"]),
    ("unsup", {"augmentation.name": "synonym"}, ["augmentation.synonyms", "TAB"]),
    ("unsup", {"augmentation.synonyms": "a.tsv"}, ["augmentation.synonyms=a.tsv", "augmentation=synonym"]),
    ("unsup", {"augmentation.name": "mlm"}, ["augmentation.rate=None", "below 1"]),
    (
        "unsup",
        {"augmentation.name": "word_deltion"},
        ["augmentation.name=word_deltion", "no augmentation.makers", "Did you mean word_deletion?", "augmentation=NAME"],
    ),
    (
        "unsup",
        {"augmentation.makers": [{"_target_": "a.Class"}]},
        ["augmentation.makers", "augmentation.name=NAME"],
    ),
    ("unsup", {"augmentation.model": "owner/name"}, ["augmentation.model=owner/name", "augmentation=mlm"]),
    (
        "unsup",
        {"augmentation.name": "mlm", "augmentation.rate": 0.15, "model.pretrained": False},
        ["augmentation=mlm", "model.pretrained=false", "augmentation.model=HUB_ID_OR_FOLDER"],
    ),
    ("sup", {"augmentation.name": "mlm", "augmentation.rate": 0.15}, ["augmentation=mlm", "loss=sup", "loss=unsup"]),
    (
        "unsup",
        {"augmentation.name": "mlm", "augmentation.rate": 0.15, "data.template": "a {text}"},
        ["augmentation=mlm", "data.template", "words of the template"],
    ),
    ("unsup", {"data.next_sentences": 0, "data.train_file": "a.txt"}, ["data.next_sentences=0", "1 or more"]),
    ("unsup", {"data.next_sentences": 1, "data.train_file": "a.csv"}, ["data.next_sentences", ".txt"]),
    ("sup", {"data.next_sentences": 1, "data.train_file": "a.csv"}, ["data.next_sentences", ".txt"]),
    (
        "unsup",
        {"data.next_sentences": 1, "data.train_file": "a.txt", "augmentation.name": "delete_one_word"},
        ["data.next_sentences", "augmentation=delete_one_word"],
    ),
    (
        "unsup",
        {
            "data.next_sentences": 1,
            "data.train_file": "a.txt",
            "data.streaming": True,
            "data.shuffle_buffer": 9,
            "data.drop_last": True,
            "trainer.max_steps": 9,
        },
        ["data.next_sentences", "data=stream", "data=file"],
    ),
    ("sup", {"data.nli_labels": ["entailment", "entailment"]}, ["data.nli_labels=[entailment,entailment]", "different"]),
    ("sup", {"data.nli_labels": ["all", "neutral"]}, ["data.nli_labels=[all,neutral]", "[all]"]),
    ("sup", {"data.nli_labels": []}, ["data.nli_labels=[]"]),
    ("unsup", {"adapter.r": 8}, ["adapter.r=8", "adapter=lora"]),
    ("unsup", {"adapter.target_modules": ["query"]}, ["adapter.target_modules=['query']", "adapter=lora"]),
]
STREAM = {"data.streaming": True, "data.shuffle_buffer": 100, "data.drop_last": True, "trainer.max_steps": 10}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"trainer.max_steps": -1}, ["trainer.max_steps: ", "no length"]),
        ({"data.shuffle_buffer": 0}, ["data.shuffle_buffer=0", "1 or more"]),
        ({"data.shuffle_buffer": None}, ["data.shuffle_buffer=None", "1 or more"]),
        ({"data.drop_last": False}, ["data.drop_last=false", "Set it to true"]),
        ({"data.num_workers": 2}, ["data.num_workers=2", "1 or 0"]),
        ({"trainer.extra.limit_train_batches": 5}, ["trainer.extra.limit_train_batches", "trainer.max_steps"]),
        ({"data.streaming": False}, ["data.shuffle_buffer=100", "data=stream"]),
    ],
)
def test_what_a_stream_cannot_do_is_named(values: Values, parts: list[str]) -> None:
    assert changed("unsup", STREAM).data.streaming
    with pytest.raises(UserError) as caught:
        changed("unsup", STREAM | values)
    assert [part for part in parts if part not in str(caught.value)] == []


# A valid adapter=lora.
METHOD = {"_target_": "simcse_lit.encoder.lora.LoRA"}
LORA = {"adapter.name": "lora", "adapter.r": 8, "adapter.alpha": 16, "adapter.dropout": 0.1, "adapter.method": METHOD}


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("adapter.r", 0, "1 or more"),
        ("adapter.r", None, "1 or more"),
        ("adapter.alpha", 0, "1 or more"),
        ("adapter.dropout", 1.0, "below 1"),
        ("adapter.dropout", math.nan, "below 1"),
        ("adapter.target_modules", [], "a list of names"),
        ("adapter.target_modules", 3, "a list of names"),
    ],
)
def test_a_wrong_adapter_is_named(key: str, value: Any, right: str) -> None:
    assert changed("unsup", LORA).adapter.r == 8
    with pytest.raises(UserError) as caught:
        changed("unsup", LORA | {key: value})
    assert str(caught.value).startswith(f"{key}={value}: ") and right in str(caught.value)


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simcse_lit.config.checks.train.find_spec", lambda name: None)
    changed("unsup", {})
    with pytest.raises(UserError, match=r"adapter=lora: needs peft.*\n.*pip install 'simcse-lit\[lora\]'"):
        changed("unsup", LORA)


@pytest.mark.parametrize(
    ("loss", "values", "parts"), COMBINATIONS, ids=[f"{loss}-{'-'.join(values)}" for loss, values, _ in COMBINATIONS]
)
def test_a_contradiction_is_named_with_a_way_out(loss: str, values: Values, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        changed(loss, values)
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize(
    ("loss", "values"),
    [
        ("sup", {"data.columns": ["a", "b"]}),
        ("sup", {"data.columns": list("abcd"), "loss.hard_negative_weight": 1.0}),
        ("sup", {"loss.hard_negative_weight": 1.0}),
        ("unsup", {"data.columns": ["a"], "data.train_file": "pairs.csv"}),
        ("unsup", {"data.train_file": ["a.txt", "b.txt"]}),
        ("sup", {"pooler.name": "cls_before_pooler", "projection.name": "mlp_train_only"}),
        ("unsup", {"demo.queries": ["a man"], "demo.corpus": "pkg://simcse_lit/data/samples/wikipedia.txt"}),
        ("unsup", {"trainer.extra.limit_train_batches": 10}),
        ("unsup", {"callbacks.progress": None}),
    ],
)
def test_the_way_out_is_valid(loss: str, values: Values) -> None:
    assert changed(loss, values).loss.name == loss


def test_what_validation_returns_is_typed_and_resolved() -> None:
    config = changed("sup", {})
    assert isinstance(config, TrainConfig)
    assert (config.name, config.data.columns) == ("sup", ["sent0", "sent1", "hard_neg"])  # ${loss.name}, ${loss.columns}


def test_a_pattern_of_encoders_is_a_path_if_that_is_there_and_may_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("br[ack]et", "10", "2"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert evaluate_config(f"checkpoint='{tmp_path}/br[ack]et'").checkpoint == [f"{tmp_path}/br[ack]et"]
    assert evaluate_config("checkpoint='~/[0-9]*'").checkpoint == [f"{tmp_path}/2", f"{tmp_path}/10"]
