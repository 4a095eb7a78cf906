"""Hydra finds plugins in the namespace `hydra_plugins` alone, and instantiates none that is not defined there."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from simcse_lit.config import extension_dirs


class Extensions(SearchPathPlugin):
    """Lets Hydra find the configuration files that installed packages bring."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add their folders behind ours."""
        for folder in extension_dirs():
            search_path.append("simcse-lit-extension", f"file://{folder}")
