"""Lets Hydra parse a file of `conf/` once a process: tests compose hundreds of times, and half of that is parsing."""

import pickle
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository

from simcse_lit.cli.verbs import COMPOSED
from simcse_lit.config import CONF_DIR, resolvers, schema

OURS = {"hydra.conf", str(CONF_DIR), ""}  # where Hydra looks, unless a command names a folder of its own


def parse_conf_once() -> None:
    """Register schema and resolvers, and keep what Hydra reads; with a folder of a user's own, everything is read anew."""
    schema.register()
    resolvers.register()
    read, parsed = ConfigRepository.load_config, dict[tuple[str, ...], bytes]()

    def load_config(repository: Any, config_path: str) -> Any:
        searched = [source.path for source in repository.sources]
        if not OURS.issuperset(searched):
            return read(repository, config_path)
        place = (*searched, config_path)
        if place not in parsed:
            parsed[place] = pickle.dumps(read(repository, config_path))
        return pickle.loads(parsed[place])  # quicker than a deep copy

    setattr(ConfigRepository, "load_config", load_config)  # noqa: B010  # mypy lets no method be assigned to


def read_all_verbs() -> None:
    """Compose the defaults of every verb, for processes that are forked from this one."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for verb in COMPOSED:
            compose(verb)
