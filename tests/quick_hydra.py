"""Makes Hydra compose in less than half the time, with the same result: tests compose hundreds of times.

What a command does without this is tested by those that `conftest.cli` starts.
"""

import copy
import pickle
from functools import cache, partial
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal import config_repository, defaults_list
from hydra.core import default_element

from simcse_lit.cli.verbs import COMPOSED
from simcse_lit.config import CONF_DIR, resolvers, schema

OURS = {"hydra.conf", str(CONF_DIR), ""}  # where Hydra looks, unless a command names a folder of its own


def quicken_hydra() -> None:
    """Register schema and resolvers, and change Hydra in this process."""
    schema.register()
    resolvers.register()
    _keep_parsed_files()
    _share_sources()
    _resolve_choices_lazily()


def read_all_verbs() -> None:
    """Compose the defaults of every verb, for processes that are forked from this one."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for verb in COMPOSED:
            compose(verb)


def _keep_parsed_files() -> None:
    """Parse a file once a process; where a folder of a user's own is searched, everything is read anew."""
    read, parsed = config_repository.ConfigRepository.load_config, dict[tuple[str, ...], bytes]()

    def load_config(repository: Any, config_path: str) -> Any:
        searched = [source.path for source in repository.sources]
        if not OURS.issuperset(searched):
            return read(repository, config_path)
        place = (*searched, config_path)
        if place not in parsed:
            parsed[place] = pickle.dumps(read(repository, config_path))
        return pickle.loads(parsed[place])  # quicker than a deep copy

    _replace(config_repository.ConfigRepository, "load_config", load_config)


def _share_sources() -> None:
    """Copy the list of a repository's sources for each composition, and not the schema that one of them holds."""

    def initialise(repository: Any, delegate: Any) -> None:
        repository.delegate, repository.cache = copy.copy(delegate), {}

    _replace(config_repository.CachingConfigRepository, "__init__", initialise)


def _resolve_choices_lazily() -> None:
    """Work out what `${...}` of a defaults list may name only for a list that has one."""
    choices = defaults_list._create_interpolation_map
    resolve = default_element.InputDefault._resolve_interpolation_impl
    _replace(defaults_list, "_create_interpolation_map", lambda *arguments: cache(partial(choices, *arguments)))
    _replace(
        default_element.InputDefault, "_resolve_interpolation_impl", lambda self, known, text: resolve(self, known(), text)
    )


def _replace(owner: Any, name: str, function: Any) -> None:
    setattr(owner, name, function)  # mypy lets no method be assigned to
