"""Create a W&B dashboard of a project: curves and scores.

Examples:
  simcse-lit dashboard ENTITY/PROJECT
  simcse-lit dashboard ENTITY/PROJECT --by loss.temperature

Needs wandb-workspaces (pip install 'simcse-lit[dashboard]') and a W&B login.
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("dashboard")

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import wandb

from simcse_lit.errors import UserError
from simcse_lit.reporting.keys import CURVES

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

SCORES = ("test/Avg.", "test/STS-B", "test/SICK-R", "test/Avg. transfer")


def main(project: str, by: str | None, dry_run: bool) -> None:
    """Build the dashboard of ENTITY/PROJECT and send it; with `dry_run` print its contents instead.

    Raises:
        UserError: as for `build` and `send`.
    """
    workspace = build(project, by)
    if dry_run:
        for section in workspace.sections:
            print(f"{section.name}: {len(section.panels)} panels")
    else:
        print(send(workspace))


def build(project: str, by: str | None = None) -> "Workspace":
    """Build a dashboard with curves of learning, optimisation and speed, scores, and figures.

    Curves show mean and standard deviation of each group of runs. A group is a sweep, or with `by` the runs with the same
    value of that key.

    Args:
        project: ENTITY/PROJECT.
        by: dotted key of the configuration, or None.

    Raises:
        UserError: the project has another form, or wandb-workspaces is not installed.
    """
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise UserError(f"{project}: must be ENTITY/PROJECT, as in the address of the project's page.")
    if find_spec("wandb_workspaces") is None:
        raise UserError(
            "dashboard: needs wandb-workspaces, which is not installed. Install it with: pip install 'simcse-lit[dashboard]'"
        )
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    group: dict[str, Any] = {"groupby": panels.Config(by) if by else panels.Metric("Group"), "groupby_rangefunc": "stddev"}
    plots: dict[str, list[Any]] = {}
    for key, curve in CURVES.items():
        if curve.section:
            logged = "lr-AdamW" if key == "lr" else key
            plot = panels.LinePlot(title=logged, x="trainer/global_step", y=[logged], **group)
            plots.setdefault(curve.section, []).append(plot)
    sections = [ws.Section(name=title, panels=some, is_open=title == "Learning") for title, some in plots.items()]
    bars = [panels.BarPlot(title=score, metrics=[score], **group) for score in SCORES]
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
    if not wandb.login(prompt=False, verify=False):  # type: ignore[call-arg, unused-ignore]
        raise UserError("dashboard: no API key. Log in with: wandb login")
    workspace.save()
    return str(workspace.url)
