"""Old paths of modules: each leads to what is there now, and a user who types one is told."""

from importlib import import_module
from pathlib import Path

import pytest

from simcse_lit.config.moved import MOVED, path_now, targets_now
from simcse_lit.errors import UserError
from tests.conftest import train_config


@pytest.mark.parametrize("old", MOVED)
def test_what_an_old_path_leads_to_is_there(old: str) -> None:
    new = MOVED[old]
    module, _, name = new.rpartition(".")
    if name[0].isupper() or module == "simcse_lit.distributed":
        assert hasattr(import_module(module), name)
    else:
        import_module(new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("simcse_lit.model.callbacks.Throughput", "simcse_lit.training.callbacks.Throughput"),
        ("simcse_lit.objective.gather.world", "simcse_lit.distributed.world"),
        ("simcse_lit.objective.gather.gather_rows", "simcse_lit.objective.gather.gather_rows"),
        ("simcse_lit.inference.server.app.create_app", "simcse_lit.server.app.create_app"),
        ("simcse_lit.model.callbacksofmine.X", "simcse_lit.model.callbacksofmine.X"),
        ("torch.optim.AdamW", "torch.optim.AdamW"),
    ],
)
def test_the_longest_name_that_fits_decides(old: str, new: str) -> None:
    assert path_now(old) == new


def test_every_target_of_a_configuration_is_brought_up_to_date() -> None:
    def of(target: str) -> dict[str, object]:
        return {"callbacks": {"a": {"_target_": target}}, "list": [{"_target_": target}, "x"], "n": 1}

    name = "simcse_lit.model.callbacks.FiniteLoss"
    assert targets_now({**of(name), "name": name}) == {**of("simcse_lit.training.callbacks.FiniteLoss"), "name": name}


def test_an_old_path_that_is_typed_is_answered_with_the_one_of_today() -> None:
    with pytest.raises(UserError) as told:
        train_config("model=tiny", "+callbacks.mine._target_=simcse_lit.model.callbacks.Throughput")
    assert str(told.value) == (
        "callbacks.mine._target_=simcse_lit.model.callbacks.Throughput: has moved. "
        "Write callbacks.mine._target_=simcse_lit.training.callbacks.Throughput"
    )


def test_conf_names_no_old_path() -> None:
    for file in Path("conf").rglob("*.yaml"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "_target_: simcse_lit" in line:
                target = line.split("_target_: ")[1].split()[0]
                assert path_now(target) == target, file
