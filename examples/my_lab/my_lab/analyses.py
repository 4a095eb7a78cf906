"""An analysis with a figure: are a few sentences the nearest neighbours of many others?

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
    """Count how often each sentence is the nearest neighbour of others.

    Args:
        longest: the last bar of the histogram. It also holds all larger counts.

    Source: Radovanović et al. 2010, Hubs in Space.
    """

    name = "hubness"

    def __init__(self, longest: int) -> None:
        self.longest = longest

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Find the nearest neighbour of every sentence by cosine.

        Returns:
            `orphans`, the share of sentences that are nobody's nearest neighbour; `largest_hub`, the largest count; and
            `histogram`, the number of sentences by count, `longest` + 1 numbers.
        """
        unit_NH = F.normalize(embed(list(dict.fromkeys(task.sentences()))), dim=1)
        nearest_N = (unit_NH @ unit_NH.T).fill_diagonal_(-torch.inf).argmax(1)
        count_N = nearest_N.bincount(minlength=len(unit_NH))
        histogram = count_N.clamp(max=self.longest).bincount(minlength=self.longest + 1)
        return {"orphans": (count_N == 0).float().mean(), "largest_hub": count_N.max(), "histogram": histogram}

    def draw(self, by_label: Mapping[str, Mapping[str, Any]], path: Path) -> None:
        """Draw the histograms of all encoders side by side, and save the figure."""
        figure = canvas(7, 4)
        axis = figure.subplots()
        width = 0.8 / len(by_label)
        for number, (label, found) in enumerate(by_label.items()):
            places = [place + (number + 0.5) * width - 0.4 for place in range(len(found["histogram"]))]
            axis.bar(places, found["histogram"], width, label=f"{label}: {found['orphans']:.0%} orphans")
        axis.set(xlabel="sentences whose nearest neighbour it is (last bar: or more)", ylabel="sentences", title="Hubness")
        axis.legend()
        save(figure, path)
