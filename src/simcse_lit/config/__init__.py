"""The typed schema of `conf/`, its resolvers, and checks with messages. Imports nothing heavier than OmegaConf."""

from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from simcse_lit.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries conf/ inside the package; a checkout keeps it at the top level.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"


EXTENSIONS = "simcse_lit.conf"  # the entry points by which installed packages bring configuration files


@cache
def extension_dirs() -> tuple[Path, ...]:
    """The folders of configuration files that installed packages bring.

    Raises:
        UserError: a package names a folder that is not there.
    """
    found = []
    for entry in sorted(entry_points(group=EXTENSIONS)):
        try:
            spec = find_spec(entry.value)
        except ImportError:
            spec = None
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            package = entry.dist.name if entry.dist else entry.name
            raise UserError(
                f"{package}: its entry point {EXTENSIONS}={entry.value} names no folder of a package. Uninstall it."
            )
        found.append(Path(places[0]))
    return tuple(found)


def options(group: str) -> tuple[str, ...]:
    """The options of a group: the files of `conf/GROUP/` and of extensions, but for the one that others build on."""
    files = (file for folder in (CONF_DIR, *extension_dirs()) for file in (folder / group).glob("*.yaml"))
    return tuple(sorted({file.stem for file in files} - {"default"}))
