"""Lightning's Trainer as `conf/` builds it."""

from typing import Any

import pytest
import pytorch_lightning as pl

from simcse_lit.errors import UserError
from simcse_lit.training.trainer import build_trainer
from tests.conftest import train_config

HARMLESS = {"enable_model_summary"}


def test_nothing_that_the_trainer_is_given_can_be_replaced_by_way_of_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(pl, "Trainer", lambda **arguments: given.update(arguments))
    build_trainer(train_config("model=tiny", "trainer=cpu"), [])
    assert len(given) > 15
    for key in given.keys() - HARMLESS:
        with pytest.raises(UserError, match=rf"trainer\.extra\.{key}:"):
            train_config("model=tiny", f"+trainer.extra.{key}=1")
