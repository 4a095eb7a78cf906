"""python -m simcse_lit.dashboard ENTITY/PROJECT: the project's dashboard on W&B, a workspace of all curves and scores.

Built through W&B's public API (pip install 'simcse-lit[dashboard]'). Sending it needs a login.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from simcse_lit.errors import UserError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

CURVES = {
    "Learning": ("train/loss", "val/sts", "val/alignment", "val/uniformity"),
    "Optimisation": ("train/positive_cosine", "train/negative_cosine", "train/gradient_norm", "lr-AdamW"),
    "Speed": ("train/sentences_per_second",),
}
SCORES = ("test/Avg.", "test/STS-B", "test/SICK-R", "test/Avg. transfer")


def main(arguments: Sequence[str]) -> None:
    """Build the dashboard that the command line asks for, and send it."""
    parser = argparse.ArgumentParser(prog="python -m simcse_lit.dashboard", description="The project's dashboard on W&B.")
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where the runs are")
    parser.add_argument(
        "--by", metavar="KEY", help="key of the configuration whose values are compared, as loss.temperature"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it would hold, and send nothing")
    given = parser.parse_args(arguments)
    try:
        workspace = build(given.project, given.by)
        for section in workspace.sections if given.dry_run else ():
            print(f"{section.name}: {len(section.panels)} panels")
        if not given.dry_run:
            print(send(workspace))
    except UserError as error:
        print(f"\nError: {error}", file=sys.stderr)
        sys.exit(1)


def build(project: str, by: str | None = None) -> "Workspace":
    """The dashboard: a section of curves each for learning, optimisation and speed, one of scores, one of figures.

    Runs are grouped by their sweep, and curves show each group's mean and standard deviation; with `by`, the key's values
    are the groups.

    Args:
        project: ENTITY/PROJECT.
        by: dotted key of the configuration, or None.

    Raises:
        UserError: the project is not named so, or wandb-workspaces is not installed.
    """
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise UserError(f"{project}: must be ENTITY/PROJECT, as in the address of its page.")
    if find_spec("wandb_workspaces") is None:
        raise UserError("dashboard: needs wandb-workspaces. Install it with: pip install 'simcse-lit[dashboard]'")
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    group = panels.Config(by) if by else panels.Metric("Group")
    sections = []
    for title, names in CURVES.items():
        plots: list[Any] = [
            panels.LinePlot(title=curve, x="trainer/global_step", y=[curve], groupby=group, groupby_rangefunc="stddev")
            for curve in names
        ]
        sections.append(ws.Section(name=title, panels=plots, is_open=title == "Learning"))
    bars = [panels.BarPlot(title=score, metrics=[score], groupby=group, groupby_rangefunc="stddev") for score in SCORES]
    plane = panels.ScatterPlot(
        title="Alignment and uniformity",
        x=panels.SummaryMetric("val/uniformity"),
        y=panels.SummaryMetric("val/alignment"),
        z=panels.SummaryMetric("val/sts"),
    )
    sections.append(ws.Section(name="Scores", panels=[*bars, plane], is_open=True))
    figures = panels.MediaBrowser(media_keys=["figures/training_curve", "figures/alignment_uniformity"])
    sections.append(ws.Section(name="Figures", panels=[figures]))
    runs = ws.RunsetSettings(groupby=[ws.Config(by) if by else ws.Metric("Group")])
    return ws.Workspace(name="simcse-lit", entity=entity, project=name, sections=sections, runset_settings=runs)


def send(workspace: "Workspace") -> str:
    """Save the dashboard on W&B's server and return its address.

    Raises:
        UserError: there is no login.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):  # type: ignore[call-arg, unused-ignore]
        raise UserError("dashboard: no API key. Log in with: wandb login")
    workspace.save()
    return str(workspace.url)


if __name__ == "__main__":
    main(sys.argv[1:])
