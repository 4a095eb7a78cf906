"""Prints `simcse-lit VERB --help`: the docstring of the verb's file, its groups, and every key with its value.

Hydra's help copies its whole configuration for every group to list the options, which is slow.
"""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import OmegaConf

from simcse_lit.cli.verbs import COMPOSED, about
from simcse_lit.config import CONF_DIR, extension_dirs
from simcse_lit.config.as_typed import groups, quoted

PAGE = """\
{about}

== Groups: GROUP=OPTION ==
{groups}
== Keys and their values ==
{keys}
Override any key with KEY=VALUE.
Show the resulting configuration without running it: --cfg job.
A folder of your own configuration files: --config-dir DIR.
Hydra's options: --hydra-help."""


def asked_for(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for help."""
    return bool({"-h", "--help"} & set(arguments))


def show(verb: str, arguments: Sequence[str]) -> None:
    """Print the help of a verb, with the values that its overrides give.

    Args:
        verb: name of the verb.
        arguments: words of its command line.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    known, rest = parser.parse_known_args(arguments)
    own = [] if known.config_dir is None else [known.config_dir.absolute()]
    overrides = [argument for argument in rest if not argument.startswith("-")]
    overrides += [f"hydra.searchpath=[{quoted(f'file://{folder}')}]" for folder in own]
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(verb, overrides)
    page = PAGE.format(
        about=about(verb), groups=_groups(verb, [CONF_DIR, *extension_dirs(), *own]), keys=OmegaConf.to_yaml(composed)
    )
    try:
        print(page, flush=True)
    except BrokenPipeError:  # --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _groups(verb: str, folders: Sequence[Path]) -> str:
    """Return a paragraph of at most 80 columns for each group of a verb, with its options."""
    named = {each: groups(each) for each in COMPOSED}
    others = set().union(*named.values()) - named[verb]
    if verb not in ("train", "evaluate"):  # groups in no defaults list, such as sweep, belong to them
        others |= {file.parent.name for file in CONF_DIR.glob("*/*.yaml")} - named[verb]
    options: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group.partition("/")[0] not in (".", "hydra", *others):
                options.setdefault(group, set()).add(file.stem)
    lines = [f"{group}: {', '.join(sorted(names))}" for group, names in sorted(options.items())]
    wrapped = [textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False) for line in lines]
    return "".join(f"{line}\n" for line in wrapped)
