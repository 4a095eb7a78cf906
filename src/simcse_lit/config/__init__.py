"""The typed schema of `conf/`, its resolvers, and validation with messages. Imports nothing heavier than OmegaConf."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries conf/ inside the package; a checkout keeps it at the top level.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
