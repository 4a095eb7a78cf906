"""Hydra finds plugins only in the namespace `hydra_plugins`, and uses only classes that are defined there."""

from simcse_lit.launch import launcher


class ProcessLauncher(launcher.ProcessLauncher):
    """See `simcse_lit.launch.launcher`."""
