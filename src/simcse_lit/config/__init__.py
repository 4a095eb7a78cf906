"""The typed schema of `conf/`, its resolvers, and checks with messages. Imports nothing heavier than OmegaConf."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries conf/ inside the package; a checkout keeps it at the top level.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"


def options(group: str) -> tuple[str, ...]:
    """The options of a group: the files of `conf/GROUP/`, but for the one that others build on."""
    return tuple(sorted(file.stem for file in (CONF_DIR / group).glob("*.yaml") if file.stem != "default"))
