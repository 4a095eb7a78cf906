"""The configuration of a run folder of version 0.1, and of one that lacks keys."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from simcse_lit.config.earlier import compose, read_config, read_overrides
from simcse_lit.config.same_run import identity
from simcse_lit.errors import UserError
from simcse_lit.reporting.sweep.comparison import find_axes
from simcse_lit.reporting.sweep.runs import read_runs
from tests.conftest import OLD, train_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD / "finished", tmp_path / "run")
    return tmp_path / "run"


def without(run: Path, key: str) -> None:
    """Take a key, or a group, out of the run's config.yaml."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *groups, leaf = key.split(".")
    node = config
    for group in groups:
        node = node[group]
    del node[leaf]
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_an_old_target_has_its_path_of_today(run: Path) -> None:
    assert yaml.safe_load((run / "config.yaml").read_text())["callbacks"]["last"]["_target_"].startswith("simcse_lit.model.")
    assert read_config(run)["callbacks"]["last"]["_target_"] == "simcse_lit.training.checkpoints.LastCheckpoint"


@pytest.mark.parametrize("key", ["loss.mlm_weight", "trainer.chunk_overhead", "adapter", "adapter.target_modules"])
def test_a_key_that_the_run_lacks_counts_as_its_default(run: Path, key: str) -> None:
    whole = read_config(run)
    without(run, key)
    assert read_config(run) == whole
    assert identity(read_config(run)) == identity(whole)


@pytest.mark.parametrize("key", ["loss.terms.contrastive.targets", "loss.terms.mlm.probability"])
def test_an_option_that_a_term_of_the_run_lacks_counts_as_its_default(run: Path, key: str) -> None:
    whole = read_config(run)
    (run / "config.yaml").write_text(yaml.safe_dump(whole))
    without(run, key)
    assert read_config(run) == whole
    whole["loss"]["terms"]["contrastive"] = {"_target_": "my_lab.terms.Memory", "size": 8}
    (run / "config.yaml").write_text(yaml.safe_dump(whole))
    assert read_config(run) == whole, "another's class has no options of ours"


def test_a_run_of_version_0_1_shared_the_word_embeddings_with_its_head(run: Path) -> None:
    assert "mlm_tied" not in yaml.safe_load((run / "config.yaml").read_text())["loss"]
    assert read_config(run)["loss"]["mlm_tied"] is True


def test_a_run_that_is_older_than_its_adapters_class_is_the_same_run(run: Path) -> None:
    words = [*read_overrides(run), "adapter=lora", "adapter.r=8"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    config = yaml.safe_load((run / "config.yaml").read_text())
    now = asdict(train_config("adapter=lora", "adapter.r=8").adapter)
    config["adapter"] = {key: value for key, value in now.items() if key != "method"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_config(run)["adapter"] == now
    assert now["method"]["r"] == 8


def test_the_default_is_that_beside_the_runs_own_choices(run: Path) -> None:
    without(run, "data.columns")  # of loss=sup, which the run chose
    assert read_config(run)["data"]["columns"] == ["sent0", "sent1", "hard_neg"]


def test_a_run_that_is_older_than_makers_has_those_of_its_augmentation(run: Path) -> None:
    assert read_config(run)["augmentation"]["makers"] == []
    overrides = run / ".hydra" / "overrides.yaml"
    words = [word for word in yaml.safe_load(overrides.read_text()) if not word.startswith("data.columns")]
    asked = [*words, "loss=unsup", "loss.hard_negative_weight=0", "augmentation=crop", "augmentation.rate=0.2"]
    overrides.write_text(yaml.safe_dump(asked))
    crop = {"_target_": "simcse_lit.views.augmentation.Crop", "rate": 0.2}
    assert read_config(run)["augmentation"]["makers"] == [crop]
    assert asdict(train_config(*asked).augmentation)["makers"] == [crop], "and so it is the same run"


def test_a_key_that_differs_is_not_taken_for_its_default(run: Path) -> None:
    whole = read_config(run)
    config = OmegaConf.load(run / "config.yaml")
    config.loss.mlm_weight = 0.5
    OmegaConf.save(config, run / "config.yaml")
    assert identity(read_config(run)) != identity(whole)


def test_a_run_whose_overrides_do_not_compose_here_is_read_as_it_stands(run: Path) -> None:
    (run / ".hydra" / "overrides.yaml").write_text("- model=of-their-own-folder\n")
    without(run, "loss.mlm_weight")
    assert "mlm_weight" not in read_config(run)["loss"]


def test_overrides_that_name_an_old_path_are_replayed_with_the_new_one(run: Path) -> None:
    words = ["+callbacks.mine._target_=simcse_lit.model.callbacks.Throughput", "loss.temperature=0.1", "~dev"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    assert read_overrides(run) == ["+callbacks.mine._target_=simcse_lit.training.callbacks.Throughput", *words[1:]]


@pytest.mark.parametrize("pooler", ["avg", "avg_first_last", "avg_top2"])
def test_a_mean_that_was_trained_with_the_losss_projection_is_replayed_with_it(run: Path, pooler: str) -> None:
    """Version 0.1 kept the projection of the loss, and these poolers now select none."""
    words = ["loss=sup", f"pooler={pooler}", "data.train_file=a.csv"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["projection"]["name"] = "mlp"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_overrides(run) == [*words, "projection=mlp"]
    assert compose("train", ["run_dir=unused", *read_overrides(run)]).projection.name == "mlp"
    for named in ("projection=none", "projection.name=none"):
        (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*words, named]))
        assert read_overrides(run) == [*words, named]


@pytest.mark.parametrize("pooler", ["cls", "last_token", "cls_before_pooler"])
def test_under_another_pooler_nothing_is_added_to_the_overrides(run: Path, pooler: str) -> None:
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"pooler={pooler}"]))
    assert read_overrides(run) == [f"pooler={pooler}"]


@pytest.mark.parametrize("text", ["", "- 1", "a: ["])
def test_a_damaged_file_is_named(run: Path, text: str) -> None:
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read"):
        read_config(run)


def test_an_old_run_and_one_of_today_differ_in_what_was_chosen_alone(run: Path) -> None:
    """A report has no axis for keys that are younger than the old run."""
    young = run.parent / "young"
    shutil.copytree(run, young)
    (young / "config.yaml").write_text(yaml.safe_dump({**read_config(run), "seed": 7}))
    assert "terms" not in yaml.safe_load((run / "config.yaml").read_text())["loss"]
    old, new = sorted(read_runs(run.parent), key=lambda one: one.label)
    differing = {key for key in {*old.facts, *new.facts} if old.facts.get(key) != new.facts.get(key)}
    assert {key for key in differing if not key.endswith("_target_")} == {"seed"}
    assert find_axes([old, new]) == []
