"""What Hubness finds in four vectors, and that it draws them."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from my_lab.analyses import Hubness
from torch import Tensor


def test_one_sentence_is_the_nearest_of_all_others(tmp_path: Path) -> None:
    vectors = {"hub": [1.0, 1.0, 1.0], "x": [1.0, 0.0, 0.0], "y": [0.0, 1.0, 0.0], "z": [0.0, 0.0, 1.0]}

    def embed(sentences: Sequence[str]) -> Tensor:
        return torch.tensor([vectors[sentence] for sentence in sentences])

    hubness = Hubness(longest=5)
    found = hubness.compute(SimpleNamespace(sentences=lambda: list(vectors)), embed)
    assert (found["orphans"], found["largest_hub"]) == (0.5, 3)  # the hub's own nearest is one of x, y and z
    assert found["histogram"].tolist() == [2, 1, 0, 1, 0, 0]
    hubness.draw({"random": found}, tmp_path / "hubness.png")
    assert (tmp_path / "hubness.png").stat().st_size > 0
