"""Hydra finds plugins in the namespace `hydra_plugins` alone, and instantiates none that is not defined there."""

from simcse_lit.launch import launcher


class ProcessLauncher(launcher.ProcessLauncher):
    """See `simcse_lit.launch.launcher`."""
