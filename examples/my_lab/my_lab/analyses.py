"""An analysis with a figure: whether few sentences are the nearest of many.

Shapes: N unique sentences, H numbers of a vector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Embed
from simcse_lit.reporting.run.figures import canvas, save


class Hubness:
    """How often each sentence is the nearest of others. Radovanović et al. 2010.

    Args:
        longest: the last place of the histogram; larger counts are added to it.
    """

    name = "hubness"

    def __init__(self, longest: int) -> None:
        self.longest = longest

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """The share of sentences that are nobody's nearest, the largest count, and sentences by count."""
        unit_NH = F.normalize(embed(list(dict.fromkeys(task.sentences()))), dim=1)
        nearest_N = (unit_NH @ unit_NH.T).fill_diagonal_(-torch.inf).argmax(1)
        count_N = nearest_N.bincount(minlength=len(unit_NH))
        histogram = count_N.clamp(max=self.longest).bincount(minlength=self.longest + 1)
        return {"orphans": (count_N == 0).float().mean(), "largest_hub": count_N.max(), "histogram": histogram}

    def draw(self, by_label: Mapping[str, Mapping[str, Any]], path: Path) -> None:
        """Draw the histograms of the encoders beside each other."""
        figure = canvas(7, 4)
        axis = figure.subplots()
        width = 0.8 / len(by_label)
        for number, (label, found) in enumerate(by_label.items()):
            places = [place + (number + 0.5) * width - 0.4 for place in range(len(found["histogram"]))]
            axis.bar(places, found["histogram"], width, label=f"{label}: {found['orphans']:.0%} orphans")
        axis.set(xlabel="sentences whose nearest one is (the last bar: or more)", ylabel="sentences", title="Hubness")
        axis.legend()
        save(figure, path)
