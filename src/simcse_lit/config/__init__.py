"""Typed schema of `conf/`, its resolvers, and its checks. Imports nothing heavier than OmegaConf."""

import logging
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries conf/ inside the package; a checkout keeps it at the top level.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"


EXTENSIONS = "simcse_lit.conf"  # group of entry points: configuration folders of installed packages


@cache
def extension_dirs() -> tuple[Path, ...]:
    """Return the configuration folders that installed packages register.

    A package whose folder cannot be found is skipped with a warning.
    """
    found = []
    for entry in sorted(entry_points(group=EXTENSIONS)):
        try:
            spec = find_spec(entry.value)
            found.append(Path(next(iter((spec and spec.submodule_search_locations) or ()))))
        except Exception as error:  # importing another package may raise anything
            package = entry.dist.name if entry.dist else entry.name
            reason = f": {error}" if str(error) else ""
            log.warning(
                "%s: its configuration options are not loaded: the entry point %s=%s names no folder of a package%s.",
                *(package, EXTENSIONS, entry.value, reason),
            )
    return tuple(found)


def options(group: str) -> tuple[str, ...]:
    """List the options of a group: files of `conf/GROUP/` and of extensions, without `default.yaml`."""
    files = (file for folder in (CONF_DIR, *extension_dirs()) for file in (folder / group).glob("*.yaml"))
    return tuple(sorted({file.stem for file in files} - {"default"}))
