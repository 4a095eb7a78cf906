"""Hydra finds plugins only in the namespace `hydra_plugins`, and uses only classes that are defined there."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from simcse_lit.config import extension_dirs


class Extensions(SearchPathPlugin):
    """Lets Hydra find the configuration files of installed packages."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append their folders to the search path."""
        for folder in extension_dirs():
            search_path.append("simcse-lit-extension", f"file://{folder}")
