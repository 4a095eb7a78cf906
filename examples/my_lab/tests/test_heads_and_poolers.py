"""The head and the pooler pass the checks that every head and pooler must pass."""

from simcse_lit.testing import check_head, check_pooler


def test_projector() -> None:
    check_head({"name": "projector", "_target_": "my_lab.heads.Projector", "when": "training", "wide": 48})


def test_weighted_layers() -> None:
    check_pooler({"name": "weighted_layers", "_target_": "my_lab.poolers.WeightedLayers", "last": 2})
