"""Losses that are options of InfoNCE alone. `tests/objective/` compares these options with loops."""

from typing import Any

import pytest

from simcse_lit.objective.masks import Duplicates
from simcse_lit.training.build import build_objective
from tests.conftest import train_config

NAMED: dict[str, dict[str, Any]] = {
    "symmetric": {"directions": "both", "fixed_temperature": 0.05},
    "learned_temperature": {"fixed_temperature": 0.07},
    "supcon": {"targets": "labels", "own_view": True, "directions": "both", "fixed_temperature": 0.07},
    "no_duplicates": {"fixed_temperature": 0.05},
}
USUAL = {"targets": "diagonal", "own_view": False, "directions": "rows", "denominator": "all", "positive": None}


@pytest.mark.parametrize("name", NAMED)
def test_the_loss_of_that_name_is_infonce_with_these_options(name: str) -> None:
    data = ["data.train_file=topics.csv"] if name == "supcon" else []
    config = train_config(f"loss={name}", "model=tiny", *data)
    term: Any = build_objective(config).terms["contrastive"]
    expected = {**USUAL, **NAMED[name]}
    assert {option: getattr(term, option) for option in expected} == expected
    assert (term.log_scale is not None) == (name == "learned_temperature")
    assert [type(mask) for mask in term.masks.values()] == ([Duplicates] if name == "no_duplicates" else [])
    assert config.data.columns == (["sent0", "sent1", "hard_neg"] if name == "no_duplicates" else ["text"])
    assert config.data.labels == ("label" if name == "supcon" else None)
